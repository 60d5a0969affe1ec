"""A split's rows, written batch by batch."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_builds import GOOD, build, load, write

from sftprep.dataset.origins import Provenance, read_origins
from sftprep.dataset.receipt import Reject, ShardReceipt, Totals, read_receipt
from sftprep.dataset.shard_writer import Prepared, RowForm, ShardWriter, npy_header
from sftprep.dataset.verify import verify_dataset
from sftprep.layouts.types import Rows
from sftprep.unread import Unread


@pytest.mark.parametrize("first", [False, True])
def test_weights_widen_the_mask_of_their_shard(tmp_path: Path, first: bool) -> None:
    half = {"messages": [GOOD["messages"][0], {**GOOD["messages"][1], "weight": 0.5}]}
    # so many records before it, or behind it, that they are in another batch
    records = [half, *[GOOD] * 1500] if first else [*[GOOD] * 1500, half]
    manifest = build(tmp_path / "out", write(tmp_path / "a.jsonl", *records))
    mask = load(tmp_path / "out", "mask")
    mask = mask[::-1] if first else mask
    assert mask.dtype == np.float32
    assert set(np.unique(mask[:1500])) == {0.0, 1.0}
    assert set(np.unique(mask[1500])) == {0.0, 0.5}
    assert (mask[0] > 0).tolist() == (mask[1500] > 0).tolist()
    assert manifest.totals["trained_tokens"] == (mask > 0).sum()
    assert verify_dataset(tmp_path / "out") == []


NAMES = ["a.jsonl", "b.jsonl"]
FORM = RowForm("padded", 3, 0, np.dtype(np.uint16))
SHARDS = {"train": "shard-00007", "validation": "validation-00002"}


def batch(values: list[int], *, weights: bool = False, rejects: int = 0, of: str = "train") -> Prepared:
    """A row of three pairs for each value, all of it trained; so many records that gave none."""
    rows = np.array(values, np.uint16)[:, None] + np.arange(3, dtype=np.uint16)
    count = len(values)
    segments = np.stack([np.arange(count), np.zeros(count, int), np.full(count, 3)], axis=1)
    mask = np.full(rows.shape, 0.5, np.float32) if weights else np.ones(rows.shape, np.bool_)
    flags, kept = np.zeros(count, np.bool_), np.full(count, 4)
    laid_out = Rows(rows, rows + 1, mask, segments, np.arange(count), kept, np.full(count, 3), flags)
    places, counts = np.array(values, np.int64), kept.astype(np.int32)
    origin = (places % 2).astype(np.int32), places, places * 100
    provenance = Provenance(
        *origin, counts, counts, counts, flags, counts, *[flags] * 4, record_key=places, group=np.full(count, "")
    )
    lost = [Reject((1, 90 + number, 9000), "rejected", "no messages") for number in range(rejects)]
    totals = Totals(records=count + rejects, rows=count, rejected=rejects)
    return Prepared(laid_out, provenance, lost, totals, Unread(), 0, set=of, keys=bytearray(16 * count))


def publish(folder: Path, *batches: Prepared) -> ShardReceipt:
    for name in ("receipts", "rejects", "keys"):
        (folder / name).mkdir(parents=True)
    writer = ShardWriter(folder, 7, SHARDS, FORM, NAMES)
    for each in batches:
        writer.append(each)
        writer.end_batch()
    assert not list(folder.glob("shard*"))  # not before it is published
    receipt = writer.publish("ab" * 32)
    assert read_receipt(folder, 7, "ab" * 32) == receipt
    for path, facts in receipt.files(folder).items():
        data = path.read_bytes()
        assert facts == (len(data), hashlib.sha256(data).hexdigest())
    return receipt


def loaded(folder: Path, kind: str, shard: str = "shard-00007") -> np.ndarray:
    array: np.ndarray = np.load(folder / f"{shard}.{kind}.npy")
    return array


def test_batches_are_one_shard(tmp_path: Path) -> None:
    receipt = publish(tmp_path, batch([10, 20], rejects=1), batch([]), batch([30], rejects=1))
    assert loaded(tmp_path, "X").tolist() == [[10, 11, 12], [20, 21, 22], [30, 31, 32]]
    assert loaded(tmp_path, "Y").tolist() == [[11, 12, 13], [21, 22, 23], [31, 32, 33]]
    assert loaded(tmp_path, "segments").tolist() == [[0, 0, 3], [1, 0, 3], [2, 0, 3]]
    assert (loaded(tmp_path, "X").dtype, loaded(tmp_path, "mask").dtype) == (np.uint16, np.bool_)
    provenance = tmp_path / "shard-00007.provenance.parquet"
    origins = read_origins(provenance, provenance.stat().st_size, 3)
    assert (origins["source"].tolist(), origins["line"].tolist()) == (["a.jsonl"] * 3, [10, 20, 30])
    assert receipt.totals == Totals(records=5, rows=3, rejected=2)
    assert len((tmp_path / "rejects" / "00007.jsonl").read_bytes().splitlines()) == 2


@given(st.lists(st.tuples(st.lists(st.integers(0, 9), max_size=3), st.booleans()), max_size=4))
def test_a_mask_is_wide_once_a_batch_brings_weights(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[tuple[list[int], bool]]
) -> None:
    folder = tmp_path_factory.mktemp("shard")
    receipt = publish(folder, *(batch(values, weights=weights) for values, weights in drawn))
    oracle = [[0.5 if weights else 1.0] * 3 for values, weights in drawn for _ in values]
    assert ("shard-00007" in receipt.shards) == bool(oracle)
    if oracle:
        mask = loaded(folder, "mask")
        assert mask.tolist() == oracle
        assert mask.dtype == (np.float32 if [0.5] * 3 in oracle else np.bool_)


def test_a_split_of_rejects_alone_has_no_arrays(tmp_path: Path) -> None:
    assert publish(tmp_path, batch([], rejects=2)).files(tmp_path).keys() == {tmp_path / "rejects" / "00007.jsonl"}
    assert not list(tmp_path.glob("shard*"))


def test_each_set_is_a_shard(tmp_path: Path) -> None:
    """Rejects stand in the order of the input, whatever set their batch is of."""
    first, second = batch([10, 20], rejects=2), batch([30], rejects=1, of="validation", weights=True)
    first.rejects[:] = [reject._replace(place=(1, 90 + number, 9000)) for number, reject in enumerate(first.rejects)]
    second.rejects[:] = [reject._replace(place=(0, 7, 700)) for reject in second.rejects]
    writer = ShardWriter(tmp_path, 7, SHARDS, FORM, NAMES)
    for name in ("receipts", "rejects", "keys"):
        (tmp_path / name).mkdir()
    for each in (first, second):
        writer.append(each)
    writer.leave_out([Reject((0, 8, 800), "duplicate", "again", "a.jsonl:7")])
    writer.end_batch()
    receipt = writer.publish("ab" * 32)
    assert loaded(tmp_path, "X").tolist() == [[10, 11, 12], [20, 21, 22]]
    assert loaded(tmp_path, "mask").dtype == np.bool_
    assert loaded(tmp_path, "X", "validation-00002").tolist() == [[30, 31, 32]]
    assert loaded(tmp_path, "segments", "validation-00002").tolist() == [[0, 0, 3]]
    assert {name: part.totals["rows"] for name, part in receipt.shards.items()} == {
        "shard-00007": 2,
        "validation-00002": 1,
    }
    assert (tmp_path / "keys" / "shard-00007.keys").stat().st_size == 32
    assert receipt.totals == Totals(records=7, rows=3, rejected=3, duplicates=1)
    lines = [json.loads(line) for line in (tmp_path / "rejects" / "00007.jsonl").read_text().splitlines()]
    assert [(line["source"], line["line"]) for line in lines] == [
        ("a.jsonl", 7),
        ("a.jsonl", 8),
        ("b.jsonl", 90),
        ("b.jsonl", 91),
    ]


def test_what_is_given_up_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "keys").mkdir()
    writer = ShardWriter(tmp_path, 7, SHARDS, FORM, NAMES)
    writer.append(batch([1, 2], rejects=1))
    assert list(tmp_path.iterdir())
    writer.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["keys"]


@pytest.mark.parametrize("dtype", [np.bool_, np.uint16, np.float32])
def test_a_header_is_as_long_for_few_rows_as_for_many(dtype: type) -> None:
    heads = [npy_header((rows, 511), np.dtype(dtype)) for rows in (0, 1, 12_345, 10**15)]
    assert len({len(head) for head in heads}) == 1
    stream = io.BytesIO(heads[1] + bytes(511 * np.dtype(dtype).itemsize))
    array = np.load(stream)
    assert (array.shape, array.dtype) == ((1, 511), dtype)
