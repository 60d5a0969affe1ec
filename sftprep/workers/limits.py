"""What one conversation may cost in a chat template, kept by the operating system.

A chat template is a program from a stranger: it may ask for a terabyte, or loop for ever inside a single call that
Python cannot interrupt. So it runs in a process that may be ended (a worker, or a child of `trial`), under a clock of
that process's own time, whose end is the process's, and under a limit of its memory, past which Python raises.
Cost: some 10 µs.
"""

from __future__ import annotations

import mmap
import resource
import signal
import struct
from typing import Any

from sftprep.errors import ConversationError

SECONDS = 30.0  # of processor time
MEMORY = 1 << 30  # bytes, beside what the process holds already
UNLIMITED = 1 << 62  # bytes
OUT_OF_TIME = signal.SIGPROF  # what ends a process that is out of time
MOST_LOST = 10  # conversations that exceed their limits, of a split or in a row: then the template is at fault
_STATM = "/proc/self/statm"  # its first number: pages of address space in use
_PAGE = resource.getpagesize()
Item = tuple[int, ...]  # up to three numbers that tell what a process is at


class LimitError(ConversationError):
    """A step took more time or memory, or printed more, than it may."""


class Bounded:
    """The body of a `with`, within limits. To be used where the process may be ended.

    what: whose cost it is, for errors. seconds: of the process's own time, `SECONDS` unless given; a process that is not
    done then is killed by OUT_OF_TIME. memory: bytes of address space beside what is in use now, `MEMORY` unless given,
    kept where the system tells how much that is (Linux). Raises LimitError when there is no more of it.
    """

    __slots__ = ("_clock", "_limits", "_memory", "_seconds", "_what")

    def __init__(self, what: str, seconds: float | None = None, memory: int | None = None) -> None:
        self._what = what
        self._seconds = SECONDS if seconds is None else seconds
        self._memory = MEMORY if memory is None else memory

    def __enter__(self) -> None:
        self._limits = resource.getrlimit(resource.RLIMIT_AS)
        used = _address_space()
        if used is not None:
            most = [limit for limit in self._limits if limit != resource.RLIM_INFINITY]
            resource.setrlimit(resource.RLIMIT_AS, (min([used + self._memory, *most]), self._limits[1]))
        self._clock = signal.setitimer(signal.ITIMER_PROF, self._seconds)

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        signal.setitimer(signal.ITIMER_PROF, *self._clock)
        resource.setrlimit(resource.RLIMIT_AS, self._limits)
        if isinstance(error, MemoryError):
            raise LimitError(f"{self._what} needs more than {self._memory >> 20:,} MB of memory on it") from None


def _address_space() -> int | None:
    """Bytes in use; None where the system does not tell."""
    try:
        with open(_STATM, "rb", buffering=0) as file:  # noqa: PTH123 - a Path takes as long again
            return int(file.read().split()[0]) * _PAGE
    except OSError:
        return None


class Suspect:
    """The item that a worker is at, for whoever finds the worker dead. Where workers are not forked nobody is told."""

    _FORM = struct.Struct("4q")

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, self._FORM.size)

    def is_at(self, *item: int) -> None:
        """From now on, if the process dies it is of this item; without one, of none."""
        self._FORM.pack_into(self._memory, 0, len(item), *item, *(0,) * (3 - len(item)))

    def item(self) -> Item:
        """The item; () for none."""
        count, *numbers = self._FORM.unpack_from(self._memory)
        return tuple(numbers[:count])

    def __reduce__(self) -> tuple[Any, ...]:
        return Suspect, ()
