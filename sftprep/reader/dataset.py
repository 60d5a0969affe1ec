"""A dataset folder as a torch Dataset: `ds[i]` is one row, `ds[[i, j, ...]]` a batch, both as a trainer wants them."""

from __future__ import annotations

import multiprocessing
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from sftprep.errors import ConfigError, DatasetError
from sftprep.layouts.kinds import layout
from sftprep.reader.maps import Rows, RowTable
from sftprep.reader.opened import SEGMENTS, OpenedFolder
from sftprep.reader.tensors import Gathered, LabelledSample, Sample, as_labelled, as_sample
from sftprep.reader.wholes import Whole, as_wholes

_NARROW = {"uint16": torch.uint16, "uint32": torch.uint32}
_Origins = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any]]  # of a shard's segments: row, file, line
Index = int | slice | Sequence[int] | npt.NDArray[np.integer[Any]]


class ShardDataset(Dataset[Sample | LabelledSample]):
    """Rows of a dataset folder, N of them, W wide, in the order of the shards.

    `ds[i]` is `(X, Y, mask)`, each (W,) int64: train to predict Y[t] after X[t] where mask[t] is 1. The mask is float32
    where the dataset has weights other than 0 and 1. `ds[indices]` and `ds[10:20]` are the same for a batch, each (B, W),
    gathered at once; `DataLoader(ds, batch_size=64, shuffle=True)` does that, too, and puts nothing together a second time.

    With `labels=True` rows are dictionaries as Hugging Face models take them, each entry (W + 1,): `input_ids`
    are all the row's tokens; `labels` are the same where they are trained and -100 elsewhere (the model shifts them);
    `attention_mask` is 1 over tokens and 0 over padding; `position_ids` count from 0. Rows that conversations share (`--layout
    packed`) are those of `PackedDataset`: (L,) each, without padding and `attention_mask`; several of them are a list, which
    `Collator` makes a batch of.

    Opening looks at every file's name and size, and raises DatasetError, naming the file, where one is missing or of another
    size than the manifest says; what is in a file is looked at when a row of its shard is first read, which raises the same.
    Nothing is hashed: `sftprep verify` does that. A dataset keeps no file open; it may be pickled, forked and shared by
    threads. One that is overwritten while it is open goes on from its maps, or raises DatasetError; rows never mix.

    set: "train", or "validation" where the dataset has that. Raises ConfigError, naming those that are, for one that is not.
    dtype: of X, Y and labels. int64 or int32; or, without labels, uint16 or uint32 as the ids lie on disk, with a bool mask.
    Raises ConfigError for another, where labels are asked for and the mask of padded rows holds weights, and for a dataset without
    rows (`--layout ragged`), which `PackedDataset` reads.
    """

    def __init__(
        self, folder: str | Path, set: str = "train", labels: bool = False, dtype: torch.dtype = torch.int64
    ) -> None:
        self.folder = Path(folder)
        self.set = set
        self.labels = labels
        self.dtype = dtype
        self._opened = OpenedFolder(self.folder, set)
        self.manifest = self._opened.manifest
        self._check_options()
        self._shared = self.manifest.layout == "packed"  # whether a row may hold several conversations
        self._table = RowTable(self._opened, segments=labels and not self._shared)
        self._rows = int(self._table.starts[-1])
        self._ids = _numpy_dtype(dtype)
        self._origins: dict[int, _Origins] = {}
        self._segments: dict[int, npt.NDArray[np.int64]] = {}  # of shards whose rows are shared
        self._mask = np.dtype(np.float32 if self._opened.weighted else np.bool_ if self._ids.kind == "u" else self._ids)

    def _check_options(self) -> None:
        lies = _NARROW[self.manifest.dtype]
        if self.manifest.layout == "ragged":
            raise ConfigError(
                f"{self.folder}: ragged, so there are no rows yet; PackedDataset makes rows of any length of it"
            )
        if self.labels and self._opened.weighted and self.manifest.layout == "padded":
            raise ConfigError(
                f"{self.folder}: its mask holds weights, which labels cannot carry; read it with labels=False"
            )
        possible = [torch.int64, torch.int32] + [lies] * (not self.labels)
        if self.dtype not in possible:
            raise ConfigError(f"{self.folder}: dtype {self.dtype}; expected {' or '.join(map(str, possible))}")

    def __len__(self) -> int:
        return self._rows

    def __repr__(self) -> str:
        shards = len(self._opened.shards)
        return (
            f"ShardDataset({str(self.folder)!r}, set={self.set!r}): {self._rows:,} rows of {self.manifest.width:,},"
            f" {self.manifest.layout}, {self.manifest.dtype}, in {shards:,} shard{'s' * (shards != 1)}"
        )

    def __getitem__(self, index: Index) -> Any:
        """One row, or a batch of them. Negative indices count from the end; raises IndexError outside of [-N, N)."""
        if self.labels and self._shared:
            places = self._places(index)
            return [self._wholes(each) for each in places.tolist()] if places.ndim else self._wholes(int(places))
        if isinstance(index, int) and 0 <= index < self._rows:
            return self._sample(self._table.row(index))
        places = self._places(index)
        return self._sample(self._table.take(places) if places.ndim else self._table.row(int(places)))

    def __getitems__(self, indices: Sequence[int]) -> list[Any]:
        """The rows at `indices` as views of one gathered batch: what DataLoader asks for before it collates."""
        if self.labels and self._shared:
            return [self._wholes(each) for each in self._places(indices).tolist()]
        return Gathered(self._sample(self._table.take(self._places(indices))))

    @property
    def fingerprint(self) -> str:
        """Tells these rows from others: the dataset's fingerprint, and the set."""
        return f"{self.manifest.fingerprint}:{self.set}"

    @cached_property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(N,) int64: the tokens of each row, without padding. Reads a small file of every shard, the first time."""
        lengths = [self._lengths(number) for number in range(len(self._opened.shards))]
        return np.concatenate([np.zeros(0, np.int64), *lengths])

    def source(self, index: int) -> str:
        """Where a row came from, file and line: "chat.jsonl:17"; of a row that holds several conversations, all of them, with
        ", " between. Raises IndexError as `ds[index]` does, and ConfigError in a worker process of a DataLoader, which may
        start no other: provenance is read in a process of its own."""
        shard, row = self._table.locate(int(self._places(index)))
        if shard not in self._origins:
            self._origins[shard] = self._read_origins(shard)
        rows, names, lines = self._origins[shard]
        begin, end = np.searchsorted(rows, (row, row + 1)).tolist()
        return ", ".join(f"{name}:{line}" for name, line in zip(names[begin:end], lines[begin:end], strict=True))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "lengths"} | {
            "_origins": {},
            "_segments": {},
        }

    def _sample(self, rows: Rows) -> Sample | LabelledSample:
        return as_labelled(rows, self._ids) if self.labels else as_sample(rows, self._ids, self._mask)

    def _wholes(self, place: int) -> LabelledSample:
        """The conversations of a row that they share."""
        shard, number = self._table.locate(place)
        if shard not in self._segments:
            self._segments[shard] = self._checked_segments(shard)
        segments, (x, y, mask, _) = self._segments[shard], self._table.row(place)
        begin, end = np.searchsorted(segments[:, 0], (number, number + 1)).tolist()
        own = [slice(start, start + pairs) for _, start, pairs in segments[begin:end].tolist()]
        return as_wholes(
            [Whole(np.append(x[each], y[each][-1:]), mask[each]) for each in own],
            self._ids,
            weighted=self._opened.weighted,
        )

    def _places(self, index: Any) -> npt.NDArray[np.int64]:
        """() or (B,) int64, from 0 to N - 1."""
        places = np.arange(self._rows)[index] if isinstance(index, slice) else np.asarray(index)
        if (places.size and places.dtype.kind not in "iu") or places.ndim > 1:
            raise TypeError(f"index {index!r}; expected an integer, a slice, or a sequence of integers")
        places = places.astype(np.int64, copy=False)
        if not places.size or places.view(np.uint64).max() < self._rows:  # as it is meant, at the cost of one look
            return places
        if places.min() < -self._rows or places.max() >= self._rows:
            raise IndexError(f"index out of range; {self.folder} has {self._rows} rows")
        return np.where(places < 0, places + self._rows, places)

    def _read_origins(self, shard: int) -> _Origins:
        from sftprep.dataset.origins import read_origins  # needs pyarrow

        if multiprocessing.current_process().daemon:
            raise ConfigError(
                "source: ask for it in the main process; a worker process of a DataLoader may start no other"
            )
        (segments,) = self._opened.map_arrays(shard, (SEGMENTS,))
        entry = self._opened.shards[shard]
        size = self.manifest.files[entry.provenance].bytes
        origins = read_origins(self.folder / entry.provenance, size, entry.segments)
        return segments[:, 0].copy(), origins["source"], origins["line"]

    def _lengths(self, shard: int) -> npt.NDArray[np.int64]:
        """Those of a shard's rows."""
        row, _, pairs = self._checked_segments(shard).T
        return np.bincount(row, weights=pairs + 1, minlength=self._opened.shards[shard].rows).astype(np.int64)

    def _checked_segments(self, shard: int) -> npt.NDArray[np.int64]:
        """(S, 3) of a shard. Raises DatasetError where they are not what its layout says."""
        (segments,) = self._opened.map_arrays(shard, (SEGMENTS,))
        entry = self._opened.shards[shard]
        shape = entry.rows, self.manifest.width
        if any(wrong.any() for wrong in layout(self.manifest.layout).wrong_segments(segments, shape).values()):
            raise DatasetError(f"{self.folder}: segments of {entry.name} lie outside of its rows")
        return segments


def _numpy_dtype(dtype: torch.dtype) -> np.dtype[Any]:
    return np.dtype(str(dtype).removeprefix("torch."))
