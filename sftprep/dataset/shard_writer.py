"""One split's rows -> X/Y/mask/segments/provenance files and a receipt that says what they hold."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sftprep.dataset.origins import Provenance, provenance_table
from sftprep.dataset.receipt import REJECTS_FOLDER, Reject, ShardReceipt, Totals, file_path, receipt_path
from sftprep.dataset.staged import StagedFile, publish_bytes, sync_folder
from sftprep.layouts.types import Rows
from sftprep.unread import Unread

ARRAYS = ("X", "Y", "mask")
_MOST_ROWS = 10**15  # sizes the space left for an .npy header, whose length must not depend on the row count


@dataclass(frozen=True, slots=True)
class Prepared:
    """One batch of records, ready to be written."""

    rows: Rows
    provenance: Provenance
    rejects: list[Reject]
    totals: Totals
    unread: Unread  # keys of the records
    bytes: int  # of the records
    replayed: int = 0  # records rendered without Jinja
    lengths: npt.NDArray[np.int64] | None = None  # `batches.lengths`, where they are counted


class ShardWriter:
    """Takes a split's rows batch by batch, in bounded memory; `publish` makes them durable and visible.

    The mask is bool until a batch brings weights; then what was written is widened to float32 once.
    """

    def __init__(self, folder: Path, task: int, width: int, dtype: np.dtype[Any], source_names: Sequence[str]) -> None:
        self.totals, self.unread = Totals(), Unread()
        self._names = source_names
        self._folder, self._task, self._width, self._dtype = folder, task, width, dtype
        self._mask_dtype: np.dtype[Any] = np.dtype(np.bool_)
        self._rows = 0
        self._files: dict[str, StagedFile] = {}
        self._segments: list[npt.NDArray[np.int64]] = []
        self._provenance: list[Provenance] = []
        self._rejects = bytearray()

    def discard(self) -> None:
        """Remove what was not published."""
        for staged in self._files.values():
            staged.discard()

    def append(self, prepared: Prepared) -> None:
        """Write a batch's rows and keep its rejects; segments are renumbered to the shard's rows."""
        self.totals.add(prepared.totals)
        self.unread.add(prepared.unread)
        self._rejects += b"".join(reject.to_bytes(self._names) for reject in prepared.rejects)
        rows, provenance = prepared.rows, prepared.provenance
        if not len(rows.x):
            return
        if rows.mask.dtype == np.float32 and self._mask_dtype == np.bool_ and self._rows:
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
        """Fsync and rename every file, fsync their folders, then leave the receipt. What is not published is removed."""
        try:
            for kind, staged in list(self._files.items()):
                staged.finish(npy_header((self._rows, self._width), self._array_dtype(kind)))
            if self._rows:
                segments = np.concatenate(self._segments)
                self._finish("segments", npy_header(segments.shape, segments.dtype), segments)
                self._finish("provenance", b"", provenance_table(self._provenance, self._names))
            if self._rejects:
                self._finish(REJECTS_FOLDER, b"", self._rejects)
            for staged in self._files.values():
                staged.publish()
            for folder in {staged.path.parent for staged in self._files.values()}:
                sync_folder(folder)
            files = {kind: (staged.bytes, staged.sha256) for kind, staged in self._files.items()}
            receipt = ShardReceipt(self._task, fingerprint, files, self.totals, self.unread)
            publish_bytes(receipt_path(self._folder, self._task), receipt.to_bytes())
            return receipt
        finally:
            self.discard()

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
        """Write what there is of the mask, bool, anew as float32."""
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
