"""The order of an epoch: a permutation, the same whatever part of it is asked for, today and in later releases."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytest.importorskip("torch")

from sftprep.reader.order import Order, OrderOptions, permuted

GOLDEN = {  # of epoch 3 of 1,000 samples under seed 42: the first, and the sha256 of all
    OrderOptions(): ([384, 759, 15, 103, 490, 675, 515, 487], "ec0d63977eee72b2"),
    OrderOptions(shuffle=False): ([0, 1, 2, 3, 4, 5, 6, 7], "702746827e553786"),
    OrderOptions(block=3): ([828, 830, 218, 354, 356, 826, 790, 546], "c2524eeaa9d0d49d"),
    OrderOptions(group=4): ([57, 415, 94, 489, 537, 290, 969, 327], "4a3d73abd0ff0581"),
    OrderOptions(block=5, group=2): ([811, 959, 908, 624, 729, 877, 925, 962], "4e954271f0acfade"),
}


@settings(max_examples=40)
@given(st.integers(1, 600), st.integers(0, 2**64 - 1))
def test_it_is_a_permutation(count: int, key: int) -> None:
    assert sorted(permuted(np.arange(count), count, key).tolist()) == list(range(count))


@settings(max_examples=40)
@given(st.integers(1, 2**62), st.integers(0, 2**64 - 1))
def test_any_place_of_a_range_of_any_size(count: int, key: int) -> None:
    places = np.array([0, count // 2, count - 1])
    taken = permuted(places, count, key).tolist()
    assert all(0 <= each < count for each in taken)
    assert len({*taken}) == len({*places.tolist()})
    assert [permuted(places[at : at + 1], count, key).item() for at in range(3)] == taken


def test_every_order_of_four_is_as_likely() -> None:
    """Chi squared with 23 degrees of freedom: above 50 in one of a thousand."""
    orders = [tuple(permuted(np.arange(4), 4, key).tolist()) for key in range(2400)]
    counts = np.unique(orders, axis=0, return_counts=True)[1]
    assert len(counts) == 24
    assert ((counts - 100) ** 2 / 100).sum() < 50


def test_every_sample_is_as_likely_at_every_place() -> None:
    """81 degrees of freedom: above 125 in one of a thousand."""
    counts = np.zeros((10, 10))
    for key in range(2000):
        counts[np.arange(10), permuted(np.arange(10), 10, key)] += 1
    assert ((counts - 200) ** 2 / 200).sum() < 125


@pytest.mark.parametrize("count", [1000, 65_536, 100_003])
def test_places_and_neighbours_say_nothing(count: int) -> None:
    """Correlations of random orders are within 4 / sqrt(count)."""
    first, second = (permuted(np.arange(count), count, key) for key in (1, 2))
    most = 4 / np.sqrt(count)
    assert abs(np.corrcoef(np.arange(count), first)[0, 1]) < most
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < most
    assert abs(np.corrcoef(first, second)[0, 1]) < most


@settings(max_examples=40)
@given(st.data(), st.integers(1, 200), st.sampled_from([*GOLDEN]), st.integers(0, 3))
def test_an_epoch_holds_every_sample_once_in_whatever_parts(
    data: st.DataObject, count: int, options: OrderOptions, epoch: int
) -> None:
    lengths = np.random.default_rng(count).integers(1, 50, count)
    whole = Order(count, 7, epoch, options, lengths).take(0, count).tolist()
    assert sorted(whole) == list(range(count))
    cuts = sorted({0, count, *data.draw(st.lists(st.integers(0, count), max_size=5))})
    order = Order(count, 7, epoch, options, lengths)
    assert [each for cut in pairwise(cuts) for each in order.take(*cut).tolist()] == whole
    begin, end = sorted(data.draw(st.tuples(st.integers(0, 3 * count), st.integers(0, 3 * count))))
    assert order.take(begin, end).tolist() == (whole * 3)[begin:end]


def test_seeds_epochs_and_sizes_have_orders_of_their_own() -> None:
    made = [
        Order(count, seed, epoch, OrderOptions()).take(0, 100).tolist()
        for count, seed, epoch in [(100, 0, 0), (100, 0, 1), (100, 1, 0), (100, -1, 0), (101, 0, 0)]
    ]
    assert len({tuple(each) for each in made}) == 5


def test_groups_are_of_like_length() -> None:
    lengths = np.random.default_rng(0).integers(1, 1000, 20_000)
    order = Order(20_000, 0, 0, OrderOptions(group=64), lengths)
    groups = lengths[order.take(0, 19_200)].reshape(-1, 64)
    assert np.ptp(groups, axis=1).mean() < 25  # of 999; a group is a fiftieth of those that are sorted together
    assert abs(np.corrcoef(np.arange(300), groups.mean(axis=1))[0, 1]) < 0.2  # and they come in any order


def test_blocks_are_read_together() -> None:
    """Any 1,600 samples that follow each other lie in some 32 of a thousand blocks of 100."""
    samples = Order(100_000, 0, 0, OrderOptions(block=100)).take(50_000, 51_600)
    assert len(np.unique(samples // 100)) <= 4 * 16 + 4
    assert len(np.unique(samples[:64] // 100)) > 12  # a batch is drawn from many


def test_what_does_not_fill_a_block_is_another_in_every_epoch() -> None:
    last = [frozenset(Order(103, 0, epoch, OrderOptions(block=10)).take(100, 103).tolist()) for epoch in range(20)]
    assert len({*last}) > 10


@pytest.mark.parametrize("options", [*GOLDEN])
def test_the_order_stays_what_it_was(options: OrderOptions) -> None:
    """A run that was stopped under an older release goes on as it would have: never change these."""
    samples = Order(1000, 42, 3, options, np.arange(1000) * 7919 % 1000).take(0, 1000)
    first, whole = GOLDEN[options]
    assert samples[:8].tolist() == first
    assert hashlib.sha256(samples.astype("<i8").tobytes()).hexdigest()[:16] == whole


def test_a_large_order_stays_what_it_was() -> None:
    assert Order(10**12, 42, 3, OrderOptions()).take(10**11, 10**11 + 4).tolist() == [
        348839952745,
        662384150485,
        747349007296,
        62139311128,
    ]
