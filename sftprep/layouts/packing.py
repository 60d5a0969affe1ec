"""Lengths -> rows: which conversations share a row, by best fit, longest first, on the histogram of lengths.

To a row, conversations of one length are the same. So rows are filled by counts, thousands of equal rows in one step, and the
conversations of each length are dealt out at the end, in order. That gives the rows of best fit decreasing (D. S. Johnson, Fast
algorithms for bin packing, 1974), in a time that depends on how many lengths there are, besides a sort of N small numbers.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sftprep.errors import ConfigError


@dataclass(frozen=True, slots=True)
class Packing:
    """Which of N conversations lie in which of R rows: row r holds `items[offsets[r] : offsets[r + 1]]`."""

    items: npt.NDArray[np.int64]  # (N,) each index once; rising within a row
    offsets: npt.NDArray[np.int64]  # (R + 1,)


@dataclass(frozen=True, slots=True)
class _Pattern:
    """What rows hold: `times` conversations of one length, and what stood there before."""

    length: int
    times: int
    before: _Pattern | None

    def parts(self) -> Iterator[tuple[int, int]]:
        """Each length, and how many there are of it."""
        at: _Pattern | None = self
        while at is not None:
            yield at.length, at.times
            at = at.before


def pack(lengths: npt.NDArray[np.integer], width: int) -> Packing:
    """Rows of `width` places for conversations of (N,) lengths, from 1 to width. Raises ConfigError for any other length.

    As many rows as best fit decreasing takes; the same for the same lengths. Rows whose conversations have the same lengths stand
    together, the fullest first: to train from them, shuffle.
    """
    if len(lengths) and not 0 < lengths.min() <= lengths.max() <= width:
        raise ConfigError(f"lengths from {lengths.min():,} to {lengths.max():,}; a row takes those from 1 to {width:,}")
    counts = np.bincount(lengths, minlength=1)
    narrow = lengths.astype(np.min_scalar_type(width), copy=False)  # numbers of 16 bits are sorted in one pass
    order = np.argsort(narrow, kind="stable")
    return _dealt(_filled(counts, width), order, np.cumsum(counts) - counts)


def rows_needed(counts: npt.NDArray[np.int64], width: int) -> int:
    """How many rows that takes, for `counts[L]` conversations of each length L."""
    return sum(rows for rows, _ in _filled(counts, width))


def _filled(counts: npt.NDArray[np.int64], width: int) -> list[tuple[int, _Pattern]]:
    """How many rows there are of each pattern, for `counts[L]` conversations of each length L."""
    runs: dict[int, deque[tuple[int, _Pattern | None]]] = {}  # rows that are filled alike, by the places left in them
    left = 0  # bit c is set where there are rows with c places left

    def keep(capacity: int, rows: int, pattern: _Pattern | None, *, first: bool = False) -> None:
        nonlocal left
        if rows:
            some = runs.setdefault(capacity, deque())
            (some.appendleft if first else some.append)((rows, pattern))
            left |= 1 << capacity

    for length in np.flatnonzero(counts)[::-1].tolist():
        count = int(counts[length])
        while count:
            if fitting := left >> length:
                capacity = length + (fitting & -fitting).bit_length() - 1
                rows, before = runs[capacity].popleft()
                if not runs[capacity]:
                    left ^= 1 << capacity
            else:
                capacity, rows, before = width, -(-count // (width // length)), None
            times = capacity // length  # each row takes as many as it can before the next takes any
            full = min(rows, count // times)
            rest = count - full * times if full < rows else 0
            keep(capacity - times * length, full, _Pattern(length, times, before))
            keep(capacity - rest * length, min(rest, 1), _Pattern(length, rest, before))
            keep(capacity, rows - full - min(rest, 1), before, first=True)
            count -= full * times + rest
    return [(rows, pattern) for capacity in sorted(runs) for rows, pattern in runs[capacity] if pattern is not None]


def _dealt(runs: list[tuple[int, _Pattern]], order: npt.NDArray[np.int64], firsts: npt.NDArray[np.int64]) -> Packing:
    """The conversations in their rows. order: (N,) them by length; firsts: where those of each length begin in it."""
    items, sizes, begin = np.empty_like(order), [np.zeros(1, np.int64)], 0
    for rows, pattern in runs:
        parts = [*pattern.parts()]
        size = sum(times for _, times in parts)
        block = items[begin : begin + rows * size].reshape(rows, size)
        column = 0
        for length, times in parts:
            first = firsts[length]
            block[:, column : column + times] = order[first : first + rows * times].reshape(rows, times)
            firsts[length] += rows * times
            column += times
        block.sort(axis=1)
        sizes.append(np.full(rows, size))
        begin += rows * size
    return Packing(items, np.cumsum(np.concatenate(sizes)))
