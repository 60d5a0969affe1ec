"""Rows packed from ragged tokens when a dataset is opened: an index, for any width, made anew for each; the tokens stay where they are."""

from __future__ import annotations

import hashlib
import json
import operator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.utils.data import Dataset

from sftprep.errors import ConfigError, DatasetError
from sftprep.layouts.cut import cut
from sftprep.layouts.kinds import OVERFLOWS
from sftprep.layouts.packing import pack
from sftprep.layouts.ragged import wrong_segments
from sftprep.reader.opened import MASK, SEGMENTS, OpenedFolder, X
from sftprep.reader.tensors import LabelledSample, Sample
from sftprep.reader.wholes import Whole, as_wholes

_POSSIBLE = (torch.int64, torch.int32)


class PackedDataset(Dataset[Sample | LabelledSample]):
    """Rows of `length` places that hold as many whole conversations of a `--layout ragged` dataset as fit, best fit over all of them.

    `ds[i]` is `(X, Y, mask)`, each (length,), as `ShardDataset` gives rows on disk: conversations one behind the other, each
    shifted by itself, then the pad id. With `labels=True` it is a dictionary of the row's tokens without padding, (L,) each:
    `input_ids`, `labels` (-100 where nothing is trained, and at each conversation's first token), `position_ids`, which count from 0
    in each, and `loss_weights` where the dataset has weights; L differs, so let `Collator` make batches of them. No
    `attention_mask`: with one, conversations would read each other.

    The same rows in every process. seed: of the order of rows, which is another one in each epoch (`set_epoch`). overflow: what
    becomes of a conversation of more than `length + 1` tokens: `truncate`, `turns`, `split`, `drop` or `error`, as `--overflow` says.
    pad_to: each conversation takes a multiple of so many places, as context parallelism wants it (2 * cp). set: "train", or
    "validation" where the dataset has that. dtype: int64 or int32.

    Raises ConfigError for another layout, length, overflow or dtype, and DatasetError, naming the file, for damage.
    """

    def __init__(
        self,
        folder: str | Path,
        length: int,
        seed: int = 0,
        overflow: str = "truncate",
        labels: bool = False,
        set: str = "train",
        pad_to: int = 1,
        dtype: torch.dtype = torch.int64,
    ) -> None:
        self.folder, self.length, self.seed, self.labels, self.set = Path(folder), length, seed, labels, set
        self._opened = OpenedFolder(self.folder, set)
        self.manifest = self._opened.manifest
        self._pad_to, self._dtype = pad_to, np.dtype(str(dtype).removeprefix("torch."))
        self._overflow, self._origins = overflow, dict[int, Any]()
        self.cut = self.left_out = (
            0  # conversations that are too long: cut, in pieces or not, and those of which nothing is kept
        )
        self._check(overflow, dtype)
        pieces = [self._pieces(number, overflow) for number in range(len(self._opened.shards))]
        self._shard = np.repeat(np.arange(len(pieces)), [len(first) for first, _, _ in pieces])
        none = np.zeros(0, np.int64)
        self._first, self._pairs, self._segment = (
            np.concatenate([none, *(each[kind] for each in pieces)]) for kind in range(3)
        )
        self._packing = pack(-(-self._pairs // pad_to) * pad_to, length)
        self._maps: dict[int, tuple[npt.NDArray[Any], ...]] = {}
        self.set_epoch(0)

    def _check(self, overflow: str, dtype: torch.dtype) -> None:
        if self.manifest.layout != "ragged":
            how = "ShardDataset reads it, or build it with --layout ragged"
            raise ConfigError(f"{self.folder}: rows of the layout {self.manifest.layout} are made already; {how}")
        if self.length < 1 or self._pad_to < 1 or self.length % self._pad_to:
            raise ConfigError(
                f"length {self.length}, pad_to {self._pad_to}: expected a length that is a multiple of pad_to"
            )
        if overflow not in OVERFLOWS:
            raise ConfigError(f"overflow {overflow!r}; expected one of {', '.join(OVERFLOWS)}")
        if dtype not in _POSSIBLE:
            raise ConfigError(f"{self.folder}: dtype {dtype}; expected {' or '.join(map(str, _POSSIBLE))}")

    def _pieces(self, number: int, overflow: str) -> tuple[npt.NDArray[np.int64], ...]:
        """Of a shard's conversations what is kept: place of the first id, (x, y) pairs, and whose it is, (P,) each."""
        shard, segments = self._opened.shards[number], self._opened.map_arrays(number, (SEGMENTS,))[0]
        if any(wrong.any() for wrong in wrong_segments(segments, (shard.tokens,)).values()):
            raise DatasetError(f"{self.folder / shard.name}.segments.npy: segments that lie outside of X")
        _, first, pairs = segments.T
        if (is_long := pairs > self.length).any() and overflow == "error":
            what = f"{int(pairs[np.argmax(is_long)]) + 1:,} tokens, which do not fit into a row of {self.length:,}"
            raise ConfigError(f"{self.folder}: {self._place(number, int(np.argmax(is_long)))} has {what}")
        if not is_long.any():
            return first, pairs, np.arange(len(first))
        targets = np.zeros(shard.tokens, np.bool_)
        targets[1:] = self._opened.map_arrays(number, (MASK,))[0][:-1] > 0
        pieces = cut(np.append(first, shard.tokens), targets, self.length + 1, overflow)
        counted = np.concatenate(([0], np.cumsum(targets)))
        trained = counted[pieces.start + pieces.tokens] - counted[np.minimum(pieces.start + 1, shard.tokens)]
        kept = (pieces.tokens > 1) & (trained > 0)  # the others have lost what was trained of them
        left = len(np.unique(pieces.conversation[kept]))
        self.left_out += len(first) - left
        self.cut += int(np.count_nonzero(is_long)) - (len(first) - left)
        return pieces.start[kept], pieces.tokens[kept] - 1, pieces.conversation[kept]

    def set_epoch(self, epoch: int) -> None:
        """Put the rows in the order of an epoch."""
        self._order = np.random.default_rng([self.seed, epoch]).permutation(len(self))

    @property
    def fingerprint(self) -> str:
        """Of the dataset, and of what decides which rows there are, in which order."""
        stated = [self.manifest.fingerprint, self.set, self.length, self.seed, self._overflow, self._pad_to]
        return hashlib.sha256(json.dumps(stated).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._packing.offsets) - 1

    def __repr__(self) -> str:
        full = self._pairs.sum() / max(len(self) * self.length, 1)
        lost = (
            f"; of conversations {self.cut:,} are cut, {self.left_out:,} left out" if self.cut or self.left_out else ""
        )
        rows = f"{len(self):,} rows of {self.length:,}, {full:.1%} full"
        return f"PackedDataset({str(self.folder)!r}, set={self.set!r}): {rows}{lost}"

    def __getitem__(self, index: int) -> Sample | LabelledSample:
        """One row. Negative indices count from the end; raises IndexError outside of [-N, N)."""
        pieces = self._pieces_in(index)
        if self.labels:
            return as_wholes([self._whole(each) for each in pieces], self._dtype, weighted=self._opened.weighted)
        mask_dtype = np.dtype(np.float32) if self._opened.weighted else self._dtype
        x, y = (np.full(self.length, self.manifest.pad_id, self._dtype) for _ in range(2))
        mask, at = np.zeros(self.length, mask_dtype), 0
        for each in pieces:
            ids, own = self._arrays(each)
            x[at : at + len(own)], y[at : at + len(own)], mask[at : at + len(own)] = ids[:-1], ids[1:], own
            at += -(-len(own) // self._pad_to) * self._pad_to
        return Sample(*map(torch.from_numpy, (x, y, mask)))

    @property
    def lengths(self) -> npt.NDArray[np.int64]:
        """(N,) int64: the tokens of each row, without padding."""
        tokens = np.concatenate(([0], np.cumsum((self._pairs + 1)[self._packing.items])))
        return np.diff(tokens[self._packing.offsets])[self._order]

    def source(self, index: int) -> str:
        """Where the conversations of a row came from: "chat.jsonl:17, chat.jsonl:40"."""
        found = self._pieces_in(index)
        return ", ".join(self._place(int(self._shard[each]), int(self._segment[each])) for each in found)

    def _place(self, shard: int, segment: int) -> str:
        from sftprep.dataset.origins import read_origins  # needs pyarrow

        entry = self._opened.shards[shard]
        if shard not in self._origins:
            size = self.manifest.files[entry.provenance].bytes
            self._origins[shard] = read_origins(self.folder / entry.provenance, size, entry.segments)
        return f"{self._origins[shard]['source'][segment]}:{self._origins[shard]['line'][segment]}"

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_maps": {}, "_origins": {}}

    def _pieces_in(self, index: int) -> list[int]:
        index = operator.index(index)  # TypeError for what is no integer
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} out of range; {self.folder} gives {len(self)} rows")
        row = int(self._order[index])
        begin, end = self._packing.offsets[row : row + 2].tolist()
        pieces: list[int] = self._packing.items[begin:end].tolist()
        return pieces

    def _arrays(self, piece: int) -> tuple[npt.NDArray[Any], npt.NDArray[Any]]:
        """(n + 1,) ids and (n,) mask of a piece, as they lie in the file."""
        shard = int(self._shard[piece])
        if shard not in self._maps:
            self._maps[shard] = self._opened.map_arrays(shard, (X, MASK))
        x, mask = self._maps[shard]
        first, pairs = int(self._first[piece]), int(self._pairs[piece])
        return x[first : first + pairs + 1], mask[first : first + pairs]

    def _whole(self, piece: int) -> Whole:
        ids, mask = self._arrays(piece)
        more = -len(mask) % self._pad_to
        return Whole(np.append(ids, [self.manifest.pad_id] * more), np.append(mask, np.zeros(more, mask.dtype)))
