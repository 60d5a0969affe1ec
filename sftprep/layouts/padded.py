"""Tokens and mask -> rows of the dataset, layout `padded`: one conversation a row.

Each conversation is cut to `length` ids, padded on the right and shifted: X = ids[:-1], Y = ids[1:], mask = mask[1:].
Rows are filled by one gather of fixed-size windows of the flat ids (a copy of memory per row, inside numpy), and what
a window holds beyond its conversation's end is overwritten with the pad id.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sftprep.errors import ConfigError
from sftprep.layouts.cut import cut, cut_off
from sftprep.layouts.types import Rows, WrongEntry, blocks, check_fit, windows
from sftprep.masks.paint import Mask
from sftprep.masks.scan import ScanRule, scan_flat, scan_mask

if TYPE_CHECKING:
    from sftprep.tokens.batch import TokenBatch

by_split = False
_AT_TURNS = ("turns", "split")


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
    """Lay a batch out one conversation a row, `length - 1` wide.

    mask: (T,) bool or float32 over the batch's ids, pads are not trained; or a rule that scans the padded rows, or whole conversations
    where these are cut at turns. Conversations without a trained target within `length` are left out unless `keep_untrained`.
    Raises DatasetError if an id does not fit `dtype`, ConfigError if `length` leaves no target.
    """
    if length is None:
        raise ConfigError("padded rows need a length")
    dtype = np.dtype(dtype)
    check_fit(batch.ids, pad_id, dtype)
    if isinstance(mask, ScanRule) and overflow in _AT_TURNS:
        mask = scan_flat(batch.ids, batch.offsets, mask)
    seen = np.zeros(0, np.bool_) if isinstance(mask, ScanRule) else mask
    pieces = cut(batch.offsets, seen, length, overflow)
    starts, kept = pieces.start, pieces.tokens
    ids = windows(batch.ids, starts, kept, length, pad_id, dtype)
    if isinstance(mask, ScanRule):
        targets = scan_mask(ids, mask)[:, 1:]
    else:
        targets = windows(mask, starts + 1, np.maximum(kept - 1, 0), length - 1, 0, mask.dtype)
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
        conversation=pieces.conversation[chosen],
        tokens=kept[chosen],
        trained=trained[chosen],
        truncated=cut_off(pieces, batch.offsets, seen, overflow)[chosen],
    )


def as_rows(
    arrays: Mapping[str, npt.NDArray[Any]],
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]:
    """They are."""
    return arrays["X"], arrays["Y"], arrays["mask"]


def shapes(rows: int, tokens: int, width: int) -> Mapping[str, tuple[int, ...]]:
    """All three of one shape."""
    return dict.fromkeys(("X", "Y", "mask"), (rows, width))


def rows_of(segments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """As they say."""
    return segments[:, 0]


def wrong_counts(rows: int, segments: int) -> str | None:
    """A row holds one conversation."""
    return None if segments == rows else f"{segments} segments in {rows} padded rows"


def wrong_segments(segments: npt.NDArray[np.int64], shape: tuple[int, ...]) -> dict[str, npt.NDArray[np.bool_]]:
    """Segment r lies at the start of row r."""
    row, start, length = segments.T
    wrong = (row != np.arange(len(segments))) | (start != 0) | (length < 0) | (length > shape[1])
    return {"is not at the start of its row, or does not fit in": wrong}


def count_trained(mask: npt.NDArray[Any], segments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those of each row, its padding included."""
    counts = [np.count_nonzero(some, axis=1) for _, some in blocks(mask)]
    return np.concatenate([np.zeros(0, np.int64), *counts])


def wrong_entries(
    arrays: Mapping[str, npt.NDArray[Any]], segments: npt.NDArray[np.int64], pad_id: int, *, pads_trained: bool
) -> Iterator[WrongEntry]:
    """Y is what follows in X, and after a conversation there is padding."""
    for begin, x in blocks(arrays["X"]):
        y, mask = (arrays[name][begin : begin + len(x)] for name in ("Y", "mask"))
        length = segments[begin : begin + len(x), 2, None]
        positions = np.arange(x.shape[1])
        padding = positions >= length  # of Y and mask
        after_last = positions > length  # X holds one token more
        yield from first_wrong(
            begin,
            {
                ("X", "is not the pad id after the row's last token"): (x != pad_id) & after_last,
                ("Y", "is not the pad id after the last target"): (y != pad_id) & padding,
                ("Y", "is not the token that follows in X"): (y[:, :-1] != x[:, 1:]) & ~padding[:, :-1],
                ("mask", "trains padding"): (mask != 0) & padding & (not pads_trained),
            },
        )


def first_wrong(begin: int, wrong: Mapping[tuple[str, str], npt.NDArray[np.bool_]]) -> Iterator[WrongEntry]:
    """The first wrong place of each kind, in rows from `begin` on; by array and what is wrong."""
    for (array, what), places in wrong.items():
        if places.any():
            row, column = np.unravel_index(np.argmax(places), places.shape)
            yield WrongEntry(array, (begin + int(row), int(column)), what)
