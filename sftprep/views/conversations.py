"""The conversations that lie in rows of a dataset: ids, mask, and where each came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sftprep.dataset.manifest import Manifest, ShardEntry, load_manifest, open_rows
from sftprep.dataset.origins import Origins, read_origins
from sftprep.errors import ConfigError, DatasetError
from sftprep.layouts.kinds import layout

_MOST_OPEN = 16  # shards whose provenance is held


@dataclass(frozen=True, slots=True)
class RowConversation:
    """One conversation as it lies in a row."""

    row: int  # of the set
    shard: str
    source: str
    line: int  # counted from 1
    truncated: bool
    ids: npt.NDArray[np.int64]  # (T,) all its ids, the first included; no pads
    trained: npt.NDArray[np.bool_]  # (T,) True where the id is a trained target; the first never is
    trained_pads: int  # targets of the row that are trained and in no conversation
    weights: npt.NDArray[np.float32] | None = None  # (T,) of each id as a target, where the mask has weights
    start: int = 0  # where its first (X, Y) pair stands in the row
    number: int = 0  # of those in the row, from 0
    of: int = 1  # how many there are
    byte_offset: int = 0  # of its record in the input
    example: int = 0  # of those that its record gives, from 0, as they lie in the shard
    width: int = 0  # pairs of the whole row

    def weight(self, position: int) -> float:
        """Of the target at a position of the row: what the mask holds there."""
        own = position - self.start + 1
        return float(self.trained[own]) if self.weights is None else float(self.weights[own])


def load_rows(dataset: Path, rows: Sequence[int], of: str = "train") -> Iterator[RowConversation]:
    """Yield the conversations in `rows`, counted over all shards of a set from 0. of: the set.

    Raises ConfigError for a row or set that is not there, DatasetError for damage.
    """
    opened = OpenSet(dataset, of)
    check_rows(dataset, opened.rows, rows)
    for row in rows:
        shard = opened.shard(opened.shard_of(row))
        yield from map(shard.conversation, shard.segments_in(row))


def check_rows(dataset: Path, total: int, rows: Sequence[int]) -> None:
    """Raise ConfigError for the first row that is not one of so many."""
    for row in rows:
        if not 0 <= row < total:
            raise ConfigError(f"row {row}: {dataset} {has_rows(total)}")


def has_rows(total: int) -> str:
    """What a set with so many rows has, in words."""
    return f"has rows 0 to {total - 1}" if total else "holds no rows"


class OpenSet:
    """A set of a dataset, whose shards are opened when they are asked for.

    rows, segments: how many it has. Raises ConfigError for a set that is not there, DatasetError for damage.
    """

    def __init__(self, dataset: Path, of: str = "train", manifest: Manifest | None = None) -> None:
        self.folder, self.name = dataset, of
        self.manifest = manifest or load_manifest(dataset)
        self.shards = self.manifest.shards_of(of, dataset)
        self._ends = np.cumsum([0, *(shard.rows for shard in self.shards)])
        self.rows = int(self._ends[-1])
        self.segments = sum(shard.segments for shard in self.shards)
        self.shard = lru_cache(maxsize=_MOST_OPEN)(self._open)

    def shard_of(self, row: int) -> int:
        """The index of the shard that has a row."""
        return int(np.searchsorted(self._ends, row, side="right")) - 1

    def _open(self, index: int) -> Shard:
        return Shard(self.folder, self.manifest, self.shards[index], int(self._ends[index]))


class Shard:
    """One shard's arrays, mapped, and its provenance.

    first_row: of the set. segments: (S, 3) int64, row of the shard, start, length. origins: (S,) arrays, where each came from.
    """

    def __init__(self, dataset: Path, manifest: Manifest, entry: ShardEntry, first_row: int = 0) -> None:
        self.name, self.first_row = entry.name, first_row
        self._x, self._y, self._mask, self.segments = open_rows(dataset, manifest, entry)
        if any(wrong.any() for wrong in layout(manifest.layout).wrong_segments(self.segments, self._x.shape).values()):
            raise DatasetError(f"{dataset / entry.name}.segments.npy: segments that lie outside the rows")
        path = dataset / entry.provenance
        self.origins: Origins = read_origins(path, manifest.files[path.name].bytes, len(self.segments))

    def segments_in(self, row: int) -> range:
        """The segments of a row, which is counted over the set."""
        return range(*np.searchsorted(self.segments[:, 0], [row - self.first_row, row - self.first_row + 1]).tolist())

    def ids(self, segment: int) -> npt.NDArray[np.int64]:
        """(T,) all ids of a segment."""
        row, start, length = self.segments[segment].tolist()
        return np.concatenate([self._x[row, start : start + 1], self._y[row, start : start + length]]).astype(np.int64)

    def conversation(self, segment: int) -> RowConversation:
        """What lies in a segment."""
        row, start, length = self.segments[segment].tolist()
        others = self.segments_in(row + self.first_row)
        mask = self._mask[row]
        pads = np.ones(len(mask), np.bool_)
        for _, first, count in self.segments[others.start : others.stop].tolist():
            pads[first : first + count] = False
        own = mask[start : start + length]
        return RowConversation(
            row=row + self.first_row,
            shard=self.name,
            source=self.origins["source"][segment],
            line=int(self.origins["line"][segment]),
            truncated=bool(self.origins["truncated"][segment]),
            ids=self.ids(segment),
            trained=np.concatenate([[False], own > 0]),
            trained_pads=int(np.count_nonzero((mask > 0) & pads)),
            weights=None if mask.dtype == np.bool_ else np.concatenate([[0], own]).astype(np.float32),
            start=start,
            number=segment - others.start,
            of=len(others),
            byte_offset=int(self.origins["byte_offset"][segment]),
            example=self._example(segment),
            width=len(mask),
        )

    def _example(self, segment: int) -> int:
        """How many segments before it are of the same record."""
        offsets, sources = self.origins["byte_offset"], self.origins["source"]
        same = (offsets[:segment] == offsets[segment]) & (sources[:segment] == sources[segment])
        return int(np.count_nonzero(same))

    def pair(self, row: int, position: int) -> tuple[int, int, float]:
        """X, Y and mask at a position of a row of the set."""
        at = row - self.first_row, position
        return int(self._x[at]), int(self._y[at]), float(self._mask[at])
