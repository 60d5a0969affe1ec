"""Tokens and mask -> rows of the dataset, layout `padded`: one conversation a row.

Each conversation is cut to `length` ids, padded on the right and shifted: X = ids[:-1], Y = ids[1:], mask = mask[1:].
Rows are filled by one gather of fixed-size windows of the flat ids (a copy of memory per row, inside numpy), and what
a window holds beyond its conversation's end is overwritten with the pad id.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sftprep.errors import ConfigError, DatasetError
from sftprep.loss_mask import Mask
from sftprep.scan import ScanRule, scan_mask

if TYPE_CHECKING:
    from sftprep.tokenizer import TokenBatch


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows of width W that hold S conversations of a batch; in `padded` rows S = R."""

    x: npt.NDArray[Any]  # (R, W) uint16 or uint32, C-contiguous
    y: npt.NDArray[Any]  # (R, W), y[r, t] is the id that follows x[r, t]
    mask: npt.NDArray[Any]  # (R, W) bool or float32, above 0 trains target y[r, t]
    segments: npt.NDArray[np.int64]  # (S, 3): row, start, length in (x, y) pairs
    conversation: npt.NDArray[np.int64]  # (S,) index in the batch; those that are missing had no trained target
    tokens: npt.NDArray[np.int64]  # (S,) ids kept
    trained: npt.NDArray[np.int64]  # (S,) targets with a mask above 0
    truncated: npt.NDArray[np.bool_]  # (S,) True where ids were cut off


def padded_rows(
    batch: TokenBatch,
    mask: Mask | ScanRule,
    length: int,
    pad_id: int,
    dtype: npt.DTypeLike,
    *,
    keep_untrained: bool = False,
) -> Rows:
    """Lay a batch out one conversation a row, `length - 1` wide.

    mask: (T,) bool or float32 over the batch's ids, pads are not trained; or a rule that scans the padded rows.
    Conversations without a trained target within `length` are left out unless `keep_untrained`.
    Raises DatasetError if an id does not fit `dtype`, ConfigError if `length` leaves no target.
    """
    if length < 2:
        raise ConfigError(f"length {length}: a row needs 2 ids or more to hold a target")
    starts, tokens = batch.offsets[:-1], np.diff(batch.offsets)
    kept = np.minimum(tokens, length)
    dtype = np.dtype(dtype)
    _check_fit(batch.ids, pad_id, dtype)
    ids = _windows(batch.ids, starts, kept, length, pad_id, dtype)
    if isinstance(mask, ScanRule):
        targets = scan_mask(ids, mask)[:, 1:]
    else:
        targets = _windows(mask, starts + 1, np.maximum(kept - 1, 0), length - 1, 0, mask.dtype)
    trained = np.count_nonzero(targets, axis=1)
    chosen = np.arange(len(kept)) if keep_untrained else np.flatnonzero(trained)
    segments = np.zeros((len(chosen), 3), np.int64)
    segments[:, 0] = np.arange(len(chosen))
    segments[:, 2] = np.maximum(kept[chosen] - 1, 0)
    return Rows(
        x=ids[:, :-1][chosen],
        y=ids[:, 1:][chosen],
        mask=targets[chosen],
        segments=segments,
        conversation=chosen,
        tokens=kept[chosen],
        trained=trained[chosen],
        truncated=(tokens > length)[chosen],
    )


def _check_fit(ids: npt.NDArray[Any], pad_id: int, dtype: np.dtype[Any]) -> None:
    """A cast would wrap an id that does not fit without a word."""
    largest, most = max(int(ids.max(initial=0)), pad_id), np.iinfo(dtype).max
    if pad_id < 0 or largest > most:
        raise DatasetError(f"ids up to {largest}, pad id {pad_id}: {dtype} holds 0 to {most}")


def _windows(
    flat: npt.NDArray[Any],
    starts: npt.NDArray[np.int64],
    lengths: npt.NDArray[np.int64],
    width: int,
    fill: int,
    dtype: np.dtype[Any],
) -> npt.NDArray[Any]:
    """(R, width) as `dtype`: row r is `flat[starts[r] : starts[r] + lengths[r]]`, then `fill`."""
    padded = np.empty(flat.size + width + 1, dtype)  # so that a window may start one after the last entry
    padded[: flat.size] = flat
    padded[flat.size :] = fill
    rows = np.lib.stride_tricks.sliding_window_view(padded, width)[starts]
    column = np.min_scalar_type(width)  # narrow integers compare several times faster
    np.copyto(rows, dtype.type(fill), where=np.arange(width, dtype=column) >= lengths[:, None].astype(column))
    return rows
