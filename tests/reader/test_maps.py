"""Rows gathered over all shards at once, and the maps that they are gathered from."""

from __future__ import annotations

import gc
import subprocess
import sys
import weakref
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_dataset import random_rows, write_dataset

torch = pytest.importorskip("torch")

from sftprep.errors import StorageError  # noqa: E402
from sftprep.reader import ShardDataset, maps  # noqa: E402
from sftprep.reader.maps import Array, RowTable  # noqa: E402
from sftprep.reader.opened import OpenedFolder  # noqa: E402

SHARDS = (4, 1, 7, 3)
LENGTH = 9


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """The same rows with a plain mask, and with a mask of weights in some shards."""
    rows = [random_rows(np.random.default_rng(count), count, 12) for count in SHARDS]
    made = [tmp_path_factory.mktemp("rows") for _ in range(2)]
    for folder, kinds in zip(made, (["bool"] * 4, ["bool", "float32", "float32", "bool"]), strict=True):
        write_dataset(folder, rows, max_length=LENGTH, mask_dtypes=kinds)
    return made


def arrays(folder: Path) -> list[Array]:
    """X, Y, mask and segments of all shards, one after another."""
    kinds = ("X", "Y", "mask", "segments")
    return [np.concatenate([np.load(path) for path in sorted(folder.glob(f"*.{kind}.npy"))]) for kind in kinds]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("most", [10_000, 1])
@settings(max_examples=30)
@given(batches=st.lists(st.lists(st.integers(0, sum(SHARDS) - 1), max_size=12), max_size=4))
def test_rows_are_those_of_the_arrays(folders: list[Path], weighted: bool, most: int, batches: list[list[int]]) -> None:
    table = RowTable(OpenedFolder(folders[weighted], "train"), segments=True)
    table._most = most
    wanted = arrays(folders[weighted])
    for batch in batches:
        taken = table.take(np.array(batch, np.int64))
        assert all(np.array_equal(got, array[batch]) for got, array in zip(taken, wanted, strict=True))
        assert [each.dtype for each in taken] == [array.dtype for array in wanted]
        for place in batch:
            assert all(np.array_equal(got, array[place]) for got, array in zip(table.row(place), wanted, strict=True))


def test_places_and_shards(folders: list[Path]) -> None:
    table = RowTable(OpenedFolder(folders[0], "train"))
    ends = np.cumsum(SHARDS).tolist()
    assert [table.locate(place) for place in (0, 3, 4, 5, 14)] == [(0, 0), (0, 3), (1, 0), (2, 0), (3, 2)]
    assert table.starts.tolist() == [0, *ends]


def test_threads_share_a_table_that_keeps_one_shard(folders: list[Path]) -> None:
    table = RowTable(OpenedFolder(folders[0], "train"))
    table._most = 1  # every access of another shard lets go what another thread may be reading
    x = arrays(folders[0])[0]
    rng = np.random.default_rng(0)
    batches = [rng.integers(0, len(x), rng.integers(1, 6)) for _ in range(400)]
    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(lambda batch: np.array_equal(table.take(batch).x, x[batch]), batches))


def test_maps_are_let_go_where_the_system_gives_no_more(folders: list[Path]) -> None:
    class Scarce(OpenedFolder):
        """A system that gives a process two maps at a time."""

        def map_arrays(self, number: int, which: object) -> tuple[Array, ...]:
            if len(table._maps.arrays) == 2:
                raise StorageError("shard-00000.X.npy: Cannot allocate memory")
            return super().map_arrays(number, ("X", "Y", "mask"))

    table = RowTable(Scarce(folders[0], "train"))
    x = arrays(folders[0])[0]
    for place in (0, 4, 5, 12, 0):
        assert np.array_equal(table.row(place).x, x[place])


def test_a_dataset_that_is_deleted_is_gone(folders: list[Path]) -> None:
    gc.disable()
    try:
        dataset = ShardDataset(folders[0])
        dataset[[0, 14]]
        array = weakref.ref(dataset._table._maps.arrays[0][0])
        assert array() is not None
        del dataset
        assert array() is None
    finally:
        gc.enable()


def test_as_many_as_the_system_lets_map(monkeypatch: pytest.MonkeyPatch, folders: list[Path]) -> None:
    monkeypatch.setattr(maps, "most_maps", lambda: 2)
    assert RowTable(OpenedFolder(folders[0], "train"))._most == 1


def test_twenty_datasets_under_a_limit_of_256_descriptors(tmp_path: Path) -> None:
    """48 shards each, all of them mapped, and the descriptors are left to the trainer."""
    write_dataset(tmp_path, [[row] for row in random_rows(np.random.default_rng(0), 48, 20)], max_length=LENGTH)
    code = f"""
import os, resource
from sftprep.reader import ShardDataset
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
datasets = [ShardDataset({str(tmp_path)!r}, labels=number % 2 == 1) for number in range(20)]
for dataset in datasets:
    dataset[list(range(48))]
    assert len(dataset._table._maps.arrays) == 48
held = [os.dup(0) for _ in range(200)]
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
