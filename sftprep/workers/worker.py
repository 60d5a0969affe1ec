"""What passes between a job and those that do it: orders, and reports of progress."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from sftprep.workers.limits import Item, Suspect


@dataclass(frozen=True, slots=True)
class Report:
    """What happened since the last report."""

    conversations: int = 0
    tokens: int = 0
    bytes: int = 0
    replayed: int = 0  # conversations rendered without Jinja
    note: str = ""  # a line for the log
    seconds: Mapping[str, float] = field(default_factory=dict)  # of a process's time, by stage of the work
    done: tuple[int, Any] | None = None  # a task that leaves no file, and what came of it


@dataclass(frozen=True, slots=True)
class Order:
    """A task to do."""

    task: int
    lost: Mapping[Item, str] = field(default_factory=dict)  # items to leave out, and why
    careful: bool = False  # a process died or hung at it, nobody knows why: take items one by one, within limits


class Worker(Protocol):
    """What a process needs to work: `run` computes a task and returns the step that makes it durable."""

    def run(self, order: Order, report: Callable[[Report], None]) -> Callable[[], object]:
        """Compute a task's files; the returned callable publishes them and may run in another thread."""


OpenWorker = Callable[[Suspect], Worker]
Describe = Callable[[Item], str]


class Runner(Protocol):
    """A way to run workers, as a room."""

    FORKS: bool  # whether workers share what was loaded before they were started

    def run_tasks(
        self,
        open_worker: OpenWorker,
        tasks: Sequence[int],
        workers: int,
        report: Callable[[Report], None],
        describe: Describe = str,
    ) -> None:
        """Have every task done once by up to `workers` processes, each with a job of `open_worker`. describe: where an item is,
        for errors. Raises the first task's error, WorkerError, or TemplateError."""
