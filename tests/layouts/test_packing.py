"""Which conversations share a row, against best fit one by one."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.errors import ConfigError
from sftprep.layouts.packing import pack


def best_fit(lengths: list[int], width: int) -> int:
    """Rows that it takes when each, the longest first, goes where the least is left."""
    left: list[int] = []
    for length in sorted(lengths, reverse=True):
        fitting = [at for at, room in enumerate(left) if room >= length]
        if fitting:
            left[min(fitting, key=lambda at: left[at])] -= length
        else:
            left.append(width - length)
    return len(left)


@given(
    st.integers(1, 60).flatmap(lambda width: st.tuples(st.just(width), st.lists(st.integers(1, width), max_size=80)))
)
def test_every_conversation_is_in_one_row_and_rows_are_those_of_best_fit(drawn: tuple[int, list[int]]) -> None:
    width, lengths = drawn
    packing = pack(np.array(lengths, np.int32), width)
    assert sorted(packing.items.tolist()) == [*range(len(lengths))]
    rows = [packing.items[begin:end].tolist() for begin, end in pairwise(packing.offsets.tolist())]
    assert all(0 < sum(lengths[item] for item in row) <= width for row in rows)
    assert all(row == sorted(row) for row in rows)
    assert len(rows) == best_fit(lengths, width)


def test_conversations_of_a_length_are_dealt_out_in_order() -> None:
    packing = pack(np.array([3, 5, 3, 5, 3, 3]), 8)
    assert [packing.items[a:b].tolist() for a, b in pairwise(packing.offsets)] == [[0, 1], [2, 3], [4, 5]]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint16])
@pytest.mark.parametrize("width", [255, 256, 65_535, 65_536])
def test_rows_are_full_whatever_the_width(width: int, dtype: type) -> None:
    lengths = np.random.default_rng(0).integers(1, min(width, 65_535) + 1, 20_000).astype(dtype)
    packing = pack(lengths, width)
    least = -(-int(lengths.sum()) // width)
    assert least <= len(packing.offsets) - 1 <= 1.03 * least
    assert np.add.reduceat(lengths[packing.items].astype(np.int64), packing.offsets[:-1]).max() <= width


@pytest.mark.parametrize("lengths", [[0], [5], [1, -1]])
def test_what_does_not_fit_is_refused(lengths: list[int]) -> None:
    with pytest.raises(ConfigError, match="from 1 to 4"):
        pack(np.array(lengths), 4)


def test_nothing_takes_no_row() -> None:
    packing = pack(np.zeros(0, np.int64), 4)
    assert (packing.items.tolist(), packing.offsets.tolist()) == ([], [0])
