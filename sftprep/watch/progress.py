"""What a build shows while it works: its steps, over the input's bytes, and what workers report."""

from __future__ import annotations

import time
from collections.abc import Callable

from sftprep.jobs.plan import Plan, Watch
from sftprep.watch.log import say
from sftprep.watch.steps import MEGA, Steps
from sftprep.workers.worker import Report


class BuildProgress(Watch):
    """Conversations, tokens/s and MB/s of the step that a build is at; and what all of them took."""

    def __init__(self, quiet: bool) -> None:
        self.plan: Plan | None = None  # once work begins
        self.seconds: dict[str, float] = {}  # of all processes, by stage of the work
        self.bytes = self.tokens = self.conversations = 0  # that were worked on, in the last step
        self._quiet, self._steps = quiet, Steps(quiet=quiet)
        self._created = self._begun = time.monotonic()
        self._replayed = 0

    def __enter__(self) -> BuildProgress:
        self._steps.__enter__()
        return self

    def __exit__(self, kind: object, *error: object) -> None:
        self._steps.__exit__(kind, *error)

    def reading(self, size: int) -> Callable[[int], None]:
        """The inputs are hashed."""
        self._steps.begin("hashing the inputs", size)
        return self._steps.advance

    def begin(self, plan: Plan, step: str, left: int) -> None:
        """Show a step, from its start."""
        self.plan = plan
        self._begun = time.monotonic()
        self.bytes = self.tokens = self.conversations = self._replayed = 0
        self._steps.begin(step, left)

    def update(self, report: Report) -> None:
        """Add what a worker reports."""
        if report.note and not self._quiet:
            say(report.note)
        self.conversations += report.conversations
        self.tokens += report.tokens
        self.bytes += report.bytes
        self._replayed += report.replayed
        for stage, seconds in report.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        seconds = max(time.monotonic() - self._begun, 1e-9)
        counts = (
            f"{self.conversations:,} conversations, {self.tokens / seconds / MEGA:.2f} M tokens/s, "
            f"{self.bytes / seconds / MEGA:.1f} MB/s"
        )
        self._steps.advance(report.bytes, counts, {"conversations": self.conversations, "tokens": self.tokens})

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._created

    @property
    def replayed_share(self) -> float:
        """Of the conversations, those that were rendered without Jinja."""
        return self._replayed / max(self.conversations, 1)
