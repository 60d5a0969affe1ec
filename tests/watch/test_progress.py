"""The bar adds up what workers report, and stops no work."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import pytest
from small_builds import GOOD, TOKENIZER, write

from sftprep.config import BuildConfig
from sftprep.jobs.plan import Plan, make_plan
from sftprep.watch.progress import BuildProgress
from sftprep.workers.worker import Report

REPORTS = [
    Report(conversations=3, tokens=30, bytes=300, replayed=1, seconds={"reading": 0.5, "mask": 1.0}),
    Report(note="a worker process was killed; \x1b[2J [bold]"),
    Report(conversations=1, tokens=10, bytes=100, replayed=1, seconds={"reading": 0.25}),
]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return make_plan(BuildConfig((write(tmp_path / "a.jsonl", GOOD),), TOKENIZER))[0]


@pytest.mark.parametrize("quiet", [False, True])
def test_reports_add_up(plan: Plan, quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    with BuildProgress(quiet) as progress:
        assert progress.plan is None
        progress.begin(plan, "tokenizing", 400)
        for report in REPORTS:
            progress.update(report)
    assert progress.plan == plan
    assert progress.seconds == {"reading": 0.75, "mask": 1.0}
    assert progress.replayed_share == 0.5
    out, shown = capsys.readouterr()
    assert (out, "\x1b[2J" in shown, shown == "") == ("", False, quiet)
    if not quiet:
        assert r"a worker process was killed; \x1b[2J [bold]" in shown
        words = " ".join(shown.split())
        assert ("tokenizing" in words, "100%" in words, "4 conversations" in words) == (True, True, True), shown


def test_where_nothing_was_to_do_nothing_is_drawn(capsys: pytest.CaptureFixture[str]) -> None:
    with BuildProgress(quiet=False) as progress:
        pass
    assert (progress.plan, progress.replayed_share, capsys.readouterr()) == (None, 0, ("", ""))


class Gone(io.StringIO):
    """A standard error behind which the disk is full, or nobody reads any more."""

    def __init__(self, error: type[OSError]) -> None:
        super().__init__()
        self.error, self.asked = error, 0

    def write(self, text: str) -> int:
        self.asked += 1
        raise self.error


@pytest.mark.parametrize("error", [OSError, BrokenPipeError])
def test_a_terminal_that_is_gone_stops_nothing(
    plan: Plan, error: type[OSError], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stderr", gone := Gone(error))
    with BuildProgress(quiet=False) as progress:
        progress.begin(plan, "tokenizing", 400)
        for report in REPORTS:
            progress.update(report)
    assert gone.asked
    assert progress.seconds["reading"] == 0.75
