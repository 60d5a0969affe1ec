"""Roles and weights of a conversation's messages -> the loss weight of each."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from sftprep.masks.train_on import ASSISTANT, TrainOn


def message_weights(
    roles: Sequence[str], train_on: TrainOn = ASSISTANT, given: Sequence[float | None] | None = None
) -> npt.NDArray[np.float32]:
    """(M,) float32: the loss weight of every message of one conversation.

    A weight that the record itself gives wins over `train_on` both ways: 0 leaves a chosen message out, and 1
    (`train: true`) trains a message that `train_on` leaves out, because its author asked for exactly that one.
    """
    chosen = [role in train_on.roles for role in roles]
    if train_on.last and True in chosen:
        chosen = [False] * len(chosen)
        chosen[len(roles) - 1 - list(roles)[::-1].index("assistant")] = True
    if given is None:
        return np.array(chosen, np.float32)
    if len(given) != len(roles):
        raise ValueError(f"{len(given)} weights for {len(roles)} messages")
    return np.array([c if w is None else w for c, w in zip(chosen, given, strict=True)], np.float32)
