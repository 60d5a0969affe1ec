"""A dataset folder as a torch Dataset: `ds[i]` is one row, `ds[[i, j, ...]]` a batch, both as a trainer wants them.

Every file is checked when the dataset is opened; a shard is mapped when a row of it is first asked for. A batch takes
one gather per array and shard, and is widened to int64 last, when it is in order. Only here is torch imported.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sftprep.dataset.manifest import DTYPES, MANIFEST, REJECTS, load_manifest
from sftprep.dataset.safe_open import open_array, open_file
from sftprep.errors import ConfigError, DatasetError

IGNORED = -100  # the label that Hugging Face models and torch's cross entropy leave out
_DESCRIPTORS = 1024  # that a process may have open, where the system does not tell
Sample = tuple[Tensor, Tensor, Tensor] | dict[str, Tensor]


class _Arrays(NamedTuple):
    """The maps of a shard of R rows, W wide; or rows gathered from several; or one row, without the first axis."""

    x: npt.NDArray[Any]  # (R, W) uint16 or uint32
    y: npt.NDArray[Any]  # (R, W), the same dtype
    mask: npt.NDArray[Any]  # (R, W) bool or float32
    segments: npt.NDArray[np.int64]  # (R, 3)


class ShardDataset(Dataset[Sample]):
    """Rows of a dataset folder, N of them, W wide, in the order of the shards.

    `ds[i]` is `(X, Y, mask)`, each (W,) int64: train to predict Y[t] after X[t] where mask[t] is 1. The mask is float32
    where the dataset has weights other than 0 and 1. `ds[indices]` is the same for a batch, each (B, W), gathered at
    once, so the fastest loader is

        DataLoader(ds, sampler=BatchSampler(RandomSampler(ds), 64, drop_last=True), batch_size=None)

    With `labels=True` rows are dictionaries as Hugging Face models take them, each entry (W + 1,) int64: `input_ids`
    are all the row's tokens; `labels` are the same where they are trained and -100 elsewhere (the model shifts them);
    `attention_mask` is 1 over tokens and 0 over padding; `position_ids` count from 0.

    Opening raises DatasetError, naming the file, where one is missing or of another size or form than the manifest
    says, and ConfigError where labels are asked for and the mask holds weights. It does not hash: `sftprep verify`
    does. A dataset may be pickled, forked and shared by threads: maps are not pickled, and stay good in a forked child.
    set: "train", or "validation" where the dataset has that. Raises ConfigError, naming those that are, for one that is not.
    A dataset that is overwritten while it is open goes on from its maps, or raises DatasetError; rows never mix.
    """

    def __init__(self, folder: str | Path, set: str = "train", labels: bool = False) -> None:
        self.folder = Path(folder)
        self.set = set
        self.labels = labels
        self._weighted = self._open()
        self._starts = np.cumsum([0, *(shard.rows for shard in self._shards)])  # (shards + 1,) int64
        self._rows = int(self._starts[-1])
        self._forget_maps()
        if labels and self._weighted:
            raise ConfigError(f"{folder}: its mask holds weights, which labels cannot carry; read it with labels=False")

    def __len__(self) -> int:
        return self._rows

    def __getitem__(self, index: int | Sequence[int] | npt.NDArray[np.integer[Any]]) -> Sample:
        """One row, or a batch of them. Negative indices count from the end; raises IndexError outside of [-N, N)."""
        if isinstance(index, int) and 0 <= index < self._rows:
            return self._sample(self._row(index))
        places = self._places(index)
        return self._sample(self._gather(places) if places.ndim else self._row(int(places)))

    def __getitems__(self, indices: Sequence[int]) -> list[Sample]:
        """The rows at `indices` as views of one gathered batch: what DataLoader asks for before it collates."""
        batch = self._sample(self._gather(self._places(indices)))
        if isinstance(batch, dict):
            rows = zip(*(value.unbind() for value in batch.values()), strict=True)
            return [dict(zip(batch, row, strict=True)) for row in rows]
        x, y, mask = batch
        return list(zip(x.unbind(), y.unbind(), mask.unbind(), strict=True))

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_mapped"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget_maps()

    def _forget_maps(self) -> None:
        self._mapped = lru_cache(_mapped_shards())(self._map)

    def _map(self, shard: int) -> _Arrays:
        """A shard's arrays, mapped: (R, W), segments (R, 3). Raises DatasetError where a file is another than stated."""
        forms = self.manifest.arrays(self._shards[shard])
        try:
            return _Arrays(
                *(
                    open_array(self.folder / name, self.manifest.files[name].bytes, form.shape, form.dtypes)
                    for name, form in forms.items()
                )
            )
        finally:
            if self._is_replaced():
                raise DatasetError(f"{self.folder}: another dataset has taken its place; open it again")

    def _open(self) -> bool:
        """Read the manifest and check the files; once more if another dataset takes its place meanwhile."""
        while True:
            self._identity = _identity(self.folder)
            self.manifest = load_manifest(self.folder)
            self._shards = self.manifest.shards_of(self.set, self.folder)
            try:
                return self._check_files()
            except DatasetError:
                if not self._is_replaced():
                    raise

    def _is_replaced(self) -> bool:
        """Whether the folder holds another dataset by now."""
        identity = _identity(self.folder)
        if identity == self._identity:
            return False
        if load_manifest(self.folder).fingerprint != self.manifest.fingerprint:
            return True
        self._identity = identity  # a copy of the same
        return False

    def _check_files(self) -> bool:
        """Open every file once; True if a mask holds weights."""
        weighted = False
        for number, shard in enumerate(self._shards):
            weighted |= self._map(number).mask.dtype == np.float32
            with open_file(self.folder / shard.provenance, self.manifest.files[shard.provenance].bytes):
                pass
        with open_file(self.folder / REJECTS, self.manifest.files[REJECTS].bytes):
            pass
        return weighted

    def _places(self, index: Any) -> npt.NDArray[np.int64]:
        """() or (B,) int64, from 0 to N - 1."""
        places = np.asarray(index)
        if (places.size and places.dtype.kind not in "iu") or places.ndim > 1:
            raise TypeError(f"index {index!r}; expected an integer, or a sequence of them")
        places = places.astype(np.int64)
        if ((places < -self._rows) | (places >= self._rows)).any():
            raise IndexError(f"index out of range; {self.folder} has {self._rows} rows")
        return np.where(places < 0, places + self._rows, places)

    def _row(self, place: int) -> _Arrays:
        """The row at `place`, as views of its maps."""
        shard = bisect_right(self._starts, place) - 1
        row = place - int(self._starts[shard])
        x, y, mask, segments = self._mapped(shard)
        return _Arrays(x[row], y[row], mask[row], segments[row])

    def _gather(self, places: npt.NDArray[np.int64]) -> _Arrays:
        """(B, W) rows at `places`, (B,), in that order: taken shard by shard, put in order while still narrow."""
        shards = np.searchsorted(self._starts, places, side="right") - 1
        order = np.argsort(shards, kind="stable")
        shards = shards[order]
        rows = places[order] - self._starts[shards]
        cuts = [0, *(np.flatnonzero(np.diff(shards)) + 1).tolist(), len(places)]
        gathered = self._empty(len(places))
        for begin, end in pairwise(cuts if len(places) else []):
            for target, array in zip(gathered, self._mapped(int(shards[begin])), strict=True):
                target[begin:end] = array.take(rows[begin:end], axis=0, mode="clip")
        back = np.empty_like(order)
        back[order] = np.arange(len(order))
        return _Arrays(*(array.take(back, axis=0, mode="clip") for array in gathered))

    def _empty(self, count: int) -> _Arrays:
        """Room for so many rows: (count, W) each, segments (count, 3)."""
        shape = (count, self.manifest.width)
        ids = DTYPES[self.manifest.dtype]
        mask: npt.NDArray[Any] = np.empty(shape, np.float32 if self._weighted else np.bool_)
        return _Arrays(np.empty(shape, ids), np.empty(shape, ids), mask, np.empty((count, 3), np.int64))

    def _sample(self, arrays: _Arrays) -> Sample:
        """Widen a row or a batch to tensors: arrays are (..., W), segments (..., 3)."""
        x, y, mask, segments = arrays
        if not self.labels:
            wide = (x.astype(np.int64), y.astype(np.int64), mask.astype(np.float32 if self._weighted else np.int64))
            return torch.from_numpy(wide[0]), torch.from_numpy(wide[1]), torch.from_numpy(wide[2])
        input_ids = np.concatenate((x, y[..., -1:]), axis=-1, dtype=np.int64)
        labels = np.full_like(input_ids, IGNORED)
        np.copyto(labels[..., 1:], y, where=mask)
        positions = np.arange(input_ids.shape[-1])
        sample = {
            "input_ids": input_ids,
            "labels": labels,
            "attention_mask": (positions <= segments[..., 2:]).astype(np.int64),
            "position_ids": np.tile(positions, (*input_ids.shape[:-1], 1)),
        }
        return {name: torch.from_numpy(value) for name, value in sample.items()}


def _identity(folder: Path) -> tuple[int, int] | None:
    """Tells a manifest from one that took its place; None where there is none."""
    try:
        status = (folder / MANIFEST).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _mapped_shards() -> int:
    """How many shards stay mapped: each holds four file descriptors, and half of them are left to the trainer.

    A shard that is mapped again takes as long as a few hundred rows do.
    """
    try:
        import resource
    except ImportError:  # Windows
        return _DESCRIPTORS // 8
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return max(1, (limit if limit > 0 else 2**16) // 8)  # a limit below 0 is none
