"""The conversations that lie in rows of a dataset: ids, mask, and where each came from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sftprep.dataset.manifest import Manifest, ShardEntry, load_manifest
from sftprep.dataset.origins import read_origins
from sftprep.dataset.safe_open import open_array
from sftprep.errors import ConfigError, DatasetError
from sftprep.layouts.kinds import layout


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


def load_rows(dataset: Path, rows: Sequence[int], of: str = "train") -> Iterator[RowConversation]:
    """Yield the conversations in `rows`, counted over all shards of a set from 0. of: the set.

    Raises ConfigError for a row or set that is not there, DatasetError for damage.
    """
    manifest = load_manifest(dataset)
    shards = manifest.shards_of(of, dataset)
    ends = np.cumsum([shard.rows for shard in shards])
    check_rows(dataset, sum(shard.rows for shard in shards), rows)
    opened: tuple[int, _Shard] | None = None
    for row in rows:
        index = int(np.searchsorted(ends, row, side="right"))
        if opened is None or opened[0] != index:
            opened = index, _Shard(dataset, manifest, shards[index])
        first = int(ends[index]) - shards[index].rows
        yield from opened[1].conversations(row - first, row)


def check_rows(dataset: Path, total: int, rows: Sequence[int]) -> None:
    """Raise ConfigError for the first row that is not one of so many."""
    for row in rows:
        if not 0 <= row < total:
            holds = f"has rows 0 to {total - 1}" if total else "holds no rows"
            raise ConfigError(f"row {row}: {dataset} {holds}")


class _Shard:
    """One shard's arrays, mapped, and its provenance."""

    def __init__(self, dataset: Path, manifest: Manifest, entry: ShardEntry) -> None:
        self._name = entry.name
        self._x, self._y, self._mask, segments = (
            open_array(dataset / name, manifest.files[name].bytes, form.shape, form.dtypes)
            for name, form in manifest.arrays(entry).items()
        )
        self._segments = np.asarray(segments)
        if any(
            wrong.any() for wrong in layout(manifest.layout).wrong_segments(self._segments, manifest.width).values()
        ):
            raise DatasetError(f"{dataset / entry.name}.segments.npy: segments that lie outside the rows")
        path = dataset / entry.provenance
        self._origins = read_origins(path, manifest.files[path.name].bytes, len(segments))

    def conversations(self, row: int, shown_row: int) -> Iterator[RowConversation]:
        """Yield what lies in the shard's row `row`."""
        first, last = np.searchsorted(self._segments[:, 0], [row, row + 1])
        mask = self._mask[row] > 0
        pads = np.ones_like(mask)
        for _, start, length in self._segments[first:last].tolist():
            pads[start : start + length] = False
        for segment in range(int(first), int(last)):
            _, start, length = self._segments[segment].tolist()
            targets = slice(start, start + length)
            yield RowConversation(
                row=shown_row,
                shard=self._name,
                source=self._origins["source"][segment],
                line=int(self._origins["line"][segment]),
                truncated=bool(self._origins["truncated"][segment]),
                ids=np.concatenate([self._x[row, start : start + 1], self._y[row, targets]]).astype(np.int64),
                trained=np.concatenate([[False], mask[targets]]),
                trained_pads=int((mask & pads).sum()),
            )
