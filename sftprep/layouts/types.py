"""Rows, and the windows of flat arrays that they are made of."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sftprep.errors import DatasetError

if TYPE_CHECKING:
    from sftprep.masks.paint import Mask
    from sftprep.masks.scan import ScanRule
    from sftprep.tokens.batch import TokenBatch


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


class Layout(Protocol):
    """Lays conversations out in rows, and says what such rows satisfy."""

    def lay_out(
        self,
        batch: TokenBatch,
        mask: Mask | ScanRule,
        length: int,
        pad_id: int,
        dtype: npt.DTypeLike,
        *,
        keep_untrained: bool = False,
    ) -> Rows:
        """A batch's rows. mask: (T,) over its ids, or a rule that scans rows. length: ids kept of a conversation."""

    def wrong_counts(self, rows: int, segments: int) -> str | None:
        """What cannot be in the numbers that a manifest states of a shard; None if they are sound."""

    def wrong_segments(self, segments: npt.NDArray[np.int64], width: int) -> dict[str, npt.NDArray[np.bool_]]:
        """(S,) bool, True where a segment of a shard is wrong; by what is wrong with it."""

    def count_trained(self, mask: npt.NDArray[Any], segments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(S,) targets that are trained of each segment. mask: (R, W) of some rows; segments: (S, 3), all that lie in them."""

    def wrong_rows(
        self, block: Block, segments: npt.NDArray[np.int64], pad_id: int, *, pads_trained: bool
    ) -> dict[tuple[str, str], npt.NDArray[np.bool_]]:
        """True where an entry of some rows is wrong; by the array ("X", "Y", "mask") and what is wrong. pads_trained: whether
        the mask may train padding."""


class Block(NamedTuple):
    """Some rows of a shard, one after another."""

    first: int  # row of the shard
    x: npt.NDArray[Any]  # (R, W)
    y: npt.NDArray[Any]
    mask: npt.NDArray[Any]


def check_fit(ids: npt.NDArray[Any], pad_id: int, dtype: np.dtype[Any]) -> None:
    """A cast would wrap an id that does not fit without a word."""
    largest, most = max(int(ids.max(initial=0)), pad_id), np.iinfo(dtype).max
    if pad_id < 0 or largest > most:
        raise DatasetError(f"ids up to {largest}, pad id {pad_id}: {dtype} holds 0 to {most}")


def windows(
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
