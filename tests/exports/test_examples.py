"""Conversations come out of rows as they went in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_dataset import npy, random_rows, rewrite, write_dataset

from sftprep.errors import DatasetError
from sftprep.exports.examples import IGNORED, Examples, OpenedRows, examples_of

LENGTH = 17


def test_by_hand() -> None:
    """Two conversations in one row, one of a single token, and one that fills its row."""
    x = np.array([[5, 6, 7, 8, 0], [9, 0, 0, 0, 0], [1, 2, 3, 4, 5]], np.uint16)
    y = np.array([[6, 7, 8, 9, 0], [0, 0, 0, 0, 0], [2, 3, 4, 5, 6]], np.uint16)
    mask = np.array([[0, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]], np.bool_)
    segments = np.array([[0, 0, 2], [0, 3, 1], [1, 0, 0], [2, 0, 5]])
    found = examples_of(x, y, mask, segments)
    assert found.offsets.tolist() == [0, 3, 5, 11]
    assert found.ids.tolist() == [5, 6, 7, 8, 9, 1, 2, 3, 4, 5, 6]
    assert found.ids.dtype == np.uint16
    assert found.weights.tolist() == [False, False, True, False, False, False, False, False, False, False, True]
    assert found.labels().tolist() == [IGNORED, IGNORED, 7, *[IGNORED] * 7, 6]


@st.composite
def packed(draw: st.DrawFn) -> tuple[list[list[tuple[list[int], list[bool]]]], int]:
    """Rows of conversations, each (ids, mask) of two ids or more, and a width that holds the widest row."""
    ids = st.lists(st.integers(1, 60_000), min_size=2, max_size=6)
    one = ids.flatmap(
        lambda each: st.tuples(st.just(each), st.lists(st.booleans(), min_size=len(each), max_size=len(each)))
    )
    rows = draw(st.lists(st.lists(one, min_size=1, max_size=3), min_size=1, max_size=4))
    return rows, max(sum(len(each) - 1 for each, _ in row) for row in rows) + draw(st.integers(0, 3))


@given(packed())
def test_any_rows(case: tuple[list[list[tuple[list[int], list[bool]]]], int]) -> None:
    rows, width = case
    x, y = np.zeros((len(rows), width), np.uint16), np.zeros((len(rows), width), np.uint16)
    mask, segments = np.zeros((len(rows), width), np.bool_), []
    for r, row in enumerate(rows):
        start = 0
        for ids, trained in row:
            for t in range(len(ids) - 1):
                x[r, start + t], y[r, start + t], mask[r, start + t] = ids[t], ids[t + 1], trained[t + 1]
            segments.append((r, start, len(ids) - 1))
            start += len(ids) - 1
    found = examples_of(x, y, mask, np.array(segments))
    flat = [each for row in rows for each in row]
    assert len(found.offsets) == len(flat) + 1
    for (ids, trained), begin, end in zip(flat, found.offsets, found.offsets[1:], strict=False):
        assert found.ids[begin:end].tolist() == ids
        assert found.weights[begin:end].tolist() == [False, *trained[1:]]


def test_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in several pieces; what is trained of a first id is nobody's target."""
    rows = random_rows(np.random.default_rng(1), 23, LENGTH)
    write_dataset(tmp_path / "data", [rows[:9], rows[9:]], max_length=LENGTH, pad_id=3)
    monkeypatch.setattr("sftprep.exports.examples._PAIRS_AT_ONCE", 5 * (LENGTH - 1))
    counts: list[int] = []
    opened = OpenedRows(tmp_path / "data", counts.append)
    assert not opened.weighted
    pieces: list[Examples] = [each for shard in opened.manifest.shards for each in opened.examples(shard)]
    assert counts == [5, 4, 5, 5, 4]
    found = [
        (piece.ids[begin:end].tolist(), piece.weights[begin:end].tolist())
        for piece in pieces
        for begin, end in zip(piece.offsets, piece.offsets[1:], strict=False)
    ]
    assert found == [(ids, [0, *mask[1:]]) for ids, mask in rows]


def test_segments_of_a_stranger(tmp_path: Path) -> None:
    rows = random_rows(np.random.default_rng(1), 3, LENGTH)
    manifest = write_dataset(tmp_path / "data", [rows], max_length=LENGTH)
    rewrite(tmp_path / "data", manifest, "shard-00000.segments.npy", npy(np.array([[0, 0, 3], [7, 0, 3], [2, 0, 99]])))
    opened = OpenedRows(tmp_path / "data")
    with pytest.raises(DatasetError, match=r"shard-00000\.segments\.npy: segment 1 is not at the start of its row"):
        list(opened.examples(opened.manifest.shards[0]))
