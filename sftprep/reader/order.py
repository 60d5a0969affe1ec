"""The order of an epoch's samples, as a function of their place in it: no list of all is made, and any part can be asked for.

A shuffle is a permutation by a Feistel network, whose halves are mixed by the last steps of SplitMix64; its domain is a power of
four, so numbers outside of the range are sent through again until they fall inside (cycle walking; Black and Rogaway, 2002).
The order must not change between releases: a run that is resumed goes by it.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
NO_LENGTHS: Ints = np.zeros(0, np.int64)
_ROUNDS = 6
_GOLDEN = 0x9E3779B97F4A7C15
_MOST = 2**64
_BLOCKS = 16  # blocks among whose rows a batch is drawn
_GROUPS = 50  # groups among whose samples those of like length are found
_AT_ONCE = 8192  # samples whose places are worked out together
_ROWS, _BLOCK, _IN_BLOCKS, _OFFSET, _GROUP = range(5)  # what a key is for


@dataclass(frozen=True, slots=True)
class OrderOptions:
    """What decides the order of the samples, beside their number and lengths, the seed and the epoch."""

    shuffle: bool = True
    block: int = 0  # rows that lie one after another and are read at about the same time; 0: any row at any time
    group: int = 0  # samples of like length that follow each other; 0: of any length

    @property
    def kind(self) -> tuple[bool, int, bool]:
        """What has to be the same where another job goes on: the size of the groups may be another."""
        return self.shuffle, self.block, self.group > 0

    def as_state(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


class Order:
    """An epoch of `count` samples. lengths: (count,) int64, for groups of like length."""

    def __init__(self, count: int, seed: int, epoch: int, options: OrderOptions, lengths: Ints = NO_LENGTHS) -> None:
        self._count, self._options, self._lengths = count, options, lengths
        self._key = _derived(_derived(seed % _MOST, epoch), count)
        self._at_once = options.group * _GROUPS or _AT_ONCE
        self._parts: dict[int, Ints] = {}

    def take(self, begin: int, end: int) -> Ints:
        """The samples from place `begin` to `end`. Beyond the last one it starts again with the first."""
        taken = [np.zeros(0, np.int64)]
        while begin < end:
            lap = begin // self._count * self._count
            number = (begin - lap) // self._at_once
            first = lap + number * self._at_once
            part = self._part(number)
            taken.append(part[begin - first : end - first])
            begin = first + len(part)
        return np.concatenate(taken)

    def _part(self, number: int) -> Ints:
        if number not in self._parts:
            self._parts = dict(list(self._parts.items())[-1:])  # the one before may be asked for again
            first = number * self._at_once
            places = np.arange(first, min(first + self._at_once, self._count))
            samples = self._samples(places)
            self._parts[number] = self._grouped(samples, number) if self._options.group else samples
        return self._parts[number]

    def _samples(self, places: Ints) -> Ints:
        if not self._options.shuffle:
            return places
        if not self._options.block:
            return permuted(places, self._count, _derived(self._key, _ROWS))
        return self._in_blocks(places, self._options.block)

    def _in_blocks(self, places: Ints, block: int) -> Ints:
        """Blocks in shuffled order; the rows of some blocks that follow each other are shuffled among themselves. What does
        not fill a block comes last: other rows in every epoch, as the blocks begin at another row."""
        window = block * _BLOCKS
        mixed = [
            first + permuted(places[places // window == first // window] - first, min(window, self._count - first),
                             _derived(_derived(self._key, _IN_BLOCKS), first))
            for first in range(int(places[0]) // window * window, int(places[-1]) + 1, window)
        ]  # fmt: skip
        within = np.concatenate(mixed)
        blocks = self._count // block
        whole = within < blocks * block
        within[whole] = (
            permuted(within[whole] // block, blocks, _derived(self._key, _BLOCK)) * block + within[whole] % block
        )
        return (within + _derived(self._key, _OFFSET) % self._count) % self._count

    def _grouped(self, samples: Ints, number: int) -> Ints:
        """Sorted by length and cut into groups, which are shuffled; what does not fill a group comes last."""
        size = self._options.group
        by_length = samples[np.argsort(self._lengths[samples], kind="stable")]
        count = len(samples) // size
        groups = by_length[: count * size].reshape(count, size)
        order = permuted(np.arange(count), count, _derived(_derived(self._key, _GROUP), number))
        return np.concatenate([groups[order].ravel(), by_length[count * size :]])


def permuted(places: Ints, count: int, key: int) -> Ints:
    """Where a permutation of range(count), chosen by the key, takes these places; a shuffle, if they are all of them."""
    half = max(1, ((count - 1).bit_length() + 1) // 2)  # bits
    keys = [_derived(key, number) for number in range(_ROUNDS)]
    values = places.astype(np.uint64)
    outside = np.arange(len(values))
    while outside.size:
        values[outside] = _feistel(values[outside], half, keys)
        outside = outside[values[outside] >= count]
    return values.astype(np.int64)


def _feistel(values: npt.NDArray[np.uint64], half: int, keys: list[int]) -> npt.NDArray[np.uint64]:
    """Numbers of 2 * half bits, permuted."""
    left, right = values >> np.uint64(half), values & np.uint64((1 << half) - 1)
    for key in keys:
        left, right = right, left ^ (_mixed(right + np.uint64(key)) >> np.uint64(64 - half))
    return (left << np.uint64(half)) | right


def _mixed(values: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint64]:
    """The finalizer of SplitMix64 (Steele, Lea and Flood, 2014)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def _derived(key: int, number: int) -> int:
    """Another key, for the number."""
    return int(_mixed(np.array([(key + (number + 1) * _GOLDEN) % _MOST], np.uint64))[0])
