"""How full rows are, and would be."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.statistics.distribution import Distribution
from sftprep.statistics.padding import Padding, packed_rows


def one_by_one(sizes: list[int], width: int) -> int:
    """Best fit, the longest first, a conversation at a time."""
    left: list[int] = []
    for size in sorted((min(size, width) for size in sizes if size), reverse=True):
        room = min((each for each in left if each >= size), default=None)
        if room is None:
            left.append(width - size)
        else:
            left[left.index(room)] -= size
    return len(left)


@given(st.lists(st.integers(0, 40), max_size=60), st.integers(1, 30))
def test_packed_as_one_by_one(sizes: list[int], width: int) -> None:
    assert packed_rows(Distribution.of(np.array(sizes, np.int64)), width) == one_by_one(sizes, width)


def test_share() -> None:
    assert Padding(rows=2, places=20, filled=15, bytes=0, packed_rows=None).share == pytest.approx(0.25)
    assert Padding(rows=0, places=0, filled=0, bytes=0, packed_rows=0).share == 0
