"""Tasks -> done tasks, on local worker processes.

A worker opens the job once (tokenizer, template), then takes one task after another. While a finished task's files
are fsynced, hashed and renamed in a thread of the worker, its main thread is at the next task. Nothing but task
numbers, progress counts and totals crosses a pipe. A worker that dies is replaced and its tasks are given out once
more; a task that loses two workers is an error.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from time import monotonic
from typing import Any, Protocol

from sftprep.apart import die_with
from sftprep.errors import SftprepError, WorkerError

_MOST_TRIES = 2
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_GRACE_SECONDS = 5.0
_TICK_SECONDS = 1.0
FORKS = sys.platform == "linux"  # workers share what is loaded; elsewhere fork is unsafe or absent
HANG_SECONDS = 300.0  # a worker that reports nothing for so long is taken for dead; a batch takes a few seconds


@dataclass(frozen=True, slots=True)
class Progress:
    """What happened since the last report."""

    conversations: int = 0
    tokens: int = 0
    bytes: int = 0
    replayed: int = 0  # conversations rendered without Jinja
    note: str = ""  # a line for the log
    seconds: Mapping[str, float] = field(default_factory=dict)  # of a process's time, by stage of the work


class Worker(Protocol):
    """What a process needs to work: `run` computes a task and returns the step that makes it durable."""

    def run(self, task: int, report: Callable[[Progress], None], *, careful: bool) -> Callable[[], object]:
        """Compute a task's files; the returned callable publishes them and may run in another thread.

        careful: a process died or hung at this task before.
        """


OpenWorker = Callable[[Callable[[Progress], None]], Worker]


@dataclass(eq=False, slots=True)
class _Process:
    process: BaseProcess
    connection: Connection
    tasks: set[int] = field(default_factory=set)
    ready: bool = False
    heard: float = field(default_factory=monotonic)  # when it last reported


def run_tasks(open_worker: OpenWorker, tasks: Sequence[int], workers: int, report: Callable[[Progress], None]) -> None:
    """Run every task once, on up to `workers` processes. Raises the first task's error, or WorkerError."""
    if tasks:
        pool = _Pool(open_worker, tasks, report)
        try:
            pool.run(min(workers, len(tasks)))
        finally:
            pool.stop()


class _Pool:
    def __init__(self, open_worker: OpenWorker, tasks: Sequence[int], report: Callable[[Progress], None]) -> None:
        self._open_worker, self._report = open_worker, report
        self._waiting = deque(tasks)
        self._left = len(self._waiting)
        self._deaths: Counter[int] = Counter()
        self._starts_lost = 0
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
        """Silent for too long, and not because it takes care (then every step has a time limit of its own)."""
        silent = monotonic() - member.heard > HANG_SECONDS
        return silent and not member.ready and any(not self._deaths[task] for task in member.tasks)

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
        others = [member.connection for member in self._members] + [ours]
        inherited = others if self._context.get_start_method() == "fork" else []
        process = self._context.Process(  # type: ignore[attr-defined]
            target=_serve, args=(self._open_worker, theirs, inherited, os.getpid()), daemon=True
        )
        # A signal in between would leave a process that nobody ends, or end the new one with a word of the parent's.
        held = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            process.start()
            self._members.append(_Process(process, ours))
            theirs.close()
        except OSError as error:
            raise WorkerError(f"a worker process cannot be started: {error.strerror}") from error
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, held)

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
                member.ready = False
                try:
                    member.connection.send((task, self._deaths[task] > 0))
                except OSError:
                    member.process.kill()  # most likely it is dead: its end is read from the pipe
                member.heard = monotonic()

    def _bury(self, member: _Process) -> None:
        """Give a dead worker's tasks out again, or raise when one of them has had its tries."""
        self._members.remove(member)
        member.process.kill()  # it may live, if only its pipe is broken
        member.process.join()
        with suppress(OSError):
            member.connection.close()
        how = _death(member.process.exitcode)
        if not member.tasks and not member.ready:
            self._starts_lost += 1
            if self._starts_lost >= _MOST_TRIES:
                raise WorkerError(f"worker processes end before they take a task ({how})")
        for task in sorted(member.tasks, reverse=True):
            self._deaths[task] += 1
            if self._deaths[task] >= _MOST_TRIES:
                raise WorkerError(
                    f"split {task}: its worker process {how}, twice; if memory is short, use fewer --workers"
                )
            self._waiting.appendleft(task)
        self._report(Progress(note=f"a worker process {how}; its splits are done again"))
        self._start()


def _death(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"


def _serve(open_worker: OpenWorker, connection: Connection, inherited: list[Connection], parent: int) -> None:
    """The life of a worker process."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent ends its workers
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    die_with(parent)
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
            send("error", task, _portable(error))
            os._exit(1)

    def report(progress: Progress) -> None:
        send("progress", -1, progress)

    def finish(task: int, publish: Callable[[], object]) -> None:
        guarded(task, publish)
        send("done", task)

    worker = guarded(-1, lambda: open_worker(report))
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
            task, careful = order
            if careful and publishing:
                publishing.result()  # a child is forked to be careful: while no other thread holds a lock
            publish = guarded(task, partial(worker.run, task, report, careful=careful))
            if publishing:
                publishing.result()  # one task's files at a time wait for the disk
            publishing = publisher.submit(finish, task, publish)


def _portable(error: BaseException) -> SftprepError:
    """The error itself if it is one of ours, else one that says where in sftprep it came from."""
    if isinstance(error, SftprepError):
        return error
    if isinstance(error, MemoryError):
        return WorkerError("a worker process ran out of memory; use fewer --workers")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{os.path.basename(frame.filename)}:{frame.lineno}"  # noqa: PTH119
    if os.environ.get("SFTPREP_DEBUG"):
        traceback.print_exception(error)
    return WorkerError(
        f"internal error at {where}: {type(error).__name__}; please report it (SFTPREP_DEBUG=1 shows more)"
    )
