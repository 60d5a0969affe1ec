"""Repeats are found as a dictionary finds them, however keys are cut into parts and dealt out."""

from __future__ import annotations

from itertools import accumulate
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sftprep.sets import repeats
from sftprep.sets.repeats import NO_KEY, Keys, as_keys, count_among, first_of_each

# so few that they repeat, and such as differ in one half only, in the last byte, or are no key at all
KEYS = [
    NO_KEY,
    *(bytes([a, *bytes(6), b, *bytes(6), c, d]) for a in (0, 1) for b in (0, 9) for c in (0, 1) for d in (0, 2)),
]


def parts() -> st.SearchStrategy[list[list[bytes]]]:
    return st.lists(st.lists(st.sampled_from(KEYS), max_size=9), min_size=1, max_size=5)


def keys_of(part: list[bytes]) -> Keys:
    return as_keys(b"".join(part))


@given(parts(), st.sampled_from([1, 2, 5, 1 << 23]))
def test_the_first_of_each(given_parts: list[list[bytes]], at_once: int) -> None:
    arrays = list(map(keys_of, given_parts))
    with patch.object(repeats, "_AT_ONCE", at_once):
        found = first_of_each(list(map(len, arrays)), arrays.__getitem__)
    seen: dict[bytes, int] = {}
    flat = [key for part in given_parts for key in part]
    assert found.tolist() == [index if key == NO_KEY else seen.setdefault(key, index) for index, key in enumerate(flat)]
    assert len(found) == [*accumulate(map(len, given_parts), initial=0)][-1]


@given(parts(), st.lists(st.sampled_from(KEYS), max_size=9))
def test_how_many_are_among_others(given_parts: list[list[bytes]], others: list[bytes]) -> None:
    expected = sum(key in others for part in given_parts for key in part)
    assert count_among(map(keys_of, given_parts), keys_of(others)) == expected


def test_many_keys_take_little_memory_beside_them() -> None:
    """The keys are dealt out so that 16 bytes a key are never copied whole."""
    keys = np.random.default_rng(0).integers(1, 2**63, (1 << 18, 2)).astype(np.uint64)
    keys[1::2] = keys[::2]
    asked: list[int] = []

    def part(number: int) -> Keys:
        asked.append(number)
        return keys[number * 1024 : (number + 1) * 1024]

    with patch.object(repeats, "_AT_ONCE", 1 << 15):
        found = first_of_each([1024] * 256, part)
    assert asked == [*range(256)] * 8
    assert (found == np.arange(len(keys)) // 2 * 2).all()
