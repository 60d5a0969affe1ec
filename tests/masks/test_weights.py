"""The loss weight of each message."""

from __future__ import annotations

import pytest

from sftprep.masks.train_on import TrainOn
from sftprep.masks.weights import message_weights


def test_last_means_the_last_assistant_message() -> None:
    assert message_weights(["assistant", "user"], TrainOn.parse("last")).tolist() == [1, 0]
    assert message_weights(["user"], TrainOn.parse("last")).tolist() == [0]


def test_a_given_weight_wins_both_ways() -> None:
    roles = ["user", "assistant", "user", "assistant"]
    assert message_weights(roles, TrainOn.parse("assistant"), [1.0, None, 0.0, 0.5]).tolist() == [1, 1, 0, 0.5]
    assert message_weights(roles, TrainOn.parse("last"), [None, 1.0, None, 0.0]).tolist() == [0, 1, 0, 0]


def test_as_many_weights_as_messages() -> None:
    with pytest.raises(ValueError, match="1 weights for 2 messages"):
        message_weights(["user", "assistant"], TrainOn.parse("assistant"), [1.0])
