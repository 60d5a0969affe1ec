"""The shards of a set as one table of rows: mapped when they are first asked for, gathered from all of them at once.

A row is a run of bytes, and all maps lie in one address space. So the rows of a batch are taken by one gather, whatever
shards they are of: from an array that begins at the first map, ends with the last, and has an item for every address, the row
that would begin there. Items outside of maps are never asked for, and whoever gathers holds the maps meanwhile.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sftprep.dataset.manifest import DTYPES
from sftprep.errors import StorageError
from sftprep.reader.opened import MASK, SEGMENTS, OpenedFolder, X, Y, most_maps

_MASK = 2  # among the arrays of a shard that are mapped
_NOWHERE = -(2**62)  # the address of what is not mapped: outside of any window
Array = npt.NDArray[Any]


class Rows(NamedTuple):
    """B rows of width W as they lie on disk; or a single one, without the axis B."""

    x: Array  # (B, W) uint16 or uint32
    y: Array  # (B, W), the same dtype
    mask: Array  # (B, W) bool, float32 if the set holds weights
    segments: Array = np.empty((0, 3), np.int64)  # (B, 3) int64, if they were asked for


@dataclass(frozen=True, slots=True)
class _Maps:
    """The shards that are mapped. Not changed once made: a thread that has it reads on, whatever others map."""

    arrays: dict[int, tuple[Array, ...]]  # by shard, as many as there are kinds
    first: npt.NDArray[np.int64]  # (kinds, shards) address of row 0 of the set, as if the shard began with it
    low: int  # address where the windows begin
    high: int  # address where they end
    windows: tuple[Array, ...]  # by kind; item i is the row that begins at low + i


class RowTable:
    """Rows by their place in the set, from 0 to N - 1. May be pickled, without its maps; threads may share it.

    Raises DatasetError, naming the file, where one of a shard that is mapped is not what the manifest says.
    """

    _maps: _Maps

    def __init__(self, opened: OpenedFolder, *, segments: bool = False) -> None:
        ids, width = np.dtype(DTYPES[opened.manifest.dtype]), opened.manifest.width
        self._opened = opened
        self.starts = np.cumsum([0, *(shard.rows for shard in opened.shards)])  # (shards + 1,) int64
        self._forms = [(ids, width), (ids, width), (np.dtype(np.bool_), width)] + [(np.dtype(np.int64), 3)] * segments
        self._kinds = (X, Y, MASK, SEGMENTS)[: len(self._forms)]
        self._row_bytes = np.array([[dtype.itemsize * width] for dtype, width in self._forms])  # (kinds, 1)
        self._most = max(1, most_maps() // len(self._kinds))  # shards
        self._maps = self._nothing()

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_maps"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._maps = self._nothing()

    def locate(self, place: int) -> tuple[int, int]:
        """The shard that holds a row, and the row's number in it."""
        shard = bisect_right(self.starts, place) - 1
        return shard, place - int(self.starts[shard])

    def row(self, place: int) -> Rows:
        """A single row, as views of its maps."""
        shard, row = self.locate(place)
        arrays = self._maps.arrays.get(shard) or self._map({shard}).arrays[shard]
        return Rows(*[array[row] for array in arrays])

    def take(self, places: npt.NDArray[np.int64]) -> Rows:
        """The rows at `places`, (B,), in that order, as copies."""
        shards = self.starts.searchsorted(places, side="right") - 1
        try:
            return self._gather(self._maps, shards, places)
        except IndexError:  # a shard is not mapped: it lies outside of the windows
            return self._gather(self._map({*shards.tolist()}), shards, places)

    def _gather(self, maps: _Maps, shards: npt.NDArray[np.int64], places: npt.NDArray[np.int64]) -> Rows:
        at = maps.first.take(shards, axis=1) + (places * self._row_bytes - maps.low)  # (kinds, B)
        taken = [
            window[each].view(dtype).reshape(len(places), width)
            for window, each, (dtype, width) in zip(maps.windows, at, self._forms, strict=True)
        ]
        if self._opened.weighted:  # masks of both kinds, so rows of two sizes
            rows = zip(shards.tolist(), (places - self.starts[shards]).tolist(), strict=True)
            weights = [maps.arrays[shard][_MASK][row] for shard, row in rows]
            taken[_MASK] = np.array(weights, np.float32).reshape(taken[_MASK].shape)
        return Rows(*taken)

    def _map(self, wanted: AbstractSet[int]) -> _Maps:
        """Maps of at least the shards that are wanted. Those of others are let go if there would be too many."""
        maps = self._maps
        if len(maps.arrays.keys() | wanted) > self._most:
            maps = self._nothing()
        try:
            new = self._open(wanted - maps.arrays.keys())
        except StorageError:  # the process has too many maps, of other datasets perhaps
            maps = self._maps = self._nothing()
            new = self._open(wanted)
        first = maps.first.copy()
        for shard, arrays in new.items():
            first[:, shard] = [_address(array) for array in arrays] - self.starts[shard] * self._row_bytes[:, 0]
        mapped = [array for arrays in new.values() for array in arrays]
        low = min([maps.low, *map(_address, mapped)])
        high = max([maps.high, *(_address(array) + array.nbytes for array in mapped)])
        windows = tuple(_window(low, high, int(size)) for size in self._row_bytes[:, 0])
        made = self._maps = _Maps(maps.arrays | new, first, low, high, windows)
        return made

    def _open(self, shards: AbstractSet[int]) -> dict[int, tuple[Array, ...]]:
        return {shard: self._opened.map_arrays(shard, self._kinds) for shard in sorted(shards)}

    def _nothing(self) -> _Maps:
        first = np.full((len(self._kinds), len(self.starts) - 1), _NOWHERE)
        return _Maps({}, first, -_NOWHERE, 0, tuple(np.empty(0, f"V{size}") for size in self._row_bytes[:, 0]))


def _address(array: Array) -> int:
    address: int = array.__array_interface__["data"][0]
    return address


class _Memory:
    """Bytes of this process, for numpy."""

    def __init__(self, low: int, high: int) -> None:
        self.__array_interface__ = {"version": 3, "data": (low, True), "shape": (high - low,), "typestr": "|u1"}


def _window(low: int, high: int, row_bytes: int) -> Array:
    """Item i is the `row_bytes` from address low + i on: rows that overlap, of which most are none."""
    window: Array = np.ndarray(
        (high - low - row_bytes + 1,), f"V{row_bytes}", np.asarray(_Memory(low, high)), strides=(1,)
    )
    return window
