"""One split's rows -> X/Y/mask/segments/provenance files and a receipt that says what they hold."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from types import TracebackType
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from sftprep.checksum import Count, Hash, with_checksum, without_checksum
from sftprep.errors import StorageError
from sftprep.rows import Rows
from sftprep.storage import StagedFile, sync_folder

ARRAYS = ("X", "Y", "mask")
RECEIPTS = "receipts"
REJECTS = "rejects"
REJECT_KINDS = ("rejected", "dropped")  # by a fault of its own; because nothing of it would be trained
FileKind = Annotated[str, msgspec.Meta(pattern=r"^(?:X|Y|mask|segments|provenance|rejects)\Z")]
_MOST_ROWS = 10**15  # sizes the space left for an .npy header, whose length must not depend on the row count


class Provenance(NamedTuple):
    """Where a batch's conversations came from, one entry per segment."""

    source: npt.NDArray[np.int32]  # (S,) index into the plan's inputs
    line: npt.NDArray[np.int64]  # (S,) counted from 1
    byte_offset: npt.NDArray[np.int64]  # (S,) of the record in its (uncompressed) input
    tokens: npt.NDArray[np.int32]  # (S,) ids kept
    trained_tokens: npt.NDArray[np.int32]  # (S,) targets with a mask above 0
    truncated: npt.NDArray[np.bool_]  # (S,) True where ids were cut off


class Reject(NamedTuple):
    """A record that is in no shard, and why. Holds no message text."""

    place: tuple[int, int, int]  # `Record.place`
    kind: str  # of REJECT_KINDS
    reason: str

    def to_bytes(self, source_names: Sequence[str]) -> bytes:
        """Its line in rejects.jsonl."""
        source, line, offset = self.place
        stated = {"source": source_names[source], "line": line, "byte_offset": offset}
        stated |= {"kind": self.kind, "reason": self.reason}
        return json.dumps(stated, ensure_ascii=False).encode("utf-8", "backslashreplace") + b"\n"


@dataclass(slots=True)
class Totals:
    """What a split or a dataset holds, in numbers. records = conversations + dropped + rejected."""

    records: int = 0
    conversations: int = 0
    rows: int = 0
    tokens: int = 0  # ids kept, pads not counted
    trained_tokens: int = 0  # targets with a mask above 0
    truncated: int = 0  # conversations cut to the maximal length
    dropped: int = 0  # conversations without a trained token
    rejected: int = 0
    control_text: int = 0  # conversations whose text spells a control token, rejected ones included
    exact: int = 0  # conversations masked by character offsets because the fast way did not add up
    straddling: int = 0  # tokens that hold both header and answer; not trained
    silent_turns: int = 0  # turns of which nothing but the end-of-turn token is trained
    unended_turns: int = (
        0  # turns whose last trained token is no control token: no end-of-turn token is learned of them
    )

    def add(self, other: Totals) -> None:
        """Add another split's numbers to these."""
        for each in fields(self):
            setattr(self, each.name, getattr(self, each.name) + getattr(other, each.name))


@dataclass(frozen=True, slots=True)
class ShardReceipt:
    """Proof that one split is done: what was published under which size and hash. `files` is empty without rows."""

    task: Count
    fingerprint: Hash
    files: dict[FileKind, tuple[Count, Hash]]
    totals: Totals = field(default_factory=Totals)

    def to_bytes(self) -> bytes:
        """Compact JSON, less than 1 kB."""
        stated = {"task": self.task, "fingerprint": self.fingerprint, "files": self.files}
        numbers = [getattr(self.totals, each.name) for each in fields(Totals)]
        return json.dumps(with_checksum({**stated, "totals": numbers}), separators=(",", ":")).encode()

    @classmethod
    def from_bytes(cls, data: bytes) -> ShardReceipt:
        """Raises ValueError or TypeError where the bytes are no receipt, or were changed."""
        stated = without_checksum(data)
        totals = Totals(*msgspec.convert(stated.pop("totals", None), list[Count]))
        return replace(msgspec.convert(stated, cls), totals=totals)

    def paths(self, folder: Path) -> dict[str, Path]:
        """Where the receipt's files lie in `folder`, by kind."""
        return {kind: file_path(folder, self.task, kind) for kind in self.files}


def shard_name(task: int) -> str:
    """The stem of a split's files: shard-00017."""
    return f"shard-{task:05d}"


def file_path(folder: Path, task: int, kind: str) -> Path:
    """The final place of one of a split's files; rejects wait in a folder of their own for the commit to join them."""
    if kind == REJECTS:
        return folder / REJECTS / f"{task:05d}.jsonl"
    suffix = "parquet" if kind == "provenance" else "npy"
    return folder / f"{shard_name(task)}.{kind}.{suffix}"


def receipt_path(folder: Path, task: int) -> Path:
    """Where a split's receipt lies."""
    return folder / RECEIPTS / f"{task:05d}.json"


@dataclass(frozen=True, slots=True)
class Prepared:
    """One batch of records, ready to be written."""

    rows: Rows
    provenance: Provenance
    rejects: list[Reject]
    totals: Totals
    bytes: int  # of the records


class ShardWriter:
    """Takes a split's rows batch by batch, in bounded memory; `publish` makes them durable and visible.

    The mask is bool until a batch brings weights; then what was written is widened to float32 once.
    """

    def __init__(self, folder: Path, task: int, width: int, dtype: np.dtype[Any], source_names: Sequence[str]) -> None:
        self.totals = Totals()
        self._names = source_names
        self._folder, self._task, self._width, self._dtype = folder, task, width, dtype
        self._mask_dtype: np.dtype[Any] = np.dtype(np.bool_)
        self._rows = 0
        self._files: dict[str, StagedFile] = {}
        self._segments: list[npt.NDArray[np.int64]] = []
        self._provenance: list[Provenance] = []
        self._rejects = bytearray()

    def __enter__(self) -> ShardWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def discard(self) -> None:
        """Remove what was not published."""
        for staged in self._files.values():
            staged.discard()

    def append(self, prepared: Prepared) -> None:
        """Write a batch's rows and keep its rejects; segments are renumbered to the shard's rows."""
        self.totals.add(prepared.totals)
        self._rejects += b"".join(reject.to_bytes(self._names) for reject in prepared.rejects)
        rows, provenance = prepared.rows, prepared.provenance
        if not len(rows.x):
            return
        if rows.mask.dtype != self._mask_dtype and self._rows:
            self._widen_mask()
        if rows.mask.dtype == np.float32:
            self._mask_dtype = np.dtype(np.float32)
        mask = rows.mask if rows.mask.dtype == self._mask_dtype else rows.mask.astype(self._mask_dtype)
        for kind, array in zip(ARRAYS, (rows.x, rows.y, mask), strict=True):
            self._staged(kind).write(np.ascontiguousarray(array))
        self._segments.append(rows.segments + np.array([self._rows, 0, 0]))
        self._provenance.append(provenance)
        self._rows += len(rows.x)

    def publish(self, fingerprint: str) -> ShardReceipt:
        """Fsync and rename every file, fsync their folders, then leave the receipt."""
        for kind, staged in list(self._files.items()):
            staged.finish(npy_header((self._rows, self._width), self._array_dtype(kind)))
        if self._rows:
            segments = np.concatenate(self._segments)
            self._finish("segments", npy_header(segments.shape, segments.dtype), segments)
            self._finish("provenance", b"", provenance_table(self._provenance, self._names))
        if self._rejects:
            self._finish(REJECTS, b"", self._rejects)
        for staged in self._files.values():
            staged.publish()
        for folder in {staged.path.parent for staged in self._files.values()}:
            sync_folder(folder)
        files = {kind: (staged.bytes, staged.sha256) for kind, staged in self._files.items()}
        receipt = ShardReceipt(self._task, fingerprint, files, self.totals)
        with StagedFile(receipt_path(self._folder, self._task)) as staged:
            staged.write(receipt.to_bytes())
            staged.finish()
            staged.publish()
        sync_folder(self._folder / RECEIPTS)
        return receipt

    def _staged(self, kind: str) -> StagedFile:
        if kind not in self._files:
            head = len(npy_header((_MOST_ROWS, self._width), self._array_dtype(kind))) if kind in ARRAYS else 0
            self._files[kind] = StagedFile(file_path(self._folder, self._task, kind), head)
        return self._files[kind]

    def _finish(self, kind: str, head: bytes, body: Any) -> None:
        staged = self._staged(kind)
        staged.write(head)
        staged.write(body)
        staged.finish()

    def _array_dtype(self, kind: str) -> np.dtype[Any]:
        return self._mask_dtype if kind == "mask" else self._dtype

    def _widen_mask(self) -> None:
        narrow = self._files.pop("mask")
        self._mask_dtype = np.dtype(np.float32)
        with narrow:
            for block in narrow.blocks():
                self._staged("mask").write(np.frombuffer(block, np.bool_).astype(np.float32))


def npy_header(shape: tuple[int, ...], dtype: np.dtype[Any]) -> bytes:
    """The bytes before an array's data in the .npy format, version 1.0; as long for few rows as for many."""
    stream = io.BytesIO()
    description = {"descr": np.lib.format.dtype_to_descr(dtype), "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(stream, description)
    return stream.getvalue()


def provenance_table(batches: list[Provenance], source_names: Sequence[str]) -> memoryview:
    """The provenance of a shard as a Parquet file: source, line, byte_offset, tokens, trained_tokens, truncated."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in Provenance._fields}
    used, indices = np.unique(columns["source"], return_inverse=True)
    names = pa.array([source_names[index] for index in used], pa.string())
    table = pa.table({**columns, "source": pa.DictionaryArray.from_arrays(indices.astype(np.int32), names)})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getbuffer()


def warm_parquet() -> None:
    """Let Arrow take what it reserves at its first table, a gigabyte of address space: later it would count against the
    limits of a template that runs meanwhile."""
    long, short = np.zeros(0, np.int64), np.zeros(0, np.int32)
    provenance_table([Provenance(short, long, long, short, short, np.zeros(0, np.bool_))], [])


def read_receipt(folder: Path, task: int, fingerprint: str) -> ShardReceipt | None:
    """The receipt of a split, or None where there is none, or none of this plan."""
    try:
        receipt = ShardReceipt.from_bytes(receipt_path(folder, task).read_bytes())
    except FileNotFoundError:
        return None
    except OSError as error:
        raise StorageError(f"{receipt_path(folder, task)}: {error.strerror}") from error
    except (ValueError, TypeError):
        return None
    return receipt if (receipt.task, receipt.fingerprint) == (task, fingerprint) else None
