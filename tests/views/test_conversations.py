"""Conversations out of rows: every id and its mask, and damage named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from small_dataset import npy, origins, parquet, rewrite, three_rows, write_dataset

from sftprep.errors import DatasetError
from sftprep.views.conversations import load_rows


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return three_rows(tmp_path)


def test_rows_give_every_id_and_its_mask(dataset: Path) -> None:
    [shown] = load_rows(dataset, [1])

    np.testing.assert_array_equal(shown.ids, [1, 2, 3, 5, 5])
    np.testing.assert_array_equal(shown.trained, [False, False, False, True, True])


@pytest.mark.parametrize(
    "segments", [[[0, 0, 5]], [[1, 0, 2]], [[-1, 0, 2]], [[0, 4, 0]], [[0, 2**62, 2**62]], [[0, -1, 2]], [[0, 0, -1]]]
)
def test_segments_outside_the_rows_are_refused(dataset: Path, segments: list[list[int]]) -> None:
    manifest = write_dataset(dataset, [[([1, 2], [0, 1])]], max_length=5)
    rewrite(dataset, manifest, "shard-00000.segments.npy", npy(np.array(segments)))

    with pytest.raises(DatasetError, match=r"shard-00000\.segments\.npy"):
        list(load_rows(dataset, [0]))


@pytest.mark.parametrize(
    "provenance",
    [
        b"PAR1 is not enough PAR1",
        parquet(origins(["a"]).drop_columns("truncated")),
        parquet(origins(["a", "b"])),
        parquet(origins(["a"]).set_column(1, "line", pa.array(["one"]))),
        parquet(origins(["a"]).set_column(1, "line", pa.nulls(1, pa.int64()))),
    ],
    ids=["not parquet", "column missing", "too many rows", "line is text", "line is null"],
)
def test_damaged_provenance_is_named(dataset: Path, provenance: bytes) -> None:
    manifest = write_dataset(dataset, [[([1, 2], [0, 1])]], max_length=5)
    rewrite(dataset, manifest, "shard-00000.provenance.parquet", provenance)

    with pytest.raises(DatasetError, match=r"shard-00000\.provenance\.parquet"):
        list(load_rows(dataset, [0]))
