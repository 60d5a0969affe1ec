"""What is kept of long conversations, against a walk over each of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.errors import ConfigError
from sftprep.layouts.cut import cut
from sftprep.layouts.kinds import OVERFLOWS

MASKS = st.lists(st.lists(st.booleans(), max_size=25), max_size=6)


def walked(mask: list[bool], limit: int, overflow: str) -> list[tuple[int, int]]:
    """Start and stop of each piece of one conversation."""
    size = len(mask)
    if size <= limit:
        return [(0, size)]
    if overflow == "drop":
        return []
    if overflow == "truncate":
        return [(0, limit)]
    ends = [at + 1 for at in range(1, size) if mask[at] and (at + 1 == size or not mask[at + 1])]
    pieces, at = [], 0
    while at < size:
        fitting = [end for end in ends if at < end <= at + limit]
        if fitting:
            pieces.append((at, fitting[-1]))
            at = fitting[-1]
        else:
            at = next((end for end in ends if end > at), size)
        if overflow == "turns":
            break
    return pieces


@given(MASKS, st.integers(2, 12), st.sampled_from(["truncate", "turns", "split", "drop"]))
def test_pieces_are_those_of_a_walk(masks: list[list[bool]], limit: int, overflow: str) -> None:
    offsets = np.cumsum([0, *map(len, masks)])
    flat = np.array([each for mask in masks for each in mask], np.bool_)
    before = flat.copy()
    pieces = cut(offsets, flat, limit, overflow)
    expected = [
        (number, int(offsets[number]) + start, stop - start)
        for number, mask in enumerate(masks)
        for start, stop in walked(mask, limit, overflow)
    ]
    found = zip(pieces.conversation.tolist(), pieces.start.tolist(), pieces.tokens.tolist(), strict=True)
    assert sorted(found) == expected
    assert (flat == before).all()
    assert (np.diff(pieces.conversation) >= 0).all()


def test_without_a_limit_all_is_kept() -> None:
    for overflow in OVERFLOWS:
        pieces = cut(np.array([0, 3, 3, 9]), np.zeros(9, np.bool_), None, overflow)
        assert (pieces.tokens.tolist(), pieces.conversation.tolist()) == ([3, 0, 6], [0, 1, 2])


def test_a_limit_without_a_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 ids or more"):
        cut(np.array([0, 9]), np.zeros(9, np.bool_), 1)
