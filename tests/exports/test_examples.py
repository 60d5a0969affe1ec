"""Conversations come out of rows as they went in."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
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


def test_a_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in several pieces; what is trained of a first id is nobody's target."""
    rows = random_rows(np.random.default_rng(1), 23, LENGTH)
    write_dataset(tmp_path / "data", [rows[:9], rows[9:]], max_length=LENGTH, pad_id=3)
    monkeypatch.setattr("sftprep.layouts.unpack._PAIRS_AT_ONCE", 5 * (LENGTH - 1))
    counts: list[int] = []
    opened = OpenedRows(tmp_path / "data", counts.append)
    assert not opened.weighted
    pieces: list[Examples] = [each for shard in opened.manifest.shards for each in opened.examples(shard)]
    assert counts == [8, 1, 11, 3]
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
