"""The way back: rows -> the conversations in them, as they were tokenized."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

_PAIRS_AT_ONCE = 1 << 20


def unpack(
    x: npt.NDArray[Any], y: npt.NDArray[Any], mask: npt.NDArray[Any], segments: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.int64]]:
    """Ids (T,), weights (T,) and offsets (E + 1,) of what lies in rows.

    x, y, mask: (R, W). segments: (E, 3) row, start, length in (x, y) pairs: n pairs are n + 1 ids, the first of x and all of y.
    """
    row, start, pairs = segments.T
    offsets = np.concatenate(([0], np.cumsum(pairs + 1)))
    begins = row * x.shape[1] + start  # of each one's first pair, in the flat rows
    pair = np.arange(offsets[-1]) - np.repeat(offsets[:-1] - begins, pairs + 1) - 1
    pair[offsets[:-1]] = begins  # of a first id no pair has the target
    ids, weights = y.reshape(-1)[pair], mask.reshape(-1)[pair]
    ids[offsets[:-1]] = x.reshape(-1)[begins]
    weights[offsets[:-1]] = 0
    return ids, weights, offsets


def stretches(pairs: npt.NDArray[np.int64]) -> Iterator[tuple[int, int]]:
    """Where stretches of about a million pairs begin and end, of segments of (S,) pairs."""
    ends = np.cumsum(pairs)
    cuts = np.searchsorted(ends, np.arange(0, ends[-1] if len(ends) else 0, _PAIRS_AT_ONCE)[1:], side="right")
    yield from pairwise(np.unique([0, *cuts, len(pairs)]).tolist())
