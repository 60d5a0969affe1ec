"""Tokens and mask -> rows of the dataset, layout `packed`: as many whole conversations in a row as fit, the rest of it padding.

Conversations are kept as they are until a split is whole (`ragged`); then it is known which of them share a row (`packing`). Each is
shifted by itself, X = ids[:-1] and Y = ids[1:], so no target is in another conversation than what it follows.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sftprep.layouts.packing import pack
from sftprep.layouts.padded import as_rows, first_wrong, rows_of, shapes
from sftprep.layouts.ragged import lay_out
from sftprep.layouts.types import Rows, WrongEntry, blocks

__all__ = [
    "as_rows",
    "by_split",
    "count_trained",
    "gather",
    "lay_out",
    "rows_of",
    "shapes",
    "wrong_counts",
    "wrong_entries",
    "wrong_segments",
]
by_split = True
_AT_ONCE = 1 << 20  # (x, y) pairs


def gather(parts: Sequence[Rows], width: int, pad_id: int) -> Iterator[Rows]:
    """The rows of a split, some at a time. parts: `lay_out` of its batches, in order."""
    ids, mask = (np.concatenate([getattr(part, name) for part in parts]) for name in ("x", "mask"))
    tokens, trained, truncated = (
        np.concatenate([getattr(part, name) for part in parts]) for name in ("tokens", "trained", "truncated")
    )
    first = np.cumsum(tokens) - tokens
    packing = pack(tokens - 1, width)
    step = max(1, _AT_ONCE // width)
    for begin in range(0, len(packing.offsets) - 1, step):
        some = slice(*packing.offsets[[begin, min(begin + step, len(packing.offsets) - 1)]].tolist())
        items = packing.items[some]
        counts = np.diff(packing.offsets[begin : begin + step + 1])
        x, y, targets, segments = filled(ids, mask, first[items], tokens[items] - 1, counts, width, pad_id)
        own = tokens[items], trained[items], truncated[items]
        yield Rows(x, y, targets, segments, items, *own)


def filled(
    ids: npt.NDArray[Any],
    mask: npt.NDArray[Any],
    first: npt.NDArray[np.int64],
    pairs: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
    width: int,
    pad_id: int,
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.int64]]:
    """X, Y and mask, (R, width) each, and segments (S, 3), of rows that hold `counts[r]` conversations one behind the other.

    ids, mask: (T,) as `ragged` has them. first, pairs: (S,) where the conversations begin in these, and how many (x, y) pairs they are.
    """
    rows = len(counts)
    row = np.repeat(np.arange(rows), counts)
    before = np.cumsum(pairs) - pairs
    start = before - np.repeat(before[np.cumsum(counts) - counts], counts)
    own = np.arange(int(pairs.sum())) - np.repeat(before, pairs)  # place of each pair in its conversation
    source, target = own + np.repeat(first, pairs), own + np.repeat(row * width + start, pairs)
    x, y = (np.full(rows * width, pad_id, ids.dtype) for _ in range(2))
    targets = np.zeros(rows * width, mask.dtype)
    x[target], y[target], targets[target] = ids[source], ids[source + 1], mask[source]
    segments = np.stack([row, start, pairs], axis=1)
    return x.reshape(rows, width), y.reshape(rows, width), targets.reshape(rows, width), segments


def wrong_counts(rows: int, segments: int) -> str | None:
    """A row holds a conversation at least."""
    return None if segments >= rows else f"{segments} segments in {rows} rows"


def wrong_segments(segments: npt.NDArray[np.int64], shape: tuple[int, ...]) -> dict[str, npt.NDArray[np.bool_]]:
    """They lie row by row, in each one behind the other from its start."""
    row, start, length = segments.T
    is_first = np.diff(row, prepend=-1) != 0
    behind = np.append(0, (start + length)[:-1])
    wrong = (length < 1) | (start != np.where(is_first, 0, behind)) | (start > shape[1] - length)
    wrong |= ~np.isin(np.diff(row, prepend=-1), (0, 1))
    wrong[-1:] |= row[-1:] != shape[0] - 1
    return {"is not behind the one before it, or does not fit in": wrong}


def count_trained(mask: npt.NDArray[Any], segments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those of each conversation, (S,)."""
    counts = []
    for begin, some in blocks(mask):
        inside = slice(*np.searchsorted(segments[:, 0], (begin, begin + len(some))))
        row, start, length = segments[inside].T
        counted = np.concatenate(([0], np.cumsum(some.reshape(-1) > 0)))
        at = (row - begin) * some.shape[1] + start
        counts.append(counted[at + length] - counted[at])
    return np.concatenate([np.zeros(0, np.int64), *counts])


def wrong_entries(
    arrays: Mapping[str, npt.NDArray[Any]], segments: npt.NDArray[np.int64], pad_id: int, *, pads_trained: bool
) -> Iterator[WrongEntry]:
    """Y is what follows in X, and behind a row's last conversation there is padding."""
    for begin, x in blocks(arrays["X"]):
        y, mask = (arrays[name][begin : begin + len(x)] for name in ("Y", "mask"))
        inside = slice(*np.searchsorted(segments[:, 0], (begin, begin + len(x))))
        row, start, length = segments[inside].T
        stop = np.zeros(len(x), np.int64)
        stop[row - begin] = start + length  # the last of a row counts
        padding = np.arange(x.shape[1]) >= stop[:, None]
        is_last = np.zeros(x.shape, np.bool_)  # pairs whose y is a conversation's last id: what follows is another's
        is_last[row - begin, start + length - 1] = True
        yield from first_wrong(
            begin,
            {
                ("X", "is not the pad id behind the row's last pair"): (x != pad_id) & padding,
                ("Y", "is not the pad id behind the row's last pair"): (y != pad_id) & padding,
                ("Y", "is not the token that follows in X"): (y[:, :-1] != x[:, 1:]) & ~(padding | is_last)[:, :-1],
                ("mask", "trains padding"): (mask != 0) & padding & (not pads_trained),
            },
        )
