"""Steps: drawn on a terminal, said elsewhere, and no reason to stop."""

from __future__ import annotations

import io
import json
import sys

import pytest

from sftprep.watch import steps as steps_room
from sftprep.watch.log import show_log
from sftprep.watch.steps import Steps
from watch.test_log import Gone


class Clock:
    """Time that passes when it is told to."""

    now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    monkeypatch.setattr(steps_room, "time", clock := Clock())
    return clock


def two_steps(clock: Clock, seconds: float, **options: bool) -> None:
    """Of four parts each, which take so long."""
    with Steps(**options) as steps:
        steps.advance(3)  # nothing has begun
        for step in ("hashing", "counting"):
            steps.begin(step, 4_000_000, "bytes" if step == "hashing" else "rows")
            for part in range(4):
                clock.now += seconds
                steps.advance(1_000_000, f"part {part}", {"part": part})


def test_short_steps_are_not_worth_a_line(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    show_log(as_json=False)
    two_steps(clock, 0.1)
    assert capsys.readouterr() == ("", "")


def test_a_line_a_minute(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    show_log(as_json=False)
    two_steps(clock, 40)
    assert capsys.readouterr().err.splitlines() == [
        "hashing: 4.0 MB",
        "hashing: 50%, part 1, 80 s left",
        "hashing: 100%, part 3, 0 s left",
        "hashing: done in 160.0 s, part 3",
        "counting: 4,000,000 rows",
        "counting: 50%, part 1, 80 s left",
        "counting: 100%, part 3, 0 s left",
        "counting: done in 160.0 s, part 3",
    ]
    two_steps(clock, 40, quiet=True)
    assert capsys.readouterr() == ("", "")


def test_objects(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    show_log(as_json=True)
    two_steps(clock, 6)
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [each["event"] for each in said] == ["begin", "progress", "progress", "end"] * 2
    assert said[1]["message"] == "hashing: 50%, part 1, 12 s left"
    facts = {"step": "hashing", "done": 2_000_000, "total": 4_000_000, "unit": "bytes", "seconds": 12.0, "part": 1}
    assert {name: said[1][name] for name in facts} == facts


def test_an_error_is_no_end(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    show_log(as_json=True)
    with pytest.raises(ValueError, match="broken"), Steps() as steps:
        steps.begin("hashing", None)
        raise ValueError("broken")
    (begun,) = map(json.loads, capsys.readouterr().err.splitlines())
    assert (begun["event"], begun["total"]) == ("begin", None)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_bar_on_a_terminal(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    show_log(as_json=False)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    two_steps(clock, 40)
    shown = terminal.getvalue()
    assert all(word in shown for word in ("hashing", "counting", "100%", "part 2"))
    assert "done in" not in shown
    show_log(as_json=True)
    monkeypatch.setattr(sys, "stderr", terminal := Terminal())
    two_steps(clock, 40)
    assert all(map(json.loads, terminal.getvalue().splitlines()))


@pytest.mark.parametrize("error", [OSError, BrokenPipeError])
def test_a_terminal_that_is_gone_stops_nothing(
    error: type[OSError], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(Gone, "isatty", lambda self: True)
    show_log(as_json=False)
    monkeypatch.setattr(sys, "stderr", gone := Gone(error))
    two_steps(clock, 40)
    assert gone.asked
