"""Keys that are there more than once. Keys are (n, 2) uint64 arrays, 16 bytes each, in parts that fit into memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

Keys = npt.NDArray[np.uint64]  # (n, 2)
NO_KEY = bytes(16)  # of a record that cannot be read: no repeat of any other
_AT_ONCE = 1 << 23  # keys that are sorted together, in some 500 MB


def as_keys(data: bytes | bytearray) -> Keys:
    """Keys that stand one behind the other."""
    return np.frombuffer(data, np.uint64).reshape(-1, 2)


def first_of_each(sizes: Sequence[int], part: Callable[[int], Keys]) -> npt.NDArray[np.int64]:
    """(N,) for each of N keys the index of the first one that is equal.

    sizes: of the parts, N in all. part: gives a part's keys by its number, whenever it is asked. Takes 8 bytes a key beside
    those of `_AT_ONCE` keys: the keys are dealt out by their first half, and each hand is sorted by itself.
    """
    starts = np.cumsum([0, *sizes])
    first = np.arange(starts[-1])
    hands = -(-len(first) // _AT_ONCE)
    for hand in range(hands):
        keys, index = [], []
        for number, start in enumerate(starts[:-1].tolist()):
            some = part(number)
            dealt = np.flatnonzero((some[:, 0] % np.uint64(hands) == hand) & some.any(axis=1))
            keys.append(some[dealt])
            index.append(dealt + start)
        _find_first(np.concatenate(keys), np.concatenate(index), first)
    return first


def _find_first(keys: Keys, index: npt.NDArray[np.int64], first: npt.NDArray[np.int64]) -> None:
    """Write into `first`, (N,), for each index, (n,) ascending, that of the first equal key."""
    order = np.lexsort((keys[:, 1], keys[:, 0]))  # stable: of equal keys the first comes first
    keys, index = keys[order], index[order]
    is_new = np.ones(len(keys), np.bool_)
    is_new[1:] = (keys[1:] != keys[:-1]).any(axis=1)
    first[index] = index[is_new][np.cumsum(is_new) - 1]


def count_among(parts: Iterable[Keys], others: Keys) -> int:
    """How many keys of the parts are among the others."""
    known = np.sort(_as_text(others))
    found = 0
    for part in parts:
        keys = _as_text(part)
        places = np.minimum(np.searchsorted(known, keys), len(known) - 1)
        found += int((known[places] == keys).sum()) if len(known) else 0
    return found


def _as_text(keys: Keys) -> npt.NDArray[np.bytes_]:
    """(n,) the same, to be compared as one."""
    return np.ascontiguousarray(keys).view("S16")[:, 0]
