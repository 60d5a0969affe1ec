"""The bar adds up what workers report, and stops no work."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_builds import GOOD, TOKENIZER, write

from sftprep.config import BuildConfig
from sftprep.jobs.plan import Plan, make_plan
from sftprep.watch.log import show_log
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


def test_reports_add_up(plan: Plan) -> None:
    with BuildProgress(quiet=True) as progress:
        assert progress.plan is None
        progress.reading(700)(700)
        progress.begin(plan, "tokenizing", 400)
        for report in REPORTS:
            progress.update(report)
    assert progress.plan == plan
    assert progress.seconds == {"reading": 0.75, "mask": 1.0}
    assert (progress.conversations, progress.tokens, progress.bytes, progress.replayed_share) == (4, 40, 400, 0.5)


@pytest.mark.parametrize("quiet", [False, True])
def test_what_is_said(plan: Plan, quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    show_log(as_json=True)
    with BuildProgress(quiet) as progress:
        progress.begin(plan, "tokenizing", 400)
        for report in REPORTS:
            progress.update(report)
    out, shown = capsys.readouterr()
    assert (out, shown == "") == ("", quiet)
    if not quiet:
        begin, note, end = map(json.loads, shown.splitlines())
        assert (begin["event"], begin["message"]) == ("begin", "tokenizing: 0.0 MB")
        assert (note["event"], note["message"]) == ("note", "a worker process was killed; \\x1b[2J [bold]")
        assert "4 conversations" in end["message"]
        assert (end["event"], end["conversations"], end["tokens"], end["done"]) == ("end", 4, 40, 400)


def test_where_nothing_was_to_do_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    with BuildProgress(quiet=False) as progress:
        progress.update(Report())
    assert (progress.plan, progress.replayed_share, capsys.readouterr()) == (None, 0, ("", ""))
