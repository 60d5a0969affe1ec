"""Which of so many conversations of one dataset is which of another's, by keys of ever less exactness.

All in sorted arrays: some 50 bytes a conversation, and no object for any of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int64]
Codes = tuple[Indices, Indices]  # of A's and of B's conversations: small numbers that are equal where something is


class Matched(NamedTuple):
    """Indices of conversations."""

    a: Indices  # (P,) those of A that have a partner, in order
    b: Indices  # (P,) their partners
    only_a: Indices
    only_b: Indices


def codes(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> Codes:
    """The codes of values of any kind that numpy can sort."""
    _, inverse = np.unique(np.concatenate([a, b]), return_inverse=True)
    return inverse[: len(a)].astype(np.int64), inverse[len(a) :].astype(np.int64)


def together(first: Codes, *others: Codes) -> Codes:
    """The codes of several things at once: equal where all of them are."""
    for other in others:
        most = max((int(each.max(initial=0)) for each in other), default=0) + 1
        first = codes(first[0] * most + other[0], first[1] * most + other[1])
    return first


def match(stages: Sequence[Codes]) -> Matched:
    """Partners by the first stage in which two are equal: of several that are, the k-th of A and the k-th of B."""
    left_a, left_b = (np.arange(len(each), dtype=np.int64) for each in stages[0])
    pairs: list[tuple[Indices, Indices]] = []
    for of_a, of_b in stages:
        at_a, at_b = _same(of_a[left_a], of_b[left_b])
        pairs.append((left_a[at_a], left_b[at_b]))
        left_a, left_b = np.delete(left_a, at_a), np.delete(left_b, at_b)
    a, b = (np.concatenate(each) for each in zip(*pairs, strict=True))
    order = np.argsort(a)
    return Matched(a[order], b[order], left_a, left_b)


def _same(a: Indices, b: Indices) -> tuple[Indices, Indices]:
    """Where in two arrays the same entry stands, the k-th time in both."""
    numbered = together((a, b), (_times_before(a), _times_before(b)))
    _, at_a, at_b = np.intersect1d(*numbered, assume_unique=True, return_indices=True)
    return at_a, at_b


def _times_before(entries: Indices) -> Indices:
    """How often each entry stood before."""
    order = np.argsort(entries, kind="stable")
    places = np.arange(len(entries))
    is_first = np.diff(entries[order], prepend=-1) != 0
    times = np.empty(len(entries), np.int64)
    times[order] = places - np.maximum.accumulate(np.where(is_first, places, 0))
    return times
