"""Reasons are counted, the commonest first, each with one place."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.dataset.rejects import ReasonCount, RejectLine, count_reasons, read_rejects, rejected_at
from sftprep.errors import DatasetError

REASONS = [
    "not JSON: unexpected character at character 17",
    "messages[3]: role 'bot'",
    "prompt longer than 1,024 tokens",
]


def line(number: int, kind: str, reason: str) -> str:
    stated = {"source": "a.jsonl", "line": number, "byte_offset": 0, "kind": kind, "reason": reason}
    return json.dumps(stated) + "\n"


def test_reasons_that_differ_in_numbers_are_one(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    path.write_text(
        line(3, "rejected", "messages[3]: role 'bot'")
        + line(4, "dropped", "prompt longer than 1,024 tokens")
        + line(9, "rejected", "messages[12]: role 'bot'")
    )
    assert count_reasons(path) == [
        ReasonCount("rejected", "messages[3]: role 'bot'", 2, "a.jsonl:3"),
        ReasonCount("dropped", "prompt longer than 1,024 tokens", 1, "a.jsonl:4"),
    ]


@given(st.lists(st.tuples(st.sampled_from(["rejected", "dropped"]), st.sampled_from(REASONS)), max_size=30))
def test_every_line_is_counted_once(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str]]) -> None:
    path = tmp_path_factory.mktemp("rejects") / "rejects.jsonl"
    path.write_text("".join(line(number, *row) for number, row in enumerate(rows, 1)))
    found = count_reasons(path)
    assert {(each.kind, each.reason): each.count for each in found} == Counter(rows)
    assert [each.count for each in found] == sorted((each.count for each in found), reverse=True)
    assert all(each.first == f"a.jsonl:{rows.index((each.kind, each.reason)) + 1}" for each in found)


@pytest.mark.parametrize(
    "data",
    [
        "{",
        "[]",
        "{}",
        line(2, "dropped", "x")[:-2] + ', "group": 3}',
        line(2, "x", "x")[:-2] + ', "tokens_in_all": ""}',
        '{"kind": 1}',
        '{"kind": "rejected", "reason": 3, "source": "a", "line": 1}',
    ],
)
def test_other_lines_are_an_error(tmp_path: Path, data: str) -> None:
    (tmp_path / "rejects.jsonl").write_text(line(1, "rejected", "x") + data + "\n")
    with pytest.raises(DatasetError, match="line 2"):
        count_reasons(tmp_path / "rejects.jsonl")


def test_lines_are_read_with_what_is_known_of_them(tmp_path: Path) -> None:
    path = tmp_path / "rejects.jsonl"
    path.write_text(line(3, "rejected", "x") + line(4, "dropped", "y")[:-2] + ', "group": "web", "tokens_in_all": 9}')
    assert list(read_rejects(path)) == [
        RejectLine("a.jsonl", 3, "rejected", "x", None, None),
        RejectLine("a.jsonl", 4, "dropped", "y", "web", 9),
    ]


def test_why_a_line_is_in_no_shard(tmp_path: Path) -> None:
    lines = [("a.jsonl", 1, "rejected", "one"), ("b.jsonl", 1, "dropped", "two"), ("b.jsonl", 11, "rejected", "three")]
    names = ("source", "line", "kind", "reason")
    path = tmp_path / "rejects.jsonl"
    path.write_text("".join(json.dumps(dict(zip(names, each, strict=True))) + "\n" for each in lines))
    assert rejected_at(path, ["b.jsonl"], 1) == "dropped: two"
    assert rejected_at(path, ["a.jsonl", "b.jsonl"], 11) == "rejected: three"
    assert rejected_at(path, ["a.jsonl"], 11) is rejected_at(path, [], 1) is None
