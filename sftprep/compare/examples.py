"""The examples of a dataset, read in order or by their number: ids, loss weights, and where each came from.

They are numbered over all shards. However many there are, a few shards are mapped at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sftprep.dataset.manifest import ShardEntry, load_manifest, open_rows
from sftprep.dataset.origins import Origins, read_origins
from sftprep.errors import DatasetError
from sftprep.layouts.kinds import layout
from sftprep.layouts.unpack import stretches, unpack

_MAPPED = 32  # shards, each with four open files


@dataclass(frozen=True, slots=True, eq=False)
class Example:
    """One conversation, or what of it is trained by itself."""

    ids: npt.NDArray[Any]  # (T,)
    weights: npt.NDArray[Any]  # (T,) above 0 where the id is a target that is trained; the first never is
    source: str
    line: int  # counted from 1
    set: str = "train"
    row: int | None = None  # of the set
    truncated: bool = False
    masked: bool = True  # False: nobody says what of it is trained


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Some examples of one shard, one after another: T ids of E examples."""

    shard: ShardEntry
    numbers: range  # of the examples, over all shards
    within: slice  # of them in their shard
    ids: npt.NDArray[Any]  # (T,)
    weights: npt.NDArray[Any]  # (T,) bool or float32
    offsets: npt.NDArray[np.int64]  # (E + 1,): example e is ids[offsets[e] : offsets[e + 1]]


class Examples:
    """A dataset, opened. Raises DatasetError, naming the file, for what is damaged."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.manifest = folder, load_manifest(folder)
        self._ends = np.cumsum([0, *(shard.segments for shard in self.manifest.shards)])
        self._arrays = lru_cache(_MAPPED)(self._open)
        self.origins = lru_cache(2)(self._origins)

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, number: int) -> Example:
        index, segment = self.locate(number)
        shard = self.manifest.shards[index]
        x, y, mask, segments = self._arrays(index)
        ids, weights, _ = unpack(x, y, mask, segments[segment : segment + 1])
        origins, before = self.origins(index), self.manifest.shards[:index]
        row = int(layout(self.manifest.layout).rows_of(segments)[segment]) + sum(
            each.rows for each in before if each.set == shard.set
        )
        source, line = str(origins["source"][segment]), int(origins["line"][segment])
        return Example(ids, weights, source, line, shard.set, row, bool(origins["truncated"][segment]))

    def locate(self, number: int) -> tuple[int, int]:
        """Of an example the index of its shard, and its number there."""
        index = int(np.searchsorted(self._ends, number, side="right")) - 1
        return index, number - int(self._ends[index])

    def arrays_of(self, number: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """(T,) ids and (T,) weights alone."""
        index, segment = self.locate(number)
        x, y, mask, segments = self._arrays(index)
        return unpack(x, y, mask, segments[segment : segment + 1])[:2]

    def by_shard(self) -> Iterator[range]:
        """The numbers of each shard's examples."""
        yield from (range(first, last) for first, last in pairwise(self._ends.tolist()))

    def trained_pads(self, part: Part) -> Iterator[tuple[int, npt.NDArray[np.bool_]]]:
        """(e, True where a pad is trained) of rows that hold example e of a part alone, from its end to theirs."""
        _, _, mask, segments = self._arrays(self.locate(part.numbers.start)[0])
        rows = segments[:, 0]
        for e, (row, start, pairs) in enumerate(segments[part.within].tolist()):
            first, last = np.searchsorted(rows, (row, row + 1))
            if last - first == 1 and (pads := mask[row, start + pairs :] > 0).any():
                yield e, pads

    def parts(self) -> Iterator[Part]:
        """All examples in order, some at a time."""
        for index, shard in enumerate(self.manifest.shards):
            x, y, mask, segments = self._arrays(index)
            for begin, end in stretches(segments[:, 2]):
                some = segments[begin:end]
                first, last = int(some[0, 0]), int(some[-1, 0])
                rows, within = slice(first, last + 1), slice(begin, begin + len(some))
                numbers = range(int(self._ends[index]) + begin, int(self._ends[index]) + within.stop)
                unpacked = unpack(x[rows], y[rows], mask[rows], some - np.array([first, 0, 0]))
                yield Part(shard, numbers, within, *unpacked)

    def _open(self, index: int) -> list[npt.NDArray[Any]]:
        """X, Y, mask (R, W) and segments (S, 3) of a shard."""
        manifest, shard = self.manifest, self.manifest.shards[index]
        x, y, mask, segments = open_rows(self.folder, manifest, shard)
        for what, wrong in layout(manifest.layout).wrong_segments(segments, x.shape).items():
            if wrong.any():
                raise DatasetError(f"{self.folder / shard.name}.segments.npy: segment {np.argmax(wrong)} {what}")
        return [x, y, mask, segments]

    def _origins(self, index: int) -> Origins:
        """Where the examples of a shard came from."""
        shard = self.manifest.shards[index]
        size = self.manifest.files[shard.provenance].bytes
        return read_origins(self.folder / shard.provenance, size, shard.segments)
