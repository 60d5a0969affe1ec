"""Steps, each known once."""

from __future__ import annotations

from sftprep.replay.steps import Forms, Steps


def test_constants_are_told_apart_by_type() -> None:
    steps = Steps(Forms({}))

    assert len({steps.constant(value) for value in (1, 1.0, True, "1", None, "None", 0, -0.0, 0.0)}) == 9
