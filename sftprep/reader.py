"""A dataset folder as a torch Dataset: `ds[i]` is one row, `ds[[i, j, ...]]` a batch, both as a trainer wants them.

Every file is checked when the dataset is opened; a shard is mapped when a row of it is first asked for. A batch takes
one gather per array and shard, and the copy that widens it to int64 also puts it in order. Only here is torch imported.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from sftprep.arrays import open_array, open_file
from sftprep.errors import ConfigError
from sftprep.manifest import REJECTS, load_manifest

IGNORED = -100  # the label that Hugging Face models and torch's cross entropy leave out
# A map keeps a file descriptor, and a process often may have 1024 of them. Mapping a shard again costs about 0.1 ms.
_MAPPED_SHARDS = 64

Sample = tuple[Tensor, Tensor, Tensor] | dict[str, Tensor]


class _Arrays(NamedTuple):
    """The maps of a shard of R rows, W wide; or rows gathered from several."""

    x: npt.NDArray[Any]  # (R, W) uint16 or uint32; gathered: int64
    y: npt.NDArray[Any]  # as x
    mask: npt.NDArray[Any]  # (R, W) bool or float32; gathered: int64 or float32
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
    """

    def __init__(self, folder: str | Path, labels: bool = False) -> None:
        self.folder = Path(folder)
        self.labels = labels
        self.manifest = load_manifest(self.folder)
        self._starts = np.cumsum([0, *(shard.rows for shard in self.manifest.shards)])  # (shards + 1,) int64
        self._mask_dtype = np.dtype(np.float32 if self._check_files() else np.int64)
        self._forget_maps()
        if labels and self._mask_dtype == np.float32:
            raise ConfigError(f"{folder}: its mask holds weights, which labels cannot carry; read it with labels=False")

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, index: int | Sequence[int] | npt.NDArray[np.integer[Any]]) -> Sample:
        """One row, or a batch of them. Negative indices count from the end; raises IndexError outside of [-N, N)."""
        places = self._places(index)
        if places.ndim:
            return self._sample(self._gather(places))
        shard = int(np.searchsorted(self._starts, places, side="right")) - 1
        row = int(places - self._starts[shard])
        x, y, mask, segments = self._mapped(shard)
        wide = (x[row].astype(np.int64), y[row].astype(np.int64), mask[row].astype(self._mask_dtype))
        return self._sample(_Arrays(*wide, segments[row]))

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
        self._mapped = lru_cache(_MAPPED_SHARDS)(self._map)

    def _map(self, shard: int) -> _Arrays:
        forms = self.manifest.arrays(self.manifest.shards[shard])
        return _Arrays(
            *(
                open_array(self.folder / name, self.manifest.files[name].bytes, form.shape, form.dtypes)
                for name, form in forms.items()
            )
        )

    def _check_files(self) -> bool:
        """Open every file once; True if a mask holds weights."""
        weighted = False
        for number, shard in enumerate(self.manifest.shards):
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
        count = len(self)
        if ((places < -count) | (places >= count)).any():
            raise IndexError(f"index out of range; {self.folder} has {count} rows")
        return np.where(places < 0, places + count, places)

    def _gather(self, places: npt.NDArray[np.int64]) -> _Arrays:
        """The rows at `places`, (B,), in that order."""
        shape = (len(places), self.manifest.width)
        x, y, mask = np.empty(shape, np.int64), np.empty(shape, np.int64), np.empty(shape, self._mask_dtype)
        segments = np.empty((len(places), 3), np.int64)
        shards = np.searchsorted(self._starts, places, side="right") - 1
        for shard in np.unique(shards).tolist():
            here = np.flatnonzero(shards == shard)
            rows = places[here] - self._starts[shard]
            for target, array in zip((x, y, mask, segments), self._mapped(shard), strict=True):
                target[here] = np.take(array, rows, axis=0, mode="clip")  # in range already: clip skips a buffered copy
        return _Arrays(x, y, mask, segments)

    def _sample(self, arrays: _Arrays) -> Sample:
        """Tensors of a row or a batch: arrays are (..., W), segments (..., 3)."""
        x, y, mask, segments = arrays
        if not self.labels:
            return torch.from_numpy(x), torch.from_numpy(y), torch.from_numpy(mask)
        input_ids = np.concatenate((x, y[..., -1:]), axis=-1)
        labels = np.full_like(input_ids, IGNORED)
        np.copyto(labels[..., 1:], y, where=mask != 0)
        positions = np.arange(input_ids.shape[-1])
        sample = {
            "input_ids": input_ids,
            "labels": labels,
            "attention_mask": (positions <= segments[..., 2:]).astype(np.int64),
            "position_ids": np.broadcast_to(positions, input_ids.shape).copy(),
        }
        return {name: torch.from_numpy(value) for name, value in sample.items()}
