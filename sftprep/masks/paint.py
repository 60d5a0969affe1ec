"""Runs of tokens -> a mask over a flat token array, by one `np.repeat`.

Masks lie over the ids themselves, one entry a token, before the shift to X and Y.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

IntArray = npt.NDArray[np.int64]
Mask = npt.NDArray[Any]  # bool, or float32 where some weight is neither 0 nor 1


def paint(starts: IntArray, stops: IntArray, size: int, weights: npt.NDArray[np.float32] | None = None) -> Mask:
    """(size,) bool, True inside the runs `[starts[k], stops[k])`; float32 with each run's weight where some are given.

    The runs must be in order and must not overlap (ValueError). Weights that are all 0 or 1 still give a bool mask.
    """
    if weights is not None and np.isin(weights, (0.0, 1.0)).all():
        trained = weights != 0
        starts, stops, weights = starts[trained], stops[trained], None
    edges = np.empty(2 * len(starts) + 2, np.int64)
    edges[0], edges[1:-1:2], edges[2:-1:2], edges[-1] = 0, starts, stops, size
    values: Mask = np.zeros(2 * len(starts) + 1, np.bool_ if weights is None else np.float32)
    values[1::2] = True if weights is None else weights
    return np.repeat(values, np.diff(edges))
