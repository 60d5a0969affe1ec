"""One split's rows -> X/Y/mask/segments/provenance files, by set, and a receipt that says what they hold."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sftprep.dataset.manifest import SET_TOTALS
from sftprep.dataset.origins import Provenance, ShardProvenance
from sftprep.dataset.receipt import (
    KEYS,
    FileFacts,
    Reject,
    ShardPart,
    ShardReceipt,
    Totals,
    receipt_path,
    rejects_path,
    shard_file,
)
from sftprep.dataset.staged import StagedFile, publish_bytes, sync_folder
from sftprep.layouts.kinds import layout
from sftprep.layouts.types import Rows
from sftprep.unread import Unread

ARRAYS = ("X", "Y", "mask")
_MOST = 10**15  # rows, or ids: sizes the space left for an .npy header, whose length must not depend on their number


@dataclass(frozen=True, slots=True)
class RowForm:
    """What rows are written: the name of their layout, how wide they are, what fills them up, and the dtype of ids."""

    layout: str
    width: int
    pad_id: int
    dtype: np.dtype[Any]


@dataclass(frozen=True, slots=True)
class Prepared:
    """One batch of records, or those of it that belong to one set, ready to be written."""

    rows: Rows
    provenance: Provenance
    rejects: list[Reject]
    totals: Totals
    unread: Unread  # keys of the records
    bytes: int  # of the records
    replayed: int = 0  # records rendered without Jinja
    lengths: npt.NDArray[np.int64] | None = None  # `batches.lengths`, where they are counted
    set: str = "train"
    keys: bytearray | None = None  # of the conversations that have rows, where near-copies are looked for


class ShardWriter:
    """Takes a split's rows batch by batch, in bounded memory; `publish` makes them durable and visible."""

    def __init__(
        self,
        folder: Path,
        task: int,
        shards: Mapping[str, str],
        form: RowForm,
        source_names: Sequence[str],
    ) -> None:
        """shards: the name of the shard of each set that the split may have rows for."""
        self.totals, self.unread = Totals(), Unread()
        self._folder, self._task, self._names = folder, task, source_names
        self._shards = {of: _Shard(folder, name, form, source_names) for of, name in shards.items()}
        self._pending: list[Reject] = []
        self._rejects = bytearray()
        self._rejects_file: StagedFile | None = None

    def discard(self) -> None:
        """Remove what was not published."""
        for staged in self._staged():
            staged.discard()

    def append(self, prepared: Prepared) -> None:
        """Write rows to the shard of their set, and keep the rejects."""
        self.totals.add(prepared.totals)
        self.unread.add(prepared.unread)
        self._pending += prepared.rejects
        if len(prepared.rows.segments):
            self._shards[prepared.set].append(prepared)

    def leave_out(self, duplicates: list[Reject]) -> None:
        """Keep the word on records that are in no shard because another record says the same."""
        self.totals.add(Totals(records=len(duplicates), duplicates=len(duplicates)))
        self._pending += duplicates

    def end_batch(self) -> None:
        """All of a batch has come: its rejects, of whatever set, are put in the order of the input."""
        self._pending.sort(key=lambda reject: reject.place)
        self._rejects += b"".join(reject.to_bytes(self._names) for reject in self._pending)
        self._pending.clear()

    def publish(self, fingerprint: str) -> ShardReceipt:
        """Fsync and rename every file, fsync their folders, then leave the receipt. What is not published is removed."""
        try:
            parts = {shard.name: shard.finish() for shard in self._shards.values() if shard.holds}
            self.totals.rows = sum(part.totals["rows"] for part in parts.values())
            rejects = self._finish_rejects() if self._rejects else None
            published = self._staged()
            for staged in published:
                staged.publish()
            for folder in {staged.path.parent for staged in published}:
                sync_folder(folder)
            receipt = ShardReceipt(self._task, fingerprint, parts, rejects, self.totals, self.unread)
            publish_bytes(receipt_path(self._folder, self._task), receipt.to_bytes())
            return receipt
        finally:
            self.discard()

    def _finish_rejects(self) -> FileFacts:
        self._rejects_file = staged = StagedFile(rejects_path(self._folder, self._task))
        staged.write(self._rejects)
        staged.finish()
        return staged.bytes, staged.sha256

    def _staged(self) -> list[StagedFile]:
        files = [staged for shard in self._shards.values() for staged in shard.files.values()]
        return files + ([self._rejects_file] if self._rejects_file else [])


class _Shard:
    """The files of one shard while they are written.

    The mask is bool until a batch brings weights; then what was written is widened to float32 once.
    """

    def __init__(self, folder: Path, name: str, form: RowForm, source_names: Sequence[str]) -> None:
        self.name, self.holds = name, False
        self.files: dict[str, StagedFile] = {}
        self._folder, self._form, self._names = folder, form, source_names
        self._layout = layout(form.layout)
        self._mask_dtype: np.dtype[Any] = np.dtype(np.bool_)
        self._totals = Totals()
        self._rows = self._ids = 0  # that are written
        self._parts: list[Rows] = []  # that wait for the split to be whole
        self._segments: list[npt.NDArray[np.int64]] = []
        self._provenance = ShardProvenance()
        self._keys = bytearray()

    def append(self, prepared: Prepared) -> None:
        """Write a batch's rows, or keep them until it is known which they are."""
        self.holds = True
        self._provenance.append(prepared.provenance)
        self._keys += prepared.keys or b""
        self._totals.add(prepared.totals)
        if self._layout.by_split:
            self._parts.append(prepared.rows)
        else:
            self._write(prepared.rows)

    def finish(self) -> ShardPart:
        """Make all files durable under their temporary names."""
        if self._parts:
            self._gather()
        shapes = self._layout.shapes(self._rows, self._ids, self._form.width)
        for kind, staged in self.files.items():
            staged.finish(npy_header(shapes[kind], self._array_dtype(kind)))
        segments = np.concatenate(self._segments)
        self._finish("segments", npy_header(segments.shape, segments.dtype), segments)
        self._finish("provenance", b"", self._provenance.to_parquet(self._names))
        if self._keys:
            self._finish(KEYS, b"", self._keys)
        files = {kind: (staged.bytes, staged.sha256) for kind, staged in self.files.items()}
        self._totals.rows = self._rows
        return ShardPart(files, {name: getattr(self._totals, name) for name in SET_TOTALS})

    def _gather(self) -> None:
        """Write the rows of the whole split; its segments, and so their provenance, are in the rows' order."""
        order = []
        for rows in self._layout.gather(self._parts, self._form.width, self._form.pad_id):
            self._write(rows)
            order.append(rows.conversation)
        self._provenance.put_in_order(np.concatenate(order))
        self._parts.clear()

    def _write(self, rows: Rows) -> None:
        """Write rows; segments are renumbered to the shard's rows, or to its ids where these are one long row."""
        if rows.mask.dtype == np.float32 and self._mask_dtype == np.bool_ and self._segments:
            self._widen_mask()
        if rows.mask.dtype == np.float32:
            self._mask_dtype = np.dtype(np.float32)
        for kind, array in rows.arrays.items():
            own = array.astype(self._mask_dtype, copy=False) if kind == "mask" else array
            self._staged(kind).write(np.ascontiguousarray(own))
        self._segments.append(rows.segments + np.array([self._rows, 0, 0] if rows.y is not None else [0, self._ids, 0]))
        self._rows += len(rows)
        self._ids += rows.x.size

    def _staged(self, kind: str) -> StagedFile:
        if kind not in self.files:
            head = 0
            if kind in ARRAYS:
                shapes = self._layout.shapes(_MOST, _MOST, self._form.width)
                head = len(npy_header(shapes[kind], self._array_dtype(kind)))
            self.files[kind] = StagedFile(shard_file(self._folder, self.name, kind), head)
        return self.files[kind]

    def _finish(self, kind: str, head: bytes, body: Any) -> None:
        staged = self._staged(kind)
        staged.write(head)
        staged.write(body)
        staged.finish()

    def _array_dtype(self, kind: str) -> np.dtype[Any]:
        return self._mask_dtype if kind == "mask" else self._form.dtype

    def _widen_mask(self) -> None:
        """Write what there is of the mask, bool, anew as float32."""
        narrow = self.files.pop("mask")
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
