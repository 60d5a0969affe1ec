"""Tasks -> done tasks, on local worker processes.

A worker opens the job once (tokenizer, template), then takes one task after another. While a finished task's files
are fsynced, hashed and renamed in a thread of the worker, its main thread is at the next task. Nothing but task
numbers, progress counts and totals crosses a pipe. A worker that dies is replaced and its tasks are given out once
more; a task that loses two workers is an error.

A worker that dies of an item of its task (its template or tokenizer does not come to an end on it, or crashes) costs that
item only: which one it is at stands in memory that outlives it, and whoever does the task again leaves that item out.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from time import monotonic
from typing import Any

from sftprep.errors import TemplateError, WorkerError
from sftprep.workers.limits import MOST_LOST, OUT_OF_TIME, Item, Suspect
from sftprep.workers.trial import become_child, how_it_ended, portable, signals_held
from sftprep.workers.worker import Describe, OpenWorker, Order, Report

_MOST_TRIES = 2
_GRACE_SECONDS = 5.0
_TICK_SECONDS = 1.0
FORKS = sys.platform == "linux"  # workers share what is loaded; elsewhere fork is unsafe or absent
_OF_AN_ITEM = {OUT_OF_TIME, signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT, signal.SIGILL, signal.SIGFPE}
HANG_SECONDS = 300.0  # a worker that reports nothing for so long is taken for dead; a batch takes a few seconds


@dataclass(eq=False, slots=True)
class _Process:
    process: BaseProcess
    connection: Connection
    suspect: Suspect
    heard: float  # when it last reported
    tasks: set[int] = field(default_factory=set)
    at: int = -1  # the task it was given last: the others wait for the disk
    ready: bool = False


def run_tasks(
    open_worker: OpenWorker,
    tasks: Sequence[int],
    workers: int,
    report: Callable[[Report], None],
    describe: Describe = str,
) -> None:
    """Run every task once, on up to `workers` processes. describe: where an item is, for errors.

    Raises the first task's error, WorkerError, or TemplateError where item after item ends its worker.
    """
    if tasks:
        pool = _Pool(open_worker, tasks, report, describe)
        try:
            pool.run(min(workers, len(tasks)))
        finally:
            pool.stop()


class _Pool:
    def __init__(
        self, open_worker: OpenWorker, tasks: Sequence[int], report: Callable[[Report], None], describe: Describe
    ) -> None:
        self._open_worker, self._report, self._describe = open_worker, report, describe
        self._waiting = deque(tasks)
        self._left = len(self._waiting)
        self._deaths: Counter[int] = Counter()
        self._starts_lost = 0
        self._lost: dict[Item, str] = {}
        self._losses: Counter[int] = Counter()  # by task
        self._members: list[_Process] = []
        # fork shares the imports; where it is unsafe (macOS) or absent, start afresh
        self._context = multiprocessing.get_context("fork" if FORKS else "spawn")

    def run(self, workers: int) -> None:
        for _ in range(workers):
            self._start()
        while self._left:
            for connection in wait([member.connection for member in self._members], timeout=_TICK_SECONDS):
                member = next(each for each in self._members if each.connection is connection)
                member.heard = monotonic()
                try:
                    message = member.connection.recv()
                except (EOFError, OSError):
                    self._bury(member)
                else:
                    self._handle(member, *message)
            for member in self._members:
                if self._hangs(member):
                    member.process.kill()  # and is buried when its pipe ends
        for member in self._members:
            with suppress(OSError):
                member.connection.send(None)

    def _hangs(self, member: _Process) -> bool:
        """Silent for too long, and not because it has nothing to do."""
        return not member.ready and monotonic() - member.heard > HANG_SECONDS

    def stop(self) -> None:
        """End every process: at once if work was left, else after it has said goodbye."""
        for member in self._members:
            if self._left:
                member.process.terminate()
        for member in self._members:
            member.process.join(_GRACE_SECONDS)
            if member.process.is_alive():
                member.process.kill()
                member.process.join()
            with suppress(OSError):
                member.connection.close()

    def _start(self) -> None:
        ours, theirs = self._context.Pipe()
        suspect = Suspect()
        others = [member.connection for member in self._members] + [ours]
        inherited = others if self._context.get_start_method() == "fork" else []
        process = self._context.Process(  # type: ignore[attr-defined]
            target=_serve, args=(self._open_worker, theirs, inherited, suspect, os.getpid())
        )  # no daemon: those have no children, and a worker that opens a tokenizer tries its engines in one
        begun = monotonic()
        try:
            with signals_held():
                process.start()
                self._members.append(_Process(process, ours, suspect, begun))
                theirs.close()
        except OSError as error:
            raise WorkerError(f"a worker process cannot be started: {error.strerror}") from error

    def _handle(self, member: _Process, kind: str, task: int, value: Any) -> None:
        if kind == "progress":
            self._report(value)
            return
        if kind == "error":
            raise value
        if kind == "done":
            member.tasks.discard(task)
            self._left -= 1
        if kind == "free":
            member.ready = True
        self._hand_out()

    def _hand_out(self) -> None:
        for member in self._members:
            if member.ready and self._waiting:
                task = self._waiting.popleft()
                member.tasks.add(task)
                member.at = task
                member.ready, member.heard = False, monotonic()
                try:
                    member.connection.send(Order(task, self._lost, careful=self._deaths[task] > 0))
                except OSError:
                    member.process.kill()  # most likely it is dead: its end is read from the pipe

    def _bury(self, member: _Process) -> None:
        """Give a dead worker's tasks out again, or raise when one of them has had its tries."""
        self._members.remove(member)
        member.process.kill()  # it may live, if only its pipe is broken
        member.process.join()
        with suppress(OSError):
            member.connection.close()
        how, signal_number = how_it_ended(member.process.exitcode), -(member.process.exitcode or 0)
        item = member.suspect.item() if signal_number in _OF_AN_ITEM else ()
        if item:
            self._lose(member.at, item, signal_number)
        elif not member.tasks and not member.ready:
            self._starts_lost += 1
            if self._starts_lost >= _MOST_TRIES:
                raise WorkerError(f"worker processes end before they take a task ({how})")
        for task in sorted(member.tasks, reverse=True):
            self._deaths[task] += not item
            if self._deaths[task] >= _MOST_TRIES:
                raise WorkerError(
                    f"split {task}: its worker process {how}, twice; if memory is short, use fewer --workers"
                )
            self._waiting.appendleft(task)
        self._report(Report(note=f"a worker process {how}; its splits are done again"))
        self._start()

    def _lose(self, task: int, item: Item, signal_number: int) -> None:
        """Leave an item of a task out from now on, of which a worker has died."""
        how = f"takes the process down ({signal.Signals(signal_number).name})"
        how = "does not come to an end" if signal_number == OUT_OF_TIME else how
        self._lost[item] = f"the chat template or the tokenizer {how} on it"
        self._losses[task] += 1
        if self._losses[task] >= MOST_LOST:
            before = f"as on {MOST_LOST - 1} before it"
            raise TemplateError(f"{self._describe(item)}: {self._lost[item]}, {before}, so the job stops")


def _serve(
    open_worker: OpenWorker, connection: Connection, inherited: list[Connection], suspect: Suspect, parent: int
) -> None:
    """The life of a worker process."""
    become_child(parent)
    os.environ["TOKENIZERS_PARALLELISM"] = "false"  # a process per core: no threads beside it
    for other in inherited:
        with suppress(OSError):
            other.close()
    if not os.environ.get("SFTPREP_DEBUG"):  # all that a user has to know goes through the pipe; Rust panics print more
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sending = threading.Lock()

    def send(kind: str, task: int, value: object = None) -> None:
        with sending:
            try:
                connection.send((kind, task, value))
            except OSError:
                os._exit(1)  # nobody hears of what is done here: let another process do it

    def guarded(task: int, step: Callable[[], object]) -> Any:
        try:
            return step()
        except BaseException as error:  # noqa: BLE001  whatever it was, the parent has to hear of it
            send("error", task, portable(error))
            os._exit(1)

    def report(progress: Report) -> None:
        send("progress", -1, progress)

    def finish(task: int, publish: Callable[[], object]) -> None:
        guarded(task, publish)
        send("done", task)

    worker = guarded(-1, lambda: open_worker(suspect))
    with ThreadPoolExecutor(1, "publish") as publisher:
        publishing = None
        while True:
            send("free", -1)
            try:
                order = connection.recv()
            except (EOFError, OSError):
                os._exit(1)  # the parent is gone
            if order is None:
                return
            publish = guarded(order.task, partial(worker.run, order, report))
            if publishing:
                publishing.result()  # one task's files at a time wait for the disk
            publishing = publisher.submit(finish, order.task, publish)
