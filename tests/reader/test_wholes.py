"""Conversations one behind the other, against lists."""

from __future__ import annotations

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from sftprep.reader.wholes import Whole, as_wholes  # noqa: E402


def test_each_conversation_is_whole_and_counts_from_0() -> None:
    some = [
        Whole(np.array([5, 6, 7], np.uint16), np.array([False, True])),
        Whole(np.array([8, 9], np.uint16), np.array([True])),
    ]
    sample = as_wholes(some, np.int64)
    assert {name: value.tolist() for name, value in sample.items()} == {
        "input_ids": [5, 6, 7, 8, 9],
        "labels": [-100, -100, 7, -100, 9],
        "position_ids": [0, 1, 2, 0, 1],
    }
    assert {value.dtype for value in sample.values()} == {torch.int64}
    assert as_wholes(some, np.int32)["labels"].dtype == torch.int32


def test_weights_stay_beside_the_labels() -> None:
    some = [
        Whole(np.array([5, 6, 7]), np.array([0.5, 0], np.float32)),
        Whole(np.array([8, 9]), np.array([1], np.float32)),
    ]
    sample = as_wholes(some, np.int64, weighted=True)
    assert sample["loss_weights"].tolist() == [0, 0.5, 0, 0, 1]
    assert sample["labels"].tolist() == [-100, 6, -100, -100, 9]
