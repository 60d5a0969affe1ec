"""What a split leaves when it is done, and what is no receipt."""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_values import ODD, changed, places

from sftprep.checksum import without_checksum
from sftprep.dataset.manifest import SET_TOTALS
from sftprep.dataset.receipt import (
    Reject,
    ShardPart,
    ShardReceipt,
    Totals,
    read_receipt,
    receipt_path,
    rejects_path,
    shard_file,
)
from sftprep.errors import StorageError
from sftprep.unread import Unread

FINGERPRINT = "ab" * 32
HELD = dict(zip(SET_TOTALS, range(6), strict=True))
PARTS = {
    "shard-00017": ShardPart({"X": (1000, "01" * 32), "provenance": (200, "23" * 32)}, HELD),
    "validation-00003": ShardPart({"keys": (32, "67" * 32)}, HELD),
}
TOTALS = Totals(records=9, rows=7, tokens=2**40)
RECEIPT = ShardReceipt(17, FINGERPRINT, PARTS, (10, "45" * 32), TOTALS, Unread({"source": 9}, {"id": 3}))


def test_a_receipt_is_small_and_read_as_it_was_written() -> None:
    data = RECEIPT.to_bytes()
    assert len(data) < 1200
    assert ShardReceipt.from_bytes(data) == RECEIPT
    many = Unread()
    many.add(Unread(*[{f"{number:09} " + "é" * 90: 2**40 for number in range(200)}] * 2))
    odd = replace(RECEIPT, unread=many)
    assert ShardReceipt.from_bytes(odd.to_bytes()) == odd
    assert len(odd.to_bytes()) < 50_000


def test_where_its_files_lie(tmp_path: Path) -> None:
    assert RECEIPT.files(tmp_path) == {
        tmp_path / "shard-00017.X.npy": (1000, "01" * 32),
        tmp_path / "shard-00017.provenance.parquet": (200, "23" * 32),
        tmp_path / "keys" / "validation-00003.keys": (32, "67" * 32),
        tmp_path / "rejects" / "00017.jsonl": (10, "45" * 32),
    }
    assert receipt_path(tmp_path, 100_000) == tmp_path / "receipts" / "100000.json"
    assert rejects_path(tmp_path, 7).name == "00007.jsonl"
    assert shard_file(tmp_path, "shard-00003", "mask").name == "shard-00003.mask.npy"


def test_a_receipt_of_another_split_or_plan_is_none(tmp_path: Path) -> None:
    assert read_receipt(tmp_path, 17, FINGERPRINT) is None
    for task in (16, 17):
        receipt_path(tmp_path, task).parent.mkdir(exist_ok=True)
        receipt_path(tmp_path, task).write_bytes(RECEIPT.to_bytes())
    assert read_receipt(tmp_path, 17, FINGERPRINT) == RECEIPT
    assert read_receipt(tmp_path, 16, FINGERPRINT) is None
    assert read_receipt(tmp_path, 17, "cd" * 32) is None


def test_a_receipt_that_cannot_be_read_is_an_error_with_the_path(tmp_path: Path) -> None:
    receipt_path(tmp_path, 17).mkdir(parents=True)
    with pytest.raises(StorageError, match=r"receipts/00017\.json: Is a directory"):
        read_receipt(tmp_path, 17, FINGERPRINT)


@pytest.mark.parametrize("odd", ODD)
def test_a_receipt_of_odd_values_is_none(odd: Any, tmp_path: Path) -> None:
    """So its split is done again."""
    data = RECEIPT.to_bytes()
    stated = without_checksum(data)
    refused = 0
    for place in places(stated):
        try:
            receipt = ShardReceipt.from_bytes(changed(stated, place, odd))
        except (ValueError, TypeError):
            refused += 1
            continue
        assert all(
            path.parent in (tmp_path, tmp_path / "rejects", tmp_path / "keys") for path in receipt.files(tmp_path)
        )
        assert receipt.fingerprint == RECEIPT.fingerprint
    assert refused > 8
    for place in (("shards", "shard-00017", "files", "../../X"), ("shards", "../../shard-00017")):
        with pytest.raises((ValueError, TypeError)):
            ShardReceipt.from_bytes(changed(stated, place, [1, "0" * 64]))
    with pytest.raises(ValueError, match="other totals"):
        ShardReceipt.from_bytes(changed(stated, ("shards", "shard-00017", "totals"), {}))


COUNTS = len(fields(Totals))


@given(st.lists(st.lists(st.integers(0, 2**40), min_size=COUNTS, max_size=COUNTS), max_size=4))
def test_totals_add_up(splits: list[list[int]]) -> None:
    whole = Totals()
    for numbers in splits:
        whole.add(Totals(*numbers))
    assert list(asdict(whole).values()) == [sum(column) for column in zip(*splits, strict=True)] or not splits


@given(st.text())
def test_a_reject_is_a_line(reason: str) -> None:
    data = Reject((1, 7, 400), "dropped", reason).to_bytes(["a.jsonl", "é\udcff.jsonl"])
    assert data.endswith(b"\n")
    assert data.count(b"\n") == 1
    stated = json.loads(data)
    assert stated == {"source": "é\udcff.jsonl", "line": 7, "byte_offset": 400, "kind": "dropped", "reason": reason}
    again = json.loads(Reject((1, 7, 400), "duplicate", reason, "a.jsonl:3").to_bytes(["a.jsonl", "b.jsonl"]))
    assert (again["kind"], again["repeats"]) == ("duplicate", "a.jsonl:3")
