"""Partners are those that a loop over dictionaries finds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sftprep.compare.matching import codes, match, together

Keys = Sequence[tuple[int, int, int]]


def matched_by_hand(a: Keys, b: Keys, stages: Sequence[Sequence[int]]) -> list[tuple[int, int]]:
    """Stage by stage, each of A takes the first of B that is left and has the same of these numbers."""
    pairs: dict[int, int] = {}
    for stage in stages:
        left: dict[tuple[int, ...], list[int]] = {}
        for number, key in enumerate(b):
            if number not in pairs.values():
                left.setdefault(tuple(key[at] for at in stage), []).append(number)
        for number, key in enumerate(a):
            if number not in pairs and (rest := left.get(tuple(key[at] for at in stage))):
                pairs[number] = rest.pop(0)
    return sorted(pairs.items())


keys = st.lists(st.tuples(*[st.integers(0, 3)] * 3), max_size=12)


@given(keys, keys)
def test_any_keys(a: Keys, b: Keys) -> None:
    columns = [codes(*(np.array([key[at] for key in keys], np.int64) for keys in (a, b))) for at in range(3)]
    found = match([together(*columns), together(columns[0], columns[1]), columns[0], columns[2]])
    pairs = list(zip(found.a.tolist(), found.b.tolist(), strict=True))
    assert pairs == matched_by_hand(a, b, [(0, 1, 2), (0, 1), (0,), (2,)])
    assert found.only_a.tolist() == [each for each in range(len(a)) if each not in found.a]
    assert found.only_b.tolist() == [each for each in range(len(b)) if each not in found.b]


def test_codes_of_hashes() -> None:
    """A zero byte at the end of a hash is a byte as any other."""
    a, b = np.array([b"x\0", b"xy", b"x\0"], "S2"), np.array([b"xy", b"zz"], "S2")
    of_a, of_b = codes(a, b)
    assert (of_a[0] == of_a[2], of_a[1] == of_b[0], len({*of_a.tolist(), *of_b.tolist()})) == (True, True, 3)
