"""Tokens and mask -> the dataset, layout `ragged`: ids as they are, one conversation after another, without padding.

X is one-dimensional; the target of X[t] is X[t + 1], and mask[t] says whether it is trained: False at a conversation's last id, so
that nothing is learned across conversations. Rows are made of it by whoever reads it, of any width.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sftprep.layouts.cut import cut, cut_off
from sftprep.layouts.types import Rows, WrongEntry, blocks, check_fit
from sftprep.masks.paint import Mask, paint
from sftprep.masks.scan import ScanRule, scan_flat

if TYPE_CHECKING:
    from sftprep.tokens.batch import TokenBatch

by_split = False
_AT_ONCE = 1 << 20  # tokens


def lay_out(
    batch: TokenBatch,
    mask: Mask | ScanRule,
    length: int | None,
    pad_id: int,
    dtype: npt.DTypeLike,
    *,
    overflow: str = "truncate",
    keep_untrained: bool = False,
) -> Rows:
    """A batch's conversations, cut to `length` ids.

    mask: (T,) bool or float32 over the batch's ids, or a rule that scans each conversation. Conversations without a trained target are
    left out unless `keep_untrained`, those of a single id always. Raises DatasetError if an id does not fit `dtype`.
    """
    dtype = np.dtype(dtype)
    check_fit(batch.ids, pad_id, dtype)
    targets = scan_flat(batch.ids, batch.offsets, mask) if isinstance(mask, ScanRule) else mask.copy()
    pieces = cut(batch.offsets, targets, length, overflow)
    targets[pieces.start[pieces.tokens > 0]] = 0  # nothing predicts a first id
    counted = np.concatenate(([0], np.cumsum(targets > 0)))
    trained = counted[pieces.start + pieces.tokens] - counted[pieces.start]
    kept = np.flatnonzero((trained > 0) | keep_untrained & (pieces.tokens > 1))
    start, tokens, conversation = pieces.start[kept], pieces.tokens[kept], pieces.conversation[kept]
    inside = paint(start, start + tokens, batch.ids.size)
    own = targets[inside]
    ends = np.cumsum(tokens)
    following = np.zeros_like(own)
    following[:-1] = own[1:]
    following[ends - 1] = 0
    segments = np.stack([np.zeros_like(ends), ends - tokens, tokens - 1], axis=1)
    return Rows(
        x=batch.ids[inside].astype(dtype),
        y=None,
        mask=following,
        segments=segments,
        conversation=conversation,
        tokens=tokens,
        trained=trained[kept],
        truncated=cut_off(pieces, batch.offsets, targets, overflow)[kept],
    )


def as_rows(
    arrays: Mapping[str, npt.NDArray[Any]],
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """One long row: X (1, T), Y (1, T - 1), mask (1, T)."""
    x, mask = arrays["X"], arrays["mask"]
    return x[None], x[None, 1:], mask[None]


def shapes(rows: int, tokens: int, width: int) -> Mapping[str, tuple[int, ...]]:
    """There is no Y: it is X, one id later."""
    return {"X": (tokens,), "mask": (tokens,)}


def rows_of(segments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Each conversation counts as one."""
    return np.arange(len(segments))


def wrong_counts(rows: int, segments: int) -> str | None:
    """Each conversation is a row of its own length."""
    return None if segments == rows else f"{segments} segments for {rows} conversations"


def wrong_segments(segments: npt.NDArray[np.int64], shape: tuple[int, ...]) -> dict[str, npt.NDArray[np.bool_]]:
    """They lie one behind the other, from the first id to the last."""
    row, start, length = segments.T
    ends = start + length + 1
    wrong = (row != 0) | (length < 0) | (start != np.append(0, ends[:-1]))
    wrong[-1:] |= ends[-1:] != shape[-1]
    return {"does not begin where the one before it ends, or goes beyond X": wrong}


def count_trained(mask: npt.NDArray[Any], segments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those of each conversation, (S,)."""
    counts = np.zeros(len(segments), np.int64)
    for begin, some in blocks(mask):
        trained = begin + np.flatnonzero(some > 0)
        np.add.at(counts, np.searchsorted(segments[:, 1], trained, side="right") - 1, 1)
    return counts


def wrong_entries(
    arrays: Mapping[str, npt.NDArray[Any]], segments: npt.NDArray[np.int64], pad_id: int, *, pads_trained: bool
) -> Iterator[WrongEntry]:
    """Nothing is trained behind a conversation's last id."""
    mask, last = arrays["mask"], segments[:, 1] + segments[:, 2]
    for begin in range(0, len(last), _AT_ONCE):
        some = last[begin : begin + _AT_ONCE]
        for place in some[mask[some] != 0][:1].tolist():
            yield WrongEntry("mask", (place,), "trains what follows a conversation's last id")
