"""Rows, what a layout has to say of them, and the windows of flat arrays that they are made of."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sftprep.errors import DatasetError

if TYPE_CHECKING:
    from sftprep.masks.paint import Mask
    from sftprep.masks.scan import ScanRule
    from sftprep.tokens.batch import TokenBatch


_AT_ONCE = 1 << 20  # entries of an array


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """R rows of width W that hold S conversations of a batch, or stretches of them; in `padded` rows S = R.

    In `ragged` ones there is no width: x and mask are (T,), one conversation after another, and what follows x[t] is x[t + 1].
    """

    x: npt.NDArray[Any]  # (R, W) uint16 or uint32, C-contiguous
    y: npt.NDArray[Any] | None  # (R, W), y[r, t] is the id that follows x[r, t]; None in `ragged`
    mask: npt.NDArray[Any]  # (R, W) bool or float32, above 0 trains the id that follows x[r, t]
    segments: npt.NDArray[np.int64]  # (S, 3): row, start, length in (x, y) pairs
    conversation: npt.NDArray[np.int64]  # (S,) index in the batch; those that are missing had no trained target
    tokens: npt.NDArray[np.int64]  # (S,) ids kept
    trained: npt.NDArray[np.int64]  # (S,) targets with a mask above 0
    truncated: npt.NDArray[np.bool_]  # (S,) True where ids were cut off

    @property
    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """What is written, by the names of the files."""
        return {"X": self.x, **({} if self.y is None else {"Y": self.y}), "mask": self.mask}

    def as_rows(self) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        """X, Y and mask with two axes, so that a segment is [row, start : start + length] of each."""
        return (self.x[None], self.x[None, 1:], self.mask[None]) if self.y is None else (self.x, self.y, self.mask)

    def __len__(self) -> int:
        """Rows; in `ragged`, conversations."""
        return len(self.segments) if self.y is None else len(self.x)


class Layout(Protocol):
    """Lays conversations out in rows, and says what such rows satisfy."""

    by_split: bool  # whether rows are known only when a split is whole: then `gather` makes them

    def lay_out(
        self,
        batch: TokenBatch,
        mask: Mask | ScanRule,
        length: int | None,
        pad_id: int,
        dtype: npt.DTypeLike,
        *,
        overflow: str = "truncate",
        keep_untrained: bool = False,
    ) -> Rows:
        """A batch's rows, or what `gather` makes rows of. mask: (T,) over its ids, or a rule that scans rows. length: ids kept of a
        conversation, None: all; overflow: what becomes of a longer one (`cut.cut`)."""

    def gather(self, parts: Sequence[Rows], width: int, pad_id: int) -> Iterator[Rows]:
        """Only `by_split`: the rows of a whole split, some at a time. parts: `lay_out` of its batches, in order. In the rows
        `conversation` is the index among all their segments."""

    def as_rows(
        self, arrays: Mapping[str, npt.NDArray[Any]]
    ) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
        """X, Y and mask with two axes, so that a segment is [row, start : start + length] of each."""

    def shapes(self, rows: int, tokens: int, width: int) -> Mapping[str, tuple[int, ...]]:
        """What the array files of a shard are called, and the shape of each."""

    def rows_of(self, segments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(S,) the row of the shard that each segment is in, as rows are counted."""

    def wrong_counts(self, rows: int, segments: int) -> str | None:
        """What cannot be in the numbers that a manifest states of a shard; None if they are sound."""

    def wrong_segments(
        self, segments: npt.NDArray[np.int64], shape: tuple[int, ...]
    ) -> dict[str, npt.NDArray[np.bool_]]:
        """(S,) bool, True where a segment of a shard is wrong; by what is wrong with it. shape: of its X, as it lies in the file or by
        `as_rows`."""

    def count_trained(self, mask: npt.NDArray[Any], segments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """(S,) targets that are trained of each segment of a shard. mask: as it lies in the file."""

    def wrong_entries(
        self,
        arrays: Mapping[str, npt.NDArray[Any]],
        segments: npt.NDArray[np.int64],
        pad_id: int,
        *,
        pads_trained: bool,
    ) -> Iterator[WrongEntry]:
        """What entries of a shard's arrays cannot hold, some thousand rows at a time. pads_trained: whether the mask may train
        padding."""


class WrongEntry(NamedTuple):
    """A place in a shard where an array cannot hold what it does."""

    array: str  # "X", "Y" or "mask"
    place: tuple[int, ...]  # row and column, or position
    what: str


def blocks(array: npt.NDArray[Any]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    """The array a million entries at a time, each time with the number of its first row."""
    step = max(1, _AT_ONCE // max(math.prod(array.shape[1:]), 1))
    for begin in range(0, len(array), step):
        yield begin, array[begin : begin + step]


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
