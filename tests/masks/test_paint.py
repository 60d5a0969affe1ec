"""Runs painted over a flat mask."""

from __future__ import annotations

import numpy as np
import pytest

from sftprep.masks.paint import paint


def test_paint() -> None:
    starts, stops = np.array([1, 3, 5]), np.array([3, 3, 6])
    assert paint(starts, stops, 7).tolist() == [False, True, True, False, False, True, False]
    weights = np.array([0.5, 1, 1], np.float32)
    assert paint(starts, stops, 7, weights).tolist() == [0, 0.5, 0.5, 0, 0, 1, 0]
    assert paint(starts, stops, 7, weights).dtype == np.float32
    assert paint(starts, stops, 7, np.array([0, 1, 1], np.float32)).tolist() == [False] * 5 + [True, False]
    assert paint(starts[:0], stops[:0], 2).tolist() == [False, False]


def test_paint_refuses_runs_that_overlap() -> None:
    with pytest.raises(ValueError):
        paint(np.array([0, 2]), np.array([3, 4]), 5)
