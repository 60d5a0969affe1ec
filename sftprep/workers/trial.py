"""What might never end, or take its process down with it, is done in a process that may be ended."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from multiprocessing.connection import Connection
from typing import TypeVar

from sftprep.errors import SftprepError, WorkerError
from sftprep.workers.limits import OUT_OF_TIME, Bounded, LimitError

T = TypeVar("T")
CAN_FORK = hasattr(os, "fork")
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run_apart(step: Callable[[], T], *, what: str, seconds: float | None = None, memory: int | None = None) -> T:
    """What `step` returns, done in a forked child; it has to pickle. A system without fork does it here.

    what: what is at work, for errors. seconds, memory: limits of the whole step, as `Bounded` has them; without them the
    step has those that it sets itself. Raises the step's own SftprepError, and LimitError where the child does not come
    home.
    """
    if not CAN_FORK:
        return step()
    context = multiprocessing.get_context("fork")
    limits = nullcontext() if seconds is None and memory is None else Bounded(what, seconds, memory)
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(
        target=_answer, args=(step, limits, theirs, os.getpid())
    )  # no daemon: those have no children
    try:
        with signals_held():
            child.start()
            theirs.close()
        value, error = pickle.loads(ours.recv_bytes())  # noqa: S301 - of our own making
    except EOFError:
        child.join()
        raise LimitError(f"{what} {how_it_ended(child.exitcode)}") from None
    finally:
        if child.pid is not None:
            child.kill()
            child.join()
        ours.close()
    if error is not None:
        raise error
    result: T = value
    return result


def _answer(step: Callable[[], object], limits: AbstractContextManager[None], answers: Connection, parent: int) -> None:
    """The life of the child."""
    become_child(parent)
    try:
        with limits:
            answer = pickle.dumps((step(), None))
    except BaseException as error:  # noqa: BLE001  whatever it was, the parent has to hear of it
        answer = pickle.dumps((None, portable(error)))
    answers.send_bytes(answer)
    os._exit(0)


def become_child(parent: int) -> None:
    """What a new process does first. Ctrl-C reaches the whole group, and the parent ends its children. The kernel ends
    this one when the parent dies, so that nobody works in a folder without its holder."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


@contextmanager
def signals_held() -> Iterator[None]:
    """Signals come after the body: in between they would leave a process that nobody ends, or end a new one with a word
    of the parent's."""
    held = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def how_it_ended(exit_code: int | None) -> str:
    """The end of a process, in words."""
    if exit_code == -OUT_OF_TIME:
        return "ran out of time"
    if exit_code is not None and exit_code < 0:
        return f"was killed by {signal.Signals(-exit_code).name}"
    return f"ended with exit code {exit_code}"


def portable(error: BaseException) -> SftprepError:
    """The error itself if it is one of ours, else one that says where in sftprep it came from."""
    if isinstance(error, SftprepError):
        return error
    if isinstance(error, MemoryError):
        return WorkerError("a worker process ran out of memory; use fewer --workers")
    frame = traceback.extract_tb(error.__traceback__)[-1]
    if os.environ.get("SFTPREP_DEBUG"):
        traceback.print_exception(error)
    where = f"{os.path.basename(frame.filename)}:{frame.lineno}"  # noqa: PTH119
    return WorkerError(
        f"internal error at {where}: {type(error).__name__}; please report it (SFTPREP_DEBUG=1 shows more)"
    )
