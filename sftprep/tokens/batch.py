"""Ids of many texts as one flat array with offsets: no list per text."""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, slots=True, eq=False)
class TokenBatch:
    """Token ids of a batch of B texts, one text after another: text b is ids[offsets[b]:offsets[b + 1]]."""

    ids: npt.NDArray[np.uint32]  # (T,)
    offsets: npt.NDArray[np.int64]  # (B + 1,)

    def sha256(self) -> str:
        """Of the ids of each text."""
        return hashlib.sha256(self.offsets.astype("<i8").tobytes() + self.ids.astype("<u4").tobytes()).hexdigest()


def dtype_for(size: int) -> np.dtype[np.uint16] | np.dtype[np.uint32]:
    """The smallest dtype that holds every id of a tokenizer of that size (largest id + 1)."""
    return np.dtype(np.uint16) if size <= 1 << 16 else np.dtype(np.uint32)


def batch_of(encodings: Sequence[Any]) -> TokenBatch:
    """The ids of `tokenizers.Encoding`s, flat."""
    ids = array("I")
    for encoding in encodings:
        ids.fromlist(encoding.ids)
    offsets = np.zeros(len(encodings) + 1, np.int64)
    np.cumsum([len(encoding) for encoding in encodings], out=offsets[1:])
    return TokenBatch(np.frombuffer(ids, np.uint32), offsets)


def split_rows(batch: TokenBatch) -> list[npt.NDArray[np.uint32]]:
    """The ids of each text."""
    return np.split(batch.ids, batch.offsets[1:-1])[: batch.offsets.size - 1]  # np.split gives one part at least


def join_rows(rows: Sequence[npt.NDArray[np.uint32]]) -> TokenBatch:
    """A batch of texts with these ids."""
    offsets = np.cumsum([0, *(ids.size for ids in rows)], dtype=np.int64)
    return TokenBatch(np.concatenate([np.zeros(0, np.uint32), *rows]), offsets)
