"""What would take the process down is found out in a child."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from sftprep.apart import fatal, survives

PATIENT = 120  # seconds in which anything that ends comes to its end on any machine


def test_what_ends_survives_however_it_ends() -> None:
    assert survives(lambda: None, PATIENT)
    assert survives(lambda: 1 / 0, PATIENT)


def test_what_dies_or_does_not_end_does_not() -> None:
    assert not survives(lambda: os.kill(os.getpid(), signal.SIGKILL), PATIENT)
    assert not survives(lambda: time.sleep(600), 1)
    assert not survives(lambda: os._exit(3), PATIENT)


@settings(max_examples=10)
@given(st.lists(st.sampled_from([0, 0, 0, 0, 1]), max_size=12))
def test_the_items_at_fault_are_found(items: list[int]) -> None:
    def step(some: Sequence[int]) -> None:
        if any(some):
            os._exit(1)

    assert list(fatal(step, items, PATIENT)) == [index for index, item in enumerate(items) if item]


def test_nothing_of_the_step_happens_here() -> None:
    seen: list[int] = []
    assert survives(lambda: seen.append(1), PATIENT)
    assert seen == []
