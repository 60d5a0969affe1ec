"""The conversations that lie in rows of a dataset: ids, mask, and where each came from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sftprep.dataset.manifest import Manifest, ShardEntry, load_manifest, open_rows
from sftprep.dataset.origins import Origins, read_origins
from sftprep.errors import ConfigError, DatasetError
from sftprep.layouts.kinds import layout

PLACE = ("source", "line", "byte_offset", "truncated", "tokens_in_all")  # what is taken over of provenance
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
    tokens_in_all: int = 0  # before any were cut off
    width: int = 0  # pairs of the whole row
    pairs: Any = field(default=None, compare=False, repr=False)  # X, Y and mask of the whole row, (width,) each

    @property
    def stop(self) -> int:
        """Where its last pair stands in the row, and one more."""
        return self.start + len(self.ids) - 1

    @property
    def targets(self) -> npt.NDArray[np.float32]:
        """(T,) what the mask holds for each id as a target."""
        return self.trained.astype(np.float32) if self.weights is None else self.weights


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

    first_row: of the set. segments: (S, 3) int64, row of the shard, start, length. rows: (S,) row of the shard, as rows are counted.
    """

    def __init__(self, dataset: Path, manifest: Manifest, entry: ShardEntry, first_row: int = 0) -> None:
        self.name, self.first_row = entry.name, first_row
        x, y, mask, self.segments = open_rows(dataset, manifest, entry)
        self._arrays = x, y, mask
        of_layout = layout(manifest.layout)
        wrong = of_layout.wrong_segments(self.segments, x.shape)
        self.rows = of_layout.rows_of(self.segments)
        if any(each.any() for each in wrong.values()):
            raise DatasetError(f"{dataset / entry.name}.segments.npy: segments that lie outside the rows")
        self._provenance = dataset / entry.provenance
        self._provenance_size = manifest.files[entry.provenance].bytes

    @cached_property
    def origins(self) -> Origins:
        """(S,) arrays, where each segment came from; read when they are first asked for."""
        return read_origins(self._provenance, self._provenance_size, len(self.segments))

    def segments_in(self, row: int) -> range:
        """The segments of a row, which is counted over the set."""
        return range(*np.searchsorted(self.rows, [row - self.first_row, row - self.first_row + 1]).tolist())

    def ids(self, segment: int) -> npt.NDArray[np.int64]:
        """(T,) all ids of a segment."""
        x, y, _ = self._arrays
        return _ids(x, y, *self.segments[segment].tolist())

    def conversation(self, segment: int) -> RowConversation:
        """What lies in a segment."""
        places = {name: self.origins[name][segment] for name in PLACE}
        arrays = self._arrays
        return take_out(arrays, self.segments, segment, self.first_row, self.name, self._example(segment), places)

    def _example(self, segment: int) -> int:
        """How many segments before it are of the same record."""
        offsets, sources = self.origins["byte_offset"], self.origins["source"]
        same = (offsets[:segment] == offsets[segment]) & (sources[:segment] == sources[segment])
        return int(np.count_nonzero(same))


def take_out(
    arrays: tuple[Any, Any, Any],
    segments: npt.NDArray[np.int64],
    segment: int,
    first_row: int,
    shard: str,
    example: int,
    place: Mapping[str, Any],
) -> RowConversation:
    """The conversation of a segment of X, Y and mask, (R, W) each, of which the first row is `first_row` of the set."""
    x, y, mask = arrays
    row, start, length = segments[segment].tolist()
    if x.shape != y.shape:  # one long row, in which each conversation counts as one
        x, y, mask = (each[:, start : start + length] for each in arrays)
        row, start, first_row, segment, segments = 0, 0, first_row + segment, 0, np.array([[0, 0, length]])
    others = range(*np.searchsorted(segments[:, 0], [row, row + 1]).tolist())
    pads = np.ones(mask.shape[1], np.bool_)
    for _, first, count in segments[others.start : others.stop].tolist():
        pads[first : first + count] = False
    own = mask[row, start : start + length]
    return RowConversation(
        row=row + first_row,
        shard=shard,
        source=str(place["source"]),
        line=int(place["line"]),
        truncated=bool(place["truncated"]),
        ids=_ids(x, y, row, start, length),
        trained=np.concatenate([[False], own > 0]),
        trained_pads=int(np.count_nonzero((mask[row] > 0) & pads)),
        weights=None if mask.dtype == np.bool_ else np.concatenate([[0], own]).astype(np.float32),
        start=start,
        number=segment - others.start,
        of=len(others),
        byte_offset=int(place["byte_offset"]),
        tokens_in_all=int(place["tokens_in_all"]),
        example=example,
        width=mask.shape[1],
        pairs=(x[row], y[row], mask[row]),
    )


def _ids(x: Any, y: Any, row: int, start: int, length: int) -> npt.NDArray[np.int64]:
    return np.concatenate([x[row, start : start + 1], y[row, start : start + length]]).astype(np.int64)
