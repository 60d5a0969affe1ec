"""A folder opened for reading: what is looked at when, and what a file is mapped by."""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path

import numpy as np
import pytest
from small_dataset import npy, random_rows, write_dataset

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402

from sftprep.dataset.manifest import FileEntry  # noqa: E402
from sftprep.errors import DatasetError  # noqa: E402
from sftprep.reader import ShardDataset  # noqa: E402
from sftprep.reader.opened import map_without_descriptor  # noqa: E402

LENGTH = 17


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_dataset(tmp_path, [random_rows(np.random.default_rng(0), 3, 20)] * 2, max_length=LENGTH)
    return tmp_path


def test_a_file_that_is_not_there(folder: Path) -> None:
    for name in [*ShardDataset(folder).manifest.files, "manifest.json"]:
        data = (folder / name).read_bytes()
        (folder / name).unlink()
        with pytest.raises(DatasetError, match=f"{name}: missing"):
            ShardDataset(folder)
        (folder / name).write_bytes(data)


def test_a_link_in_place_of_a_file(folder: Path) -> None:
    (folder / "shard-00001.Y.npy").rename(folder / "elsewhere")
    (folder / "shard-00001.Y.npy").symlink_to("elsewhere")
    with pytest.raises(DatasetError, match=r"shard-00001\.Y\.npy: a symbolic link"):
        ShardDataset(folder)


def test_damage_after_opening_is_found_when_a_worker_maps_the_shard(folder: Path) -> None:
    dataset = ShardDataset(folder)
    os.truncate(folder / "shard-00000.Y.npy", 200)
    with pytest.raises(DatasetError, match=r"shard-00000\.Y\.npy: 200 bytes"):
        list(DataLoader(dataset, num_workers=1, multiprocessing_context="spawn"))


def test_a_damaged_header_is_found_when_its_shard_is_read(folder: Path) -> None:
    path = folder / "shard-00001.mask.npy"
    path.write_bytes(path.read_bytes().replace(b"|b1", b"|O1"))
    dataset = ShardDataset(folder)
    assert dataset[:3][0].shape == (3, LENGTH - 1)
    for index in (3, slice(2, 4)):
        with pytest.raises(DatasetError, match=r"shard-00001\.mask\.npy: header"):
            dataset[index]


@pytest.mark.parametrize("kind", ["bool", "float32"])
def test_a_mask_whose_size_does_not_tell_its_kind(tmp_path: Path, kind: str) -> None:
    """Another program may leave more room in the header."""
    rows = random_rows(np.random.default_rng(0), 3, 20)
    manifest = write_dataset(tmp_path, [rows], max_length=LENGTH, mask_dtypes=[kind])
    name = "shard-00000.mask.npy"
    data = (tmp_path / name).read_bytes()
    longer = data[:8] + (118 + 64).to_bytes(2, "little") + data[10:127] + b" " * 64 + data[127:]
    (tmp_path / name).write_bytes(longer)
    files = {**manifest.files, name: FileEntry(len(longer), "0" * 64)}
    (tmp_path / "manifest.json").write_bytes(dataclasses.replace(manifest, files=files).to_bytes())
    mask = ShardDataset(tmp_path)[:][2]
    assert mask.dtype == (torch.int64 if kind == "bool" else torch.float32)
    assert np.array_equal(mask, np.load(tmp_path / name))


def test_a_map_holds_no_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    with path.open("rb") as file:
        mapped = memoryview(map_without_descriptor(file, 100))
        held = os.dup(file.fileno())
    os.close(held)
    assert bytes(mapped) == bytes(range(100))
    assert mapped.readonly
    again = os.dup(0)
    os.close(again)
    assert again == held - 1  # the file's own number is free


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="mmap itself keeps none")
def test_where_open_files_have_no_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("unable to open file </dev/fd/3>")

    path = tmp_path / "file"
    path.write_bytes(bytes(range(100)))
    monkeypatch.setattr(torch, "from_file", refuse)
    with path.open("rb") as file:
        assert bytes(map_without_descriptor(file, 100)) == bytes(range(100))
        with pytest.raises(ValueError):
            map_without_descriptor(file, 101)


def test_a_file_that_shrank_meanwhile(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(npy(np.arange(10)))
    with path.open("rb") as file, pytest.raises(ValueError):
        map_without_descriptor(file, path.stat().st_size + 1)
