"""Counted numbers tell what the numbers themselves would."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.statistics.distribution import PERCENTS, Bin, Distribution, by_code

NUMBERS = st.lists(st.one_of(st.integers(0, 70), st.sampled_from([2**20 - 1, 2**20, 2**20 + 1, 2**31])), max_size=60)
SOME = NUMBERS.filter(bool)


def of(numbers: list[int]) -> Distribution:
    return Distribution.of(np.array(numbers, np.int64))


def listed(found: Distribution) -> list[int]:
    """The numbers, ascending."""
    assert np.all(found.counts > 0)
    return [
        value for value, count in zip(found.values.tolist(), found.counts.tolist(), strict=True) for _ in range(count)
    ]


@given(SOME)
def test_quantiles(numbers: list[int]) -> None:
    ordered = sorted(numbers)
    for name, quantile in of(numbers).quantiles().items():
        place = -(-PERCENTS[name] * len(ordered) // 100)  # so many of them are not above it, at least
        assert quantile == ordered[max(place, 1) - 1]
    for percent in (0, 25, 50, 75, 100):  # shares that binary fractions hold exactly
        assert of(numbers).quantile(percent) == np.quantile(numbers, percent / 100, method="inverted_cdf")


@given(NUMBERS, NUMBERS, st.integers(0, 2**31))
def test_what_is_told_of_them(numbers: list[int], more: list[int], limit: int) -> None:
    found = of(numbers)
    assert listed(found) == sorted(numbers)
    assert (found.count, found.total) == (len(numbers), sum(numbers))
    assert found.mean == pytest.approx(np.mean(numbers) if numbers else 0)
    assert listed(Distribution.joined([found, of(more)])) == sorted(numbers + more)
    assert listed(Distribution.counted({number: numbers.count(number) for number in numbers})) == sorted(numbers)
    for each in (limit, *numbers[:3]):
        assert found.above(each) == sum(number > each for number in numbers)
        assert listed(found.cut(each)) == sorted(min(number, each) for number in numbers)


@given(SOME, st.integers(0, 100))
def test_a_limit_that_few_are_above(numbers: list[int], percent: int) -> None:
    limit = of(numbers).limit(percent)
    few = [number for number in numbers if sum(each > number for each in numbers) * 100 <= percent * len(numbers)]
    assert limit == min(few)


@given(NUMBERS)
def test_histogram(numbers: list[int]) -> None:
    bins = of(numbers).histogram()
    assert [each.count for each in bins] == [
        sum(each.start <= number <= each.stop for number in numbers) for each in bins
    ]
    assert sum(each.count for each in bins) == len(numbers)
    assert all(each.stop & (each.stop - 1) == 0 for each in bins)
    assert all(next_one.start == each.stop + 1 for each, next_one in pairwise(bins))
    assert not bins or (bins[0].count and bins[-1].count)


def test_histogram_golden() -> None:
    assert of([0, 1, 2, 3, 4, 5, 8, 9, 33]).histogram() == (
        Bin(0, 0, 1),
        Bin(1, 1, 1),
        Bin(2, 2, 1),
        Bin(3, 4, 2),
        Bin(5, 8, 2),
        Bin(9, 16, 1),
        Bin(17, 32, 0),
        Bin(33, 64, 1),
    )


def test_of_nothing() -> None:
    none = Distribution()
    assert (none.count, none.total, none.mean, none.quantile(50), none.limit(1), none.above(3)) == (0, 0, 0, 0, 0, 0)
    assert (none.histogram(), listed(none.cut(3)), listed(Distribution.joined([]))) == ((), [], [])


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 2**31)), max_size=40))
def test_by_code(pairs: list[tuple[int, int]]) -> None:
    codes, numbers = np.array(pairs, np.int64).reshape(-1, 2).T
    found = by_code(codes.astype(np.int32), numbers, 5)
    assert [listed(each) for each in found] == [sorted(n for code, n in pairs if code == at) for at in range(5)]
