"""Datasets written out by hand: what a folder has to hold, without the code that builds one."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from sftprep.dataset.manifest import SET_TOTALS, FileEntry, InputEntry, Manifest, ShardEntry

Row = tuple[list[int], list[Any]]  # ids of one conversation, and their mask: an entry per id, before the shift


def write_dataset(
    folder: Path,
    shards: Sequence[Sequence[Row]],
    *,
    max_length: int,
    pad_id: int = 0,
    dtype: str = "uint16",
    mask_dtypes: Sequence[str] = (),
) -> Manifest:
    """Write `shards` of conversations as a padded dataset; `mask_dtypes` is "bool" or "float32" for each shard."""
    folder.mkdir(exist_ok=True)
    files = {}
    entries = []
    totals = dict.fromkeys(("records", "conversations", "rows", "tokens", "trained_tokens", "truncated"), 0)
    rejects = b'{"source": "a.jsonl", "line": 1, "byte_offset": 0, "kind": "rejected", "reason": "no messages"}\n'
    totals |= {"dropped": 0, "rejected": 1, "records": 1, "examples": 0}
    line = 1
    for number, rows in enumerate(shards):
        name = f"shard-{number:05d}"
        mask_dtype = mask_dtypes[number] if mask_dtypes else "bool"
        x, y, mask = (np.array(each) for each in zip(*(shifted(row, max_length, pad_id) for row in rows), strict=True))
        kept = np.array([min(len(ids), max_length) for ids, _ in rows])
        segments = [(r, 0, n - 1) for r, n in enumerate(kept)]
        trained = (mask != 0).sum(axis=1)
        truncated = np.array([len(ids) > max_length for ids, _ in rows])
        table = {
            "source": pa.array(["a.jsonl"] * len(rows)).dictionary_encode(),
            "line": np.arange(line, line + len(rows)) + 1,
            "byte_offset": np.arange(line, line + len(rows)) * 100,
            "tokens": kept.astype(np.int32),
            "tokens_in_all": np.array([len(ids) for ids, _ in rows], np.int32),
            "trained_tokens": trained.astype(np.int32),
            "truncated": truncated,
            **traits(len(rows)),
        }
        files[f"{name}.X.npy"] = npy(x.astype(dtype))
        files[f"{name}.Y.npy"] = npy(y.astype(dtype))
        files[f"{name}.mask.npy"] = npy(mask.astype(mask_dtype))
        files[f"{name}.segments.npy"] = npy(np.array(segments, np.int64))
        files[f"{name}.provenance.parquet"] = parquet(pa.table(table))
        entries.append(ShardEntry(name, len(rows), len(rows), int(kept.sum())))
        line += len(rows)
        for key, count in {
            "records": len(rows),
            "conversations": len(rows),
            "examples": len(rows),
            "rows": len(rows),
            "tokens": kept.sum(),
            "trained_tokens": trained.sum(),
            "truncated": truncated.sum(),
        }.items():
            totals[key] += int(count)
    files["rejects.jsonl"] = rejects
    for file_name, data in files.items():
        (folder / file_name).write_bytes(data)
    manifest = Manifest(
        sftprep="0.1.0",
        fingerprint="0" * 64,
        config={"mask": "turns", "max_length": max_length, "overflow": "truncate"},
        layout="padded",
        width=max_length - 1,
        dtype=dtype,
        pad_id=pad_id,
        tokenizer={"vocab_size": 60_000},
        inputs=(InputEntry("a.jsonl", 12_345, "1" * 64, totals["records"]),),
        totals=totals,
        sets={"train": {name: totals[name] for name in SET_TOTALS}},
        shards=tuple(entries),
        files={each: FileEntry(len(data), hashlib.sha256(data).hexdigest()) for each, data in files.items()},
    )
    (folder / "manifest.json").write_bytes(manifest.to_bytes())
    return manifest


def three_rows(folder: Path) -> Path:
    """Three rows in two shards: a short one, one cut to five ids, one with weights."""
    first = [([1, 2, 5, 6], [0, 0, 1, 1]), ([1, 2, 3, 5, 5, 5, 6], [0, 0, 0, 1, 1, 1, 1])]
    second = [([1, 5, 6], [0, 0.5, 0])]
    write_dataset(folder, [first, second], max_length=5, mask_dtypes=["bool", "float32"])
    return folder


def shifted(row: Row, max_length: int, pad_id: int) -> tuple[list[int], list[int], list[Any]]:
    """X, Y and mask of one conversation: cut, pad on the right, shift."""
    ids, mask = (list(each[:max_length]) for each in row)
    ids += [pad_id] * (max_length - len(ids))
    mask += [0] * (max_length - len(mask))
    return ids[:-1], ids[1:], mask[1:]


def random_rows(rng: np.random.Generator, count: int, longest: int, highest: int = 50_000) -> list[Row]:
    """Conversations of 2 to `longest` ids, about half of them trained."""
    lengths = rng.integers(2, longest + 1, count)
    return [(rng.integers(1, highest, n).tolist(), rng.integers(0, 2, n).tolist()) for n in lengths]


def signed(stated: dict[str, Any]) -> bytes:
    """A manifest with any content, under a checksum that fits."""
    stated = {key: value for key, value in stated.items() if key != "checksum"}
    body = (json.dumps(stated, sort_keys=True, indent=1) + "\n").encode()
    return body[:2] + f' "checksum": "{hashlib.sha256(body).hexdigest()}",\n'.encode() + body[2:]


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=False)
    return stream.getvalue()


def origins(names: Sequence[str]) -> pa.Table:
    """Provenance of one conversation of two ids from each of these files."""
    count = len(names)
    table = {
        "source": pa.array(names).dictionary_encode(),
        "line": np.arange(count) + 1,
        "byte_offset": np.arange(count) * 100,
        "tokens": np.full(count, 2, np.int32),
        "tokens_in_all": np.full(count, 2, np.int32),
        "trained_tokens": np.ones(count, np.int32),
        "truncated": np.zeros(count, np.bool_),
        **traits(count),
    }
    return pa.table(table)


def traits(count: int) -> dict[str, Any]:
    """The other columns of provenance, for plain conversations of one turn."""
    return {
        "turns": np.ones(count, np.int32),
        **{name: np.zeros(count, np.bool_) for name in ("tools", "reasoning", "forged", "other_context")},
        "record_key": np.arange(count),
        "group": pa.array([""] * count, pa.string()).dictionary_encode(),
    }


def parquet(table: pa.Table) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream)
    return stream.getvalue()


def rewrite(folder: Path, manifest: Manifest, name: str, data: bytes) -> None:
    """Replace one file and state its new size and hash in the manifest: wrong content under a true checksum."""
    stated = json.loads(manifest.to_bytes())
    stated["files"][name] = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    (folder / name).write_bytes(data)
    (folder / "manifest.json").write_bytes(signed(stated))
