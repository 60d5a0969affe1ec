"""The steps of a job while it works: a bar on a terminal. Where there is none, lines of the log: of a step that takes longer than
a moment its start, one a minute, and its end; with --log-json every start and end, and one in ten seconds.

A terminal that is gone, or a full disk behind standard error, is no reason to stop the work.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from types import MappingProxyType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from sftprep.watch.log import say, says_json

MOMENT = 2.0  # seconds: a step that is done before is not worth a line
EVERY, EVERY_JSON = 60.0, 10.0  # seconds between lines
_DRAWN_EVERY = 0.1
MEGA = 1e6
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class QuietConsole(Console):
    """Standard error, or whatever became of it."""

    def on_broken_pipe(self) -> None:
        """Nobody reads any more; rich would exit."""


class Steps:
    """Shows one step after another, in the body of a `with`."""

    def __init__(self, *, quiet: bool = False) -> None:
        console = QuietConsole(stderr=True)
        self._quiet, self._drawn = quiet, not quiet and console.is_terminal and not says_json()
        # refreshed from `advance`, not from a thread: worker processes are forked while it is shown
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("[cyan]{task.fields[counts]}"),
            TimeRemainingColumn(),
            console=console,
            auto_refresh=False,
            transient=True,
            disable=not self._drawn,
        )
        self._task = self._bar.add_task("", total=None, counts="")
        self._step, self._unit, self._done, self._counts = "", "", 0, ""
        self._total: int | None = None
        self._begun = self._shown = 0.0
        self._stated, self._announced = _NOTHING, False

    def __enter__(self) -> Steps:
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        if self._step and kind is None:
            self._end()
        if self._drawn:
            with suppress(OSError):
                self._bar.stop()

    def begin(self, step: str, total: int | None, unit: str = "bytes") -> None:
        """A step begins, in which `advance` is called until the counts add up to `total` of a unit. The one before is over."""
        if self._step:
            self._end()
        self._step, self._unit, self._total, self._done = step, unit, total, 0
        self._begun = self._shown = time.monotonic()
        self._counts, self._stated, self._announced = "", _NOTHING, False
        if says_json():
            self._announce()
        if self._drawn:
            with suppress(OSError):
                self._bar.reset(self._task, description=step, total=total, counts="")
                self._bar.start()

    def advance(self, count: int, counts: str = "", stated: Mapping[str, Any] = _NOTHING) -> None:
        """So much more is done. counts: what else is known, in words; stated: for machines."""
        self._done, self._counts, self._stated = self._done + count, counts, stated
        now = time.monotonic()
        if not self._step:
            return
        if self._drawn:
            if now - self._shown > _DRAWN_EVERY:
                self._shown = now
                self._draw()
            return
        if not self._announced and now - self._begun >= MOMENT:
            self._announce()
        if now - self._shown >= (EVERY_JSON if says_json() else EVERY):
            self._shown = now
            self._say("progress", ", ".join(filter(None, (self._share(), self._counts, self._left()))))

    def _end(self) -> None:
        if self._drawn:
            self._draw()
        elif self._announced:
            self._say("end", ", ".join(filter(None, (f"done in {self._seconds():.1f} s", self._counts))))
        self._step = ""

    def _draw(self) -> None:
        self._bar.update(self._task, completed=self._done, counts=self._counts)
        with suppress(OSError):
            self._bar.refresh()

    def _announce(self) -> None:
        self._announced = True
        size = (
            ""
            if self._total is None
            else f"{self._total / MEGA:,.1f} MB"
            if self._unit == "bytes"
            else f"{self._total:,} {self._unit}"
        )
        self._say("begin", size)

    def _say(self, event: str, what: str) -> None:
        if self._quiet:
            return
        facts = {"step": self._step, "done": self._done, "total": self._total, "unit": self._unit}
        said = {**facts, "seconds": round(self._seconds(), 3), **self._stated}
        say(": ".join(filter(None, (self._step, what))), event, said)

    def _seconds(self) -> float:
        return time.monotonic() - self._begun

    def _share(self) -> str:
        return f"{self._done / self._total:.0%}" if self._total else f"{self._done:,} {self._unit}"

    def _left(self) -> str:
        if not self._total or not self._done:
            return ""
        seconds = self._seconds() * max(self._total - self._done, 0) / self._done
        return f"{seconds / 60:.0f} min left" if seconds >= 90 else f"{seconds:.0f} s left"
