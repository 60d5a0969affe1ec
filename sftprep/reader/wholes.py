"""Conversations that share a row, as Hugging Face models take them: each whole, one behind the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from sftprep.reader.tensors import IGNORED, LabelledSample

Array = npt.NDArray[Any]


class Whole(NamedTuple):
    """A conversation, or a piece of one, of n + 1 ids."""

    ids: Array  # (n + 1,)
    mask: Array  # (n,) bool or float32, above 0 trains the id that follows ids[t]


def as_wholes(conversations: Sequence[Whole], dtype: npt.DTypeLike, *, weighted: bool = False) -> LabelledSample:
    """Four arrays of L, the ids of all of them: `input_ids`; `labels`, -100 where nothing is trained, as each one's first id;
    `position_ids`, which count from 0 in each; and, if the masks are weights, `loss_weights`, float32."""
    ids = np.concatenate([each.ids for each in conversations]).astype(dtype)
    weights = np.concatenate([part for each in conversations for part in (np.zeros(1, each.mask.dtype), each.mask)])
    positions = np.concatenate([np.arange(len(each.ids), dtype=dtype) for each in conversations])
    sample = {
        "input_ids": torch.from_numpy(ids),
        "labels": torch.from_numpy(np.where(weights > 0, ids, np.array(IGNORED, ids.dtype))),
        "position_ids": torch.from_numpy(positions),
    }
    if weighted:
        sample["loss_weights"] = torch.from_numpy(weights.astype(np.float32))
    return LabelledSample(sample)
