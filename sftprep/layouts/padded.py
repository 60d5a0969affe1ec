"""Tokens and mask -> rows of the dataset, layout `padded`: one conversation a row.

Each conversation is cut to `length` ids, padded on the right and shifted: X = ids[:-1], Y = ids[1:], mask = mask[1:].
Rows are filled by one gather of fixed-size windows of the flat ids (a copy of memory per row, inside numpy), and what
a window holds beyond its conversation's end is overwritten with the pad id.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sftprep.errors import ConfigError
from sftprep.layouts.types import Block, Rows, check_fit, windows
from sftprep.masks.paint import Mask
from sftprep.masks.scan import ScanRule, scan_mask

if TYPE_CHECKING:
    from sftprep.tokens.batch import TokenBatch


def lay_out(
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
    check_fit(batch.ids, pad_id, dtype)
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
        conversation=chosen,
        tokens=kept[chosen],
        trained=trained[chosen],
        truncated=(tokens > length)[chosen],
    )


def wrong_counts(rows: int, segments: int) -> str | None:
    """A row holds one conversation."""
    return None if segments == rows else f"{segments} segments in {rows} padded rows"


def wrong_segments(segments: npt.NDArray[np.int64], width: int) -> dict[str, npt.NDArray[np.bool_]]:
    """Segment r lies at the start of row r."""
    row, start, length = segments.T
    wrong = (row != np.arange(len(segments))) | (start != 0) | (length < 0) | (length > width)
    return {"is not at the start of its row, or does not fit in": wrong}


def count_trained(mask: npt.NDArray[Any], segments: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Those of each row, its padding included."""
    counts: npt.NDArray[np.int64] = np.count_nonzero(mask, axis=1)
    return counts


def wrong_rows(
    block: Block, segments: npt.NDArray[np.int64], pad_id: int, *, pads_trained: bool
) -> dict[tuple[str, str], npt.NDArray[np.bool_]]:
    """Y is what follows in X, and after a conversation there is padding."""
    _, x, y, mask = block
    length = segments[block.first : block.first + len(x), 2, None]
    positions = np.arange(x.shape[1])
    padding = positions >= length  # of Y and mask
    after_last = positions > length  # X holds one token more
    return {
        ("X", "is not the pad id after the row's last token"): (x != pad_id) & after_last,
        ("Y", "is not the pad id after the last target"): (y != pad_id) & padding,
        ("Y", "is not the token that follows in X"): (y[:, :-1] != x[:, 1:]) & ~padding[:, :-1],
        ("mask", "trains padding"): (mask != 0) & padding & (not pads_trained),
    }
