"""A dataset's rows -> its conversations as they were tokenized: ids, and which of them are trained."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sftprep.dataset.manifest import ShardEntry, load_manifest, open_rows
from sftprep.errors import DatasetError
from sftprep.layouts.kinds import layout
from sftprep.layouts.unpack import stretches, unpack

IGNORED = -100  # the label that is not trained, for Hugging Face models and torch's cross entropy


@dataclass(frozen=True, slots=True, eq=False)
class Examples:
    """Some conversations, one after another: T ids of E conversations, each of two ids or more."""

    ids: npt.NDArray[Any]  # (T,) uint16 or uint32
    weights: npt.NDArray[Any]  # (T,) bool or float32, above 0 where an id is a target that is trained
    offsets: npt.NDArray[np.int64]  # (E + 1,): conversation e is ids[offsets[e] : offsets[e + 1]]

    def labels(self) -> npt.NDArray[np.int32]:
        """(T,) int32: the ids that are trained, IGNORED elsewhere; the model shifts them."""
        return np.where(self.weights > 0, self.ids.astype(np.int32), np.int32(IGNORED))


@dataclass(slots=True)
class Exported:
    """What was written, in numbers."""

    examples: int = 0
    tokens: int = 0
    trained_tokens: int = 0

    def add(self, examples: Examples) -> None:
        """Count some more."""
        self.examples += len(examples.offsets) - 1
        self.tokens += len(examples.ids)
        self.trained_tokens += int(np.count_nonzero(examples.weights))


class OpenedRows:
    """The rows of a dataset, opened to be exported."""

    def __init__(self, folder: Path, progress: Callable[[int], None] = lambda conversations: None) -> None:
        """progress: is told how many conversations were just read.

        Raises DatasetError, naming the file, where one is missing or of another form than the manifest says.
        """
        self.folder, self.manifest, self._progress = folder, load_manifest(folder), progress
        self.weighted = any(
            open_rows(folder, self.manifest, shard)[2].dtype == np.float32 for shard in self.manifest.shards
        )
        self.sets = tuple(dict.fromkeys(shard.set for shard in self.manifest.shards))  # those with rows

    def examples(self, shard: ShardEntry) -> Iterator[Examples]:
        """The conversations of a shard in order, some at a time. Raises DatasetError where its segments are not sound."""
        x, y, mask, segments = open_rows(self.folder, self.manifest, shard)
        for what, wrong in layout(self.manifest.layout).wrong_segments(segments, x.shape).items():
            if wrong.any():
                raise DatasetError(f"{self.folder / shard.name}.segments.npy: segment {np.argmax(wrong)} {what}")
        for begin, end in stretches(segments[:, 2]):
            some = segments[begin:end]
            first, last = int(some[0, 0]), int(some[-1, 0])
            rows = slice(first, last + 1)
            yield examples_of(x[rows], y[rows], mask[rows], some - np.array([first, 0, 0]))
            self._progress(len(some))


class Write(Protocol):
    """Writes a dataset's conversations in a form."""

    def __call__(self, rows: OpenedRows, folder: Path) -> Exported:
        """Into an empty folder, durably. Raises ConfigError where the form cannot hold what the dataset does."""


def examples_of(
    x: npt.NDArray[Any], y: npt.NDArray[Any], mask: npt.NDArray[Any], segments: npt.NDArray[np.int64]
) -> Examples:
    """The conversations that lie in rows; those without a target are left out.

    x, y, mask: (R, W). segments: (S, 3) row, start, length in (x, y) pairs.
    """
    return Examples(*unpack(x, y, mask, segments[segments[:, 2] > 0]))
