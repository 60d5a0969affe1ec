"""What would take the process down is done in a child."""

from __future__ import annotations

import os
import signal
from functools import partial

import pytest

from sftprep.errors import ConversationError, WorkerError
from sftprep.workers.limits import LimitError
from sftprep.workers.trial import run_apart


def test_what_a_step_returns_comes_back() -> None:
    assert run_apart(lambda: {"a": [1, "é"]}, what="it") == {"a": [1, "é"]}
    assert run_apart(lambda: b"x" * 10_000_000, what="it") == b"x" * 10_000_000  # more than a pipe holds


def test_nothing_of_the_step_happens_here() -> None:
    seen: list[int] = []
    assert run_apart(lambda: seen.append(os.getpid()), what="it") is None
    assert seen == []
    assert run_apart(os.getpid, what="it") != os.getpid()


def test_the_steps_own_error_comes_back() -> None:
    def fail() -> None:
        raise ConversationError("chat.jsonl:3: wrong")

    with pytest.raises(ConversationError, match=r"^chat.jsonl:3: wrong$"):
        run_apart(fail, what="it")
    with pytest.raises(WorkerError, match=r"internal error at test_trial.py:\d+: ZeroDivisionError"):
        run_apart(lambda: 1 // 0, what="it")
    with pytest.raises(WorkerError, match=r"PicklingError|AttributeError"):
        run_apart(lambda: lambda: None, what="it")


@pytest.mark.parametrize("name", ["SIGKILL", "SIGUSR1", "SIGPROF"])
def test_a_child_that_dies_is_an_error(name: str) -> None:
    how = "ran out of time" if name == "SIGPROF" else f"was killed by {name}"
    with pytest.raises(LimitError, match=f"^the step {how}$"):
        run_apart(lambda: os.kill(os.getpid(), signal.Signals[name]), what="the step")
    with pytest.raises(LimitError, match=r"^the step ended with exit code 3$"):
        run_apart(partial(os._exit, 3), what="the step")


def test_a_step_has_limits_of_time_and_memory() -> None:
    with pytest.raises(LimitError, match=r"^the step ran out of time$"):
        run_apart(partial(sum, iter(int, 1)), what="the step", seconds=0.2)
    with pytest.raises(LimitError, match=r"^the step needs more than 100 MB"):
        run_apart(lambda: len(bytearray(200 << 20)), what="the step", memory=100 << 20)
    assert run_apart(lambda: len(bytearray(50 << 20)), what="the step", memory=100 << 20) == 50 << 20
