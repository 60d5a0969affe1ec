"""A dataset's examples, in order and by number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from small_dataset import npy, random_rows, rewrite, write_dataset

from sftprep.compare.examples import Examples
from sftprep.errors import DatasetError

LENGTH = 17


def test_in_order_and_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Read in several pieces; shards have different dtypes of mask."""
    monkeypatch.setattr("sftprep.layouts.unpack._PAIRS_AT_ONCE", 5 * (LENGTH - 1))
    rows = [*random_rows(np.random.default_rng(1), 22, LENGTH), ([7], [1])]
    write_dataset(tmp_path / "data", [rows[:9], rows[9:]], max_length=LENGTH, mask_dtypes=("bool", "float32"))
    side = Examples(tmp_path / "data")
    assert len(side) == 23
    expected = [(ids, [0, *mask[1:]]) for ids, mask in rows]
    parts = list(side.parts())
    assert [len(part.numbers) for part in parts] == [8, 1, 11, 3]
    assert [range(0, 9), range(9, 23)] == list(side.by_shard())
    found = [
        (part.ids[begin:end].tolist(), part.weights[begin:end].tolist())
        for part in parts
        for begin, end in zip(part.offsets, part.offsets[1:], strict=False)
    ]
    assert found == expected
    for number in (22, 0, 9, 8):
        each = side[number]
        assert (each.ids.tolist(), each.weights.tolist()) == expected[number]
        assert (each.row, each.line, each.source, each.set) == (number, number + 2, "a.jsonl", "train")


def test_trained_pads(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path / "data", [[([5, 6, 7], [0, 1, 1]), ([8, 9], [0, 1])]], max_length=6)
    mask = np.array([[1, 1, 0, 1, 1], [1, 0, 0, 0, 0]], np.bool_)
    rewrite(tmp_path / "data", manifest, "shard-00000.mask.npy", npy(mask))
    side = Examples(tmp_path / "data")
    (part,) = side.parts()
    assert [(e, pads.tolist()) for e, pads in side.trained_pads(part)] == [(0, [False, True, True])]


def test_segments_of_a_stranger(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path / "data", [random_rows(np.random.default_rng(1), 2, LENGTH)], max_length=LENGTH)
    rewrite(tmp_path / "data", manifest, "shard-00000.segments.npy", npy(np.array([[0, 0, 3], [7, 0, 99]])))
    with pytest.raises(DatasetError, match=r"shard-00000\.segments\.npy: segment 1 is not at the start"):
        list(Examples(tmp_path / "data").parts())
