"""Conversations come out of rows as they were put in, however many share one."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sftprep.layouts.unpack import unpack

Row = list[tuple[list[int], list[bool]]]  # conversations, each ids and mask


def test_by_hand() -> None:
    """Two conversations in one row, one of a single token, and one that fills its row."""
    x = np.array([[5, 6, 7, 8, 0], [9, 0, 0, 0, 0], [1, 2, 3, 4, 5]], np.uint16)
    y = np.array([[6, 7, 8, 9, 0], [0, 0, 0, 0, 0], [2, 3, 4, 5, 6]], np.uint16)
    mask = np.array([[0, 1, 1, 0, 0], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]], np.bool_)
    ids, weights, offsets = unpack(x, y, mask, np.array([[0, 0, 2], [0, 3, 1], [1, 0, 0], [2, 0, 5]]))
    assert offsets.tolist() == [0, 3, 5, 6, 12]
    assert (ids.dtype, ids.tolist()) == (np.uint16, [5, 6, 7, 8, 9, 9, 1, 2, 3, 4, 5, 6])
    assert np.flatnonzero(weights).tolist() == [2, 11]


@st.composite
def packed(draw: st.DrawFn) -> tuple[list[Row], int]:
    """Rows of conversations, and a width that holds the widest."""
    ids = st.lists(st.integers(1, 60_000), min_size=1, max_size=6)
    one = ids.flatmap(
        lambda each: st.tuples(st.just(each), st.lists(st.booleans(), min_size=len(each), max_size=len(each)))
    )
    rows = draw(st.lists(st.lists(one, min_size=1, max_size=3), min_size=1, max_size=4))
    return rows, max(sum(max(len(ids) - 1, 1) for ids, _ in row) for row in rows) + draw(st.integers(0, 3))


@given(packed())
def test_any_rows(case: tuple[list[Row], int]) -> None:
    rows, width = case
    x, y = np.zeros((len(rows), width), np.uint16), np.zeros((len(rows), width), np.uint16)
    mask, segments = np.zeros((len(rows), width), np.bool_), []
    for r, row in enumerate(rows):
        start = 0
        for ids, trained in row:
            x[r, start] = ids[0]
            for t in range(len(ids) - 1):
                x[r, start + t], y[r, start + t], mask[r, start + t] = ids[t], ids[t + 1], trained[t + 1]
            segments.append((r, start, len(ids) - 1))
            start += max(len(ids) - 1, 1)
    found, weights, offsets = unpack(x, y, mask, np.array(segments))
    flat = [each for row in rows for each in row]
    assert len(offsets) == len(flat) + 1
    for (ids, trained), begin, end in zip(flat, offsets, offsets[1:], strict=False):
        assert found[begin:end].tolist() == ids
        assert weights[begin:end].tolist() == [False, *trained[1:]]
