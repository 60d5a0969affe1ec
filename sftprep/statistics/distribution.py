"""Whole numbers, counted exactly: how many there are of each. So quantiles of a hundred million take little memory, and are
those of the numbers themselves."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Numbers = npt.NDArray[np.int64]
PERCENTS = {"min": 0, "p1": 1, "p5": 5, "p25": 25, "p50": 50, "p75": 75, "p95": 95, "p99": 99, "max": 100}


@dataclass(frozen=True, slots=True)
class Bin:
    """How many numbers there are from start to stop, both of them included."""

    start: int
    stop: int
    count: int


def _none() -> Numbers:
    return np.zeros(0, np.int64)


@dataclass(frozen=True, slots=True, eq=False)
class Distribution:
    """Numbers of 0 and more, and how often each of them stands there."""

    values: Numbers = field(default_factory=_none)  # (V,) ascending
    counts: Numbers = field(default_factory=_none)  # (V,) at least 1

    @classmethod
    def of(cls, numbers: npt.NDArray[Any]) -> Distribution:
        """All of these, in any order."""
        values, counts = np.unique(numbers.astype(np.int64), return_counts=True)
        return cls(values, counts)

    @classmethod
    def counted(cls, counts: Mapping[int, int]) -> Distribution:
        """Numbers of which it is known how often each stands there."""
        numbers = np.array(sorted(counts.items()), np.int64).reshape(-1, 2)
        return cls(numbers[:, 0], numbers[:, 1])

    @classmethod
    def joined(cls, parts: Iterable[Distribution]) -> Distribution:
        """All numbers of several."""
        both = list(parts)
        values, at = np.unique(np.concatenate([_none(), *(each.values for each in both)]), return_inverse=True)
        counts = np.zeros(len(values), np.int64)
        np.add.at(counts, at, np.concatenate([_none(), *(each.counts for each in both)]))
        return cls(values, counts)

    @property
    def count(self) -> int:
        """How many numbers there are."""
        return int(self.counts.sum())

    @property
    def total(self) -> int:
        """Their sum."""
        return int(self.values @ self.counts)

    @property
    def mean(self) -> float:
        """0 of none."""
        return self.total / max(self.count, 1)

    def quantile(self, percent: int) -> int:
        """The least number that is not below so many percent of them; of 0 percent the least there is. 0 of none."""
        if not len(self.values):
            return 0
        place = max(1, -(-percent * self.count // 100))  # 1-based, in their order
        return int(self.values[np.searchsorted(np.cumsum(self.counts), place)])

    def quantiles(self) -> dict[str, int]:
        """By the names of PERCENTS."""
        return {name: self.quantile(percent) for name, percent in PERCENTS.items()}

    def above(self, limit: int) -> int:
        """How many are larger."""
        return int(self.counts[np.searchsorted(self.values, limit, "right") :].sum())

    def limit(self, percent: int) -> int:
        """The least of the numbers that not more than so many percent of them are above. 0 of none."""
        if not len(self.values):
            return 0
        above = self.count - np.cumsum(self.counts)
        return int(self.values[np.argmax(above * 100 <= percent * self.count)])

    def cut(self, limit: int) -> Distribution:
        """The same numbers, those above a limit cut down to it."""
        below = self.values <= limit
        rest = Distribution(np.array([limit]), np.array([self.above(limit)])) if not below.all() else Distribution()
        return Distribution.joined([Distribution(self.values[below], self.counts[below]), rest])

    def histogram(self) -> tuple[Bin, ...]:
        """Bins that end at the powers of two (0, 1, 2, 3 to 4, 5 to 8, ...), from the first to the last that holds a number."""
        if not len(self.values):
            return ()
        # 0 is in bin 0, and a number n above it in bin 1 + (bits of n - 1)
        number = np.where(self.values > 0, 1 + np.frexp(np.maximum(self.values - 1, 0))[1], 0)
        counts = np.zeros(number[-1] + 1, np.int64)
        np.add.at(counts, number, self.counts)
        return tuple(Bin(*_ends(each), int(counts[each])) for each in range(number[0], number[-1] + 1))


def _ends(number: int) -> tuple[int, int]:
    """The first and the last number of a bin."""
    return (number, number) if number < 2 else (2 ** (number - 2) + 1, 2 ** (number - 1))


def by_code(codes: npt.NDArray[Any], numbers: npt.NDArray[Any], size: int) -> list[Distribution]:
    """Of each code from 0 to `size` - 1 the numbers that have it. codes, numbers: (N,)."""
    span = int(numbers.max(initial=0)) + 1
    pairs, counts = np.unique(codes.astype(np.int64) * span + numbers, return_counts=True)
    code, value = np.divmod(pairs, span)
    cuts = np.searchsorted(code, np.arange(size + 1)).tolist()
    return [Distribution(value[cuts[at] : cuts[at + 1]], counts[cuts[at] : cuts[at + 1]]) for at in range(size)]
