"""Names that programs rely on."""

from __future__ import annotations

import json

from statistics_build import Mixed

from sftprep.statistics.gather import statistics_of
from sftprep.statistics.plain import as_plain

PART = "conversations examples tokens trained_tokens truncated features trained_share lengths turns rejected dropped duplicates rejects"
LENGTHS = "count mean min p1 p5 p25 p50 p75 p95 p99 max histogram"


def test_names(built: Mixed) -> None:
    found = statistics_of(built.folder)
    plain = json.loads(json.dumps(as_plain(found), allow_nan=False))
    assert [*plain] == (
        [
            "trained_share",
            "features",
            "lengths",
            "turns",
            "rejects",
            "sets",
            "sources",
            "by",
            "groups",
            "dropped_lengths",
            "padding",
            "advice",
        ]
    )
    assert [*plain["lengths"]] == [*plain["turns"]] == LENGTHS.split()
    assert [*plain["sets"]["train"]] == PART.split()
    for parts in (plain["sources"], plain["groups"]):
        assert all([*part] == ["name", *PART.split()] for part in parts)
    assert [part["name"] for part in plain["groups"]] == [*found.groups]
    assert {*plain["features"]} == {"tools", "reasoning", "forged", "other_context"}
    assert {*plain["padding"]} == {"rows", "places", "filled", "bytes", "packed_rows", "share"}
    assert [{*each} for each in plain["advice"]] == [{"kind", "what", "option"}] * len(found.advice)
    assert {*plain["rejects"][0]} == {"kind", "reason", "count", "first"}


def test_a_histogram_holds_all(built: Mixed) -> None:
    lengths = as_plain(statistics_of(built.folder))["lengths"]
    assert sum(each["count"] for each in lengths["histogram"]) == lengths["count"]
    first, last = lengths["histogram"][0], lengths["histogram"][-1]
    assert first["from"] <= lengths["min"] <= first["to"]
    assert last["from"] <= lengths["max"] <= last["to"]
