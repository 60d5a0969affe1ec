"""Checks of a dataset on disk: sound ones pass, and whatever is wrong is found and named."""

from __future__ import annotations

import json
import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_dataset import npy, parquet, random_rows, rewrite, signed, write_dataset

from sftprep.dataset.manifest import Manifest
from sftprep.dataset.verify import Problem, verify_dataset
from sftprep.errors import DatasetError
from sftprep.reader.dataset import ShardDataset

# All 10,000 flips take half a minute where nothing else runs; a tenth of them does for every day.
FLIPS = int(os.environ.get("SFTPREP_FLIPS", "150"))
WIDTH = 8


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Manifest]:
    rng = np.random.default_rng(0)
    shards = [[([5, 6, 7, 8], [0, 0, 1, 1]), *random_rows(rng, 5, 12)], random_rows(rng, 4, 12)]
    folder = tmp_path / "data"
    return folder, write_dataset(folder, shards, max_length=WIDTH + 1, mask_dtypes=["bool", "float32"])


def files_of(problems: list[Problem]) -> set[str]:
    return {problem.file for problem in problems}


def test_a_sound_dataset_has_no_problem(written: tuple[Path, Manifest]) -> None:
    folder, manifest = written
    hashed: list[int] = []
    assert verify_dataset(folder, progress=hashed.append) == []
    assert sum(hashed) == sum(entry.bytes for entry in manifest.files.values())
    assert verify_dataset(folder, fast=True) == []


@pytest.mark.parametrize("tokens", [1, 8, 9, 17, 10**6])
def test_rows_are_checked_whatever_the_size_of_a_block(
    written: tuple[Path, Manifest], monkeypatch: pytest.MonkeyPatch, tokens: int
) -> None:
    folder, manifest = written
    monkeypatch.setattr("sftprep.layouts.types._AT_ONCE", tokens)
    assert verify_dataset(folder) == []
    y = np.load(folder / "shard-00001.Y.npy")
    y[3, 0] += 1
    rewrite(folder, manifest, "shard-00001.Y.npy", npy(y))
    assert verify_dataset(folder) == [
        Problem("shard-00001.Y.npy", "row 3, column 0: is not the token that follows in X")
    ]


def test_every_wrong_file_is_named(written: tuple[Path, Manifest]) -> None:
    folder, _ = written
    (folder / "shard-00000.X.npy").unlink()
    os.truncate(folder / "shard-00000.provenance.parquet", 100)
    with (folder / "shard-00001.mask.npy").open("ab") as file:
        file.write(b"\0")
    (folder / "shard-00001.segments.npy").rename(folder / "shard-00002.segments.npy")
    (folder / "shard-00001.segments.npy").symlink_to("shard-00002.segments.npy")
    data = bytearray((folder / "rejects.jsonl").read_bytes())
    data[3] ^= 1
    (folder / "rejects.jsonl").write_bytes(data)
    wrong = {
        "shard-00000.X.npy": "missing",
        "shard-00000.provenance.parquet": "100 bytes; its manifest says",
        "shard-00001.mask.npy": "bytes; its manifest says",
        "shard-00001.segments.npy": "a symbolic link",
        "shard-00002.segments.npy": "not in the manifest",
        "rejects.jsonl": "sha256",
    }
    problems = verify_dataset(folder)
    assert len(problems) == len(wrong)
    for problem in problems:
        assert wrong[problem.file] in problem.what
        assert str(folder) not in problem.what
    assert files_of(verify_dataset(folder, fast=True)) == wrong.keys() - {"rejects.jsonl"}


def test_a_manifest_that_cannot_be_read_is_the_problem(tmp_path: Path) -> None:
    assert verify_dataset(tmp_path) == [Problem("manifest.json", "missing")]
    (tmp_path / "manifest.json").write_text("{")
    (problem,) = verify_dataset(tmp_path, fast=True)
    assert problem.file == "manifest.json"
    assert problem.what.startswith("not JSON")


def _change(kind: str, place: Any, value: Any) -> Callable[[Path, Manifest], None]:
    """Write `value` at `place` of the first shard's array `kind`, under a true hash."""

    def change(folder: Path, manifest: Manifest) -> None:
        name = f"shard-00000.{kind}.npy"
        array = np.load(folder / name)
        array[place] = value
        rewrite(folder, manifest, name, npy(array))

    return change


def _column(name: str, place: int, value: Any) -> Callable[[Path, Manifest], None]:
    def change(folder: Path, manifest: Manifest) -> None:
        file = "shard-00000.provenance.parquet"
        table = pq.read_table(folder / file)
        values = table[name].to_pylist()
        values[place] = value
        column = pa.array(values, table[name].type)
        rewrite(folder, manifest, file, parquet(table.set_column(table.column_names.index(name), name, column)))

    return change


def _table(change: Callable[[pa.Table], pa.Table]) -> Callable[[Path, Manifest], None]:
    def change_file(folder: Path, manifest: Manifest) -> None:
        file = "shard-00000.provenance.parquet"
        rewrite(folder, manifest, file, parquet(change(pq.read_table(folder / file))))

    return change_file


def _total(name: str) -> Callable[[Path, Manifest], None]:
    def change(folder: Path, manifest: Manifest) -> None:
        stated = json.loads(manifest.to_bytes())
        stated["totals"][name] += 1
        (folder / "manifest.json").write_bytes(signed(stated))

    return change


# Row 0 of shard 0 is the conversation 5 6 7 8, of which 7 and 8 are trained, and five pads.
@pytest.mark.parametrize(
    ("change", "file", "what"),
    [
        (_change("X", (0, 1), 9), "shard-00000.Y.npy", "row 0, column 0: is not the token that follows in X"),
        (_change("X", (0, 4), 9), "shard-00000.X.npy", "row 0, column 4: is not the pad id after the row's last token"),
        (_change("Y", (0, 2), 9), "shard-00000.Y.npy", "row 0, column 2: is not the token that follows in X"),
        (_change("Y", (0, 3), 9), "shard-00000.Y.npy", "row 0, column 3: is not the pad id after the last target"),
        (_change("Y", (0, 7), 9), "shard-00000.Y.npy", "row 0, column 7: is not the pad id"),
        (_change("mask", (0, 7), True), "shard-00000.mask.npy", "row 0, column 7: trains padding"),
        (_change("mask", (0, 0), True), "shard-00000.provenance.parquet", "segment 0: a trained count that is not"),
        (_change("segments", (1, 0), 0), "shard-00000.segments.npy", "segment 1 is not at the start of its row"),
        (_change("segments", (0, 1), 1), "shard-00000.segments.npy", "segment 0 is not at the start of its row"),
        (_change("segments", (2, 2), WIDTH + 1), "shard-00000.segments.npy", "segment 2 is not at the start"),
        (_change("segments", (2, 2), -1), "shard-00000.segments.npy", "segment 2 is not at the start"),
        (_change("segments", (0, 2), 4), "shard-00000.provenance.parquet", "segment 0: a token count that is not"),
        (_column("source", 1, "b.jsonl"), "shard-00000.provenance.parquet", "segment 1: a source that is not among"),
        (_column("source", 1, None), "shard-00000.provenance.parquet", "holds nulls"),
        (_column("line", 2, 0), "shard-00000.provenance.parquet", "segment 2: a line below 1"),
        (_column("byte_offset", 3, -1), "shard-00000.provenance.parquet", "segment 3: a negative byte offset"),
        (_column("tokens", 0, 5), "shard-00000.provenance.parquet", "segment 0: a token count that is not"),
        (_column("trained_tokens", 0, 3), "shard-00000.provenance.parquet", "segment 0: a trained count that is not"),
        (_column("truncated", 0, True), "shard-00000.provenance.parquet", "segment 0: truncated, but the row is not"),
        (_column("tokens_in_all", 0, 3), "shard-00000.provenance.parquet", "segment 0: cut off are more tokens than"),
        (_column("tokens_in_all", 0, 5), "shard-00000.provenance.parquet", "segment 0: truncated, or not, against"),
        (_column("turns", 2, -1), "shard-00000.provenance.parquet", "segment 2: a negative number of turns"),
        (_column("group", 3, "web"), "shard-00000.provenance.parquet", "segment 3: a group, but no --by"),
        (_table(lambda table: table.slice(1)), "shard-00000.provenance.parquet", "5 rows; the shard has 6 segments"),
        (_table(lambda table: table.drop_columns("line")), "shard-00000.provenance.parquet", "columns source, byte_"),
        (lambda f, m: rewrite(f, m, "shard-00000.provenance.parquet", b"PAR1" * 9), "shard-00000.provenance.parquet",
         "not a readable Parquet file"),
        (lambda f, m: rewrite(f, m, "rejects.jsonl", b""), "manifest.json", "totals: rejected 1; the files hold 0"),
        (_total("records"), "manifest.json", "totals: records 12; the files hold 11"),
        (_total("conversations"), "manifest.json", "totals: conversations 11; the files hold 10"),
        (_total("tokens"), "manifest.json", "totals: tokens"),
        (_total("trained_tokens"), "manifest.json", "totals: trained_tokens"),
        (_total("truncated"), "manifest.json", "totals: truncated"),
        (_total("rejected"), "manifest.json", "totals: rejected 2; the files hold 1"),
        (_total("rows"), "manifest.json", "totals: rows are not the sum of the shards' rows"),
        (lambda f, m: rewrite(f, m, "shard-00000.Y.npy", npy(np.zeros((6, WIDTH), np.int16))), "shard-00000.Y.npy",
         "header"),
        (lambda f, m: rewrite(f, m, "shard-00000.Y.npy", npy(np.zeros((6, WIDTH), object).astype(str))),
         "shard-00000.Y.npy", "header"),
    ],
)  # fmt: skip
def test_wrong_content_under_a_true_hash(
    written: tuple[Path, Manifest], change: Callable[[Path, Manifest], None], file: str, what: str
) -> None:
    folder, manifest = written
    change(folder, manifest)
    problems = verify_dataset(folder)
    assert any(problem.file == file and problem.what.startswith(what) for problem in problems), problems


@pytest.mark.parametrize("weight", [np.nan, np.inf, -1.0])
def test_a_mask_of_no_weights(written: tuple[Path, Manifest], weight: float) -> None:
    folder, manifest = written
    mask = np.load(folder / "shard-00001.mask.npy")
    mask[0, 0] = weight
    rewrite(folder, manifest, "shard-00001.mask.npy", npy(mask))
    assert Problem("shard-00001.mask.npy", "row 0, column 0: is no weight") in verify_dataset(folder)


@pytest.mark.parametrize("mask", ["scan", "minimind", "minimind-v5"])
def test_scans_may_train_padding(written: tuple[Path, Manifest], mask: str) -> None:
    folder, manifest = written
    _change("mask", (0, 7), True)(folder, manifest)
    stated = json.loads((folder / "manifest.json").read_bytes())
    stated["config"]["mask"] = mask
    (folder / "manifest.json").write_bytes(signed(stated))
    assert files_of(verify_dataset(folder)) == {"shard-00000.provenance.parquet"}  # which counts the trained


def test_every_flipped_bit_is_found_in_its_file(written: tuple[Path, Manifest]) -> None:
    folder, manifest = written
    rng = random.Random(3)
    contents = {name: (folder / name).read_bytes() for name in [*manifest.files, "manifest.json"]}
    bits = [len(data) * 8 for data in contents.values()]
    names = [*contents, *rng.choices(list(contents), bits, k=FLIPS)]
    for name in names:
        flipped = bytearray(contents[name])
        position = rng.randrange(len(flipped) * 8)
        flipped[position // 8] ^= 1 << position % 8
        (folder / name).write_bytes(flipped)
        assert files_of(verify_dataset(folder)) == {name}, position
        (folder / name).write_bytes(contents[name])
    assert set(names) == set(contents)
    assert verify_dataset(folder) == []


def test_truncated_and_longer_files_are_refused_at_opening(written: tuple[Path, Manifest]) -> None:
    folder, manifest = written
    for name in [*manifest.files, "manifest.json"]:
        data = (folder / name).read_bytes()
        points = {*(len(data) * point // 64 for point in range(64)), len(data) - 1}
        for changed in [*(data[:point] for point in points), data + b"\0", data + b"\n", data + data]:
            (folder / name).write_bytes(changed)
            with pytest.raises(DatasetError, match=name):
                ShardDataset(folder)
            assert files_of(verify_dataset(folder, fast=True)) == {name}
        (folder / name).write_bytes(data)
    assert len(ShardDataset(folder)) == 10


def test_a_file_of_right_size_and_wrong_header_is_refused_when_it_is_read(written: tuple[Path, Manifest]) -> None:
    folder, manifest = written
    for shard in manifest.shards:
        for name in manifest.arrays(shard):
            data = (folder / name).read_bytes()
            for position in range(128):
                changed = bytearray(data)
                changed[position] ^= 0x55
                (folder / name).write_bytes(changed)
                with pytest.raises(DatasetError, match=name):
                    _read_all(folder)
            (folder / name).write_bytes(data)


def _read_all(folder: Path) -> None:
    dataset = ShardDataset(folder)
    _ = dataset[:], dataset.lengths


def test_a_moved_dataset_is_the_same(written: tuple[Path, Manifest], tmp_path: Path) -> None:
    folder, _ = written
    shutil.copytree(folder, tmp_path / "copy")
    assert verify_dataset(tmp_path / "copy") == []
