"""Steps that might never end, or take the process down with them, tried out in a child first.

Templates and tokenizers come from strangers, and native code cannot be interrupted from Python. So what killed or hung
a worker once is done again by trial: a child runs it under an alarm, and if the child does not come home the input is
halved until the records are found that are at fault.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")

CAN_FORK = hasattr(os, "fork")


def die_with(parent: int) -> None:
    """Let the kernel end this process when its parent dies, so that nobody works in a folder without its holder."""
    if sys.platform == "linux":
        set_parent_death_signal = 1
        ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)


def survives(step: Callable[[], object], seconds: int) -> bool:
    """Whether a child process comes to the end of `step`, or to an exception, within so many seconds."""
    parent = os.getpid()
    child = os.fork()
    if child == 0:
        die_with(parent)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends the process wherever it is
        signal.alarm(seconds)
        with suppress(BaseException):  # it came home: the caller will meet the same exception
            step()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return status == 0


def fatal(step: Callable[[Sequence[T]], object], items: Sequence[T], seconds: int, at: int = 0) -> Iterator[int]:
    """Indices of the items with which `step` does not come home; log2 of their number children for each of them."""
    if not items or survives(lambda: step(items), seconds):
        return
    if len(items) == 1:
        yield at
        return
    half = len(items) // 2
    yield from fatal(step, items[:half], seconds, at)
    yield from fatal(step, items[half:], seconds, at + half)
