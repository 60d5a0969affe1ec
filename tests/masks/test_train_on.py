"""Whose messages `--train-on` trains."""

from __future__ import annotations

import numpy as np
import pytest

from sftprep.errors import ConfigError
from sftprep.masks.train_on import TrainOn
from sftprep.masks.weights import message_weights


@pytest.mark.parametrize(
    ("train_on", "expected"),
    [
        ("assistant", [0, 0, 1, 0, 1]),
        ("last", [0, 0, 0, 0, 1]),
        ("all", [1, 1, 1, 1, 1]),
        ("user", [0, 1, 0, 0, 0]),
        ("assistant, tool", [0, 0, 1, 1, 1]),
    ],
)
def test_train_on(train_on: str, expected: list[int]) -> None:
    weights = message_weights(["system", "user", "assistant", "tool", "assistant"], TrainOn.parse(train_on))
    assert weights.tolist() == expected
    assert weights.dtype == np.float32


@pytest.mark.parametrize("train_on", ["", ",", "last,user", "all, assistant"])
def test_train_on_that_means_nothing(train_on: str) -> None:
    with pytest.raises(ConfigError, match="expected assistant, last, all, or roles of"):
        message_weights(["user"], TrainOn.parse(train_on))
