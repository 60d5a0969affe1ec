"""What a build shows on the terminal while it works: a progress bar over the input's bytes.

A terminal that is gone, or a full disk behind standard error, is no reason to stop the work.
"""

from __future__ import annotations

import time
from contextlib import suppress

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sftprep.jobs.build import Watch
from sftprep.jobs.plan import Plan
from sftprep.visible import visible
from sftprep.workers.worker import Report

MEGA = 1e6


class QuietConsole(Console):
    """Standard error, or whatever became of it."""

    def on_broken_pipe(self) -> None:
        """Nobody reads any more; rich would exit."""


class BuildProgress(Watch):
    """A bar over the input's bytes, with conversations, tokens/s and MB/s. Drawn on standard error."""

    def __init__(self, quiet: bool) -> None:
        self.plan: Plan | None = None  # once work begins
        self.seconds: dict[str, float] = {}  # of all processes, by stage of the work
        self.bytes = 0  # of input that was worked on, in this step
        self._created = self._begin = time.monotonic()
        self._conversations = self._tokens = self._replayed = 0
        # refreshed from `update`, not from a thread: worker processes are forked while it is shown
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("[cyan]{task.fields[counts]}"),
            TimeRemainingColumn(),
            console=QuietConsole(stderr=True),
            auto_refresh=False,
            disable=quiet,
        )
        self._task = self._bar.add_task("tokenizing", total=None, counts="")
        self._drawn = 0.0

    def __enter__(self) -> BuildProgress:
        return self

    def begin(self, plan: Plan, step: str, left: int) -> None:
        """Show the bar, from its start."""
        self.plan = plan
        self._begin = time.monotonic()
        self._conversations = self._tokens = self._replayed = 0
        self._bar.update(self._task, description=step, total=left, completed=0)
        with suppress(OSError):
            self._bar.start()

    def __exit__(self, *error: object) -> None:
        if self.plan is not None:
            self._draw()
            with suppress(OSError):
                self._bar.stop()

    def update(self, report: Report) -> None:
        """Add what a worker reports."""
        if report.note and not self._bar.disable:
            with suppress(OSError):
                self._bar.console.print(f"[dim]{escape(visible(report.note))}")
        self._conversations += report.conversations
        self._tokens += report.tokens
        self.bytes += report.bytes
        self._replayed += report.replayed
        for stage, seconds in report.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        if time.monotonic() - self._drawn > 0.1:
            self._draw()

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._created

    @property
    def replayed_share(self) -> float:
        """Of the conversations, those that were rendered without Jinja."""
        return self._replayed / max(self._conversations, 1)

    def _draw(self) -> None:
        seconds = max(time.monotonic() - self._begin, 1e-9)
        counts = (
            f"{self._conversations:,} conversations  {self._tokens / seconds / MEGA:.2f} M tokens/s  "
            f"{self.bytes / seconds / MEGA:.1f} MB/s"
        )
        self._bar.update(self._task, completed=self.bytes, counts=counts)
        with suppress(OSError):
            self._bar.refresh()
        self._drawn = time.monotonic()
