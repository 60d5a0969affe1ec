"""What is counted, against the arrays and the records themselves."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_builds import GOOD, build, rejects, write
from small_dataset import rewrite
from statistics_build import KINDS, LENGTH, Mixed

from sftprep.dataset.manifest import load_manifest
from sftprep.errors import DatasetError
from sftprep.statistics import gather
from sftprep.statistics.distribution import Distribution
from sftprep.statistics.gather import statistics_of
from sftprep.statistics.measures import Measures
from sftprep.unread import OTHERS


class Row(NamedTuple):
    """A conversation as it stands in the arrays."""

    set: str
    source: str
    line: int
    tokens: int
    trained: int


def rows_of(folder: Path) -> Iterator[Row]:
    """All of a padded dataset. Of the provenance nothing is read but the place."""
    manifest = load_manifest(folder)
    for shard in manifest.shards:
        mask, segments = (np.load(folder / f"{shard.name}.{kind}.npy") for kind in ("mask", "segments"))
        places = pq.read_table(folder / shard.provenance, columns=["source", "line"]).to_pylist()
        for place, row, segment in zip(places, mask, segments, strict=True):
            yield Row(shard.set, place["source"], place["line"], int(segment[2]) + 1, int(np.count_nonzero(row)))


def listed(found: Distribution) -> list[int]:
    return np.repeat(found.values, found.counts).tolist()


def check(found: Measures, rows: list[Row], built: Mixed) -> None:
    """Each number anew, in plain Python."""
    whole = {(row.source, row.line): row.tokens for row in rows_of(built.whole)}
    records = [built.records[row.source, row.line] for row in rows]
    lengths = [whole[row.source, row.line] for row in rows]
    assert (found.conversations, found.examples) == (len(rows), len(rows))
    assert (found.tokens, found.trained_tokens) == (sum(row.tokens for row in rows), sum(row.trained for row in rows))
    assert listed(found.lengths) == sorted(lengths)
    assert found.truncated == sum(length > LENGTH for length in lengths)
    turns = [sum(message["role"] == "assistant" for message in record["messages"]) for record in records]
    assert listed(found.turns) == sorted(turns)
    calls = [any("tool_calls" in message for message in record["messages"]) for record in records]
    assert found.tools == sum(bool(record.get("tools")) or call for record, call in zip(records, calls, strict=True))


def test_each_part_against_arrays_and_records(built: Mixed) -> None:
    found, rows = statistics_of(built.folder), list(rows_of(built.folder))
    check(found.whole, rows, built)
    assert 0 < found.whole.truncated < len(rows)
    assert [*found.sets] == ["train", "validation"]
    for name, part in found.sets.items():
        check(part, [row for row in rows if row.set == name], built)
    assert {*found.sources} == {"a.jsonl", "b.jsonl"}
    for name, part in found.sources.items():
        check(part, [row for row in rows if row.source == name], built)
    assert (found.by, {*found.groups}) == ("kind", {*KINDS})
    for name, part in found.groups.items():
        check(part, [row for row in rows if built.records[row.source, row.line]["kind"] == name], built)
    for parts in (found.sources, found.groups):
        assert [part.tokens for part in parts.values()] == sorted(
            (part.tokens for part in parts.values()), reverse=True
        )


def test_what_is_in_no_shard(built: Mixed) -> None:
    found, lost = statistics_of(built.folder), rejects(built.folder)
    assert {each["kind"] for each in lost} == {"rejected", "dropped"}
    for kind in ("rejected", "dropped"):
        assert found.whole.lost_as(kind) == sum(each["kind"] == kind for each in lost)
        for name, part in found.sources.items():
            assert part.lost_as(kind) == sum(each["kind"] == kind and each["source"] == name for each in lost)
        for name, part in found.groups.items():
            assert part.lost_as(kind) == sum(each["kind"] == kind and each.get("group") == name for each in lost)
    kept = {(row.source, row.line) for row in rows_of(built.folder)}
    gone = [row.tokens for row in rows_of(built.whole) if row.trained and (row.source, row.line) not in kept]
    assert listed(found.too_long) == sorted(gone)
    assert len(gone) == found.whole.lost_as("dropped") - 1  # one has nothing to train


def test_padding(built: Mixed) -> None:
    found, manifest = statistics_of(built.folder).padding, load_manifest(built.folder)
    paths = [path for kind in ["X", "Y", "mask"] for path in built.folder.glob(f"*.{kind}.npy")]
    assert found.bytes == sum(path.stat().st_size for path in paths)
    x = [np.load(path) for path in built.folder.glob("*.X.npy")]
    assert (found.rows, found.places) == (sum(map(len, x)), sum(each.size for each in x))
    assert found.filled == sum(row.tokens - 1 for row in rows_of(built.folder))
    assert found.packed_rows is not None
    assert found.filled / manifest.width <= found.packed_rows < found.rows


def test_of_very_many_names_some_are_told_apart(built: Mixed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gather, "MOST_NAMED", 1)
    monkeypatch.setattr(gather, "_TOGETHER", 2)
    found = statistics_of(built.folder)
    assert [*found.sources] == ["a.jsonl", OTHERS]  # which has most records
    assert len(found.groups) == 2
    assert [*found.groups][-1] == OTHERS
    for parts in (found.sources, found.groups):
        assert sum(part.tokens for part in parts.values()) == found.whole.tokens
        assert listed(Distribution.joined(part.lengths for part in parts.values())) == listed(found.whole.lengths)


def test_a_conversation_of_several_examples_is_one(tmp_path: Path) -> None:
    """Of examples in any order, as some layouts have them."""
    template = (
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if loop.last and m.reasoning_content %}"
        "<{{ m.reasoning_content }}>{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    thinks = {"messages": [GOOD["messages"][0], {**GOOD["messages"][1], "reasoning_content": "Hm."}] * 3}
    source = write(tmp_path / "a.jsonl", thinks, GOOD, thinks)
    build(tmp_path / "out", source, chat_template=template, contexts="served")
    found = statistics_of(tmp_path / "out").whole
    assert (found.conversations, found.examples, found.reasoning) == (3, 7, 6)
    assert listed(found.turns) == [1, 1, 1, 2, 2, 3, 3]
    offsets, sources = np.array([5, 0, 5, 5, 0]), np.array([0, 0, 0, 1, 0], np.int32)
    assert gather._firsts(offsets, sources).tolist() == [True, True, False, True, False]


def test_damage_is_named(tmp_path: Path) -> None:
    manifest = build(tmp_path / "out", write(tmp_path / "a.jsonl", GOOD))
    rewrite(tmp_path / "out", manifest, "shard-00000.provenance.parquet", b"PAR1" * 9)
    with pytest.raises(DatasetError, match=r"shard-00000\.provenance\.parquet: not a readable"):
        statistics_of(tmp_path / "out")
    with pytest.raises(DatasetError, match=r"manifest\.json: missing"):
        statistics_of(tmp_path)


def test_progress_is_told_of_each_shard(built: Mixed) -> None:
    told: list[int] = []
    statistics_of(built.folder, told.append)
    assert told == [1] * len(load_manifest(built.folder).shards)
