"""Standard input, read once into a file that has no name: nothing of it is left, however the process ends.

Its address holds the name that the user gives it, whose suffix says what is in it. Where a file without a name cannot be
opened again, it has one in the folder for temporary files until the job ends.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from sftprep.errors import InputError
from sftprep.stores import local
from sftprep.stores.types import Found, OpenFile

SCHEME = "spooled"
_BUFFER = 1 << 20  # bytes


@contextmanager
def spool(stream: IO[bytes], name: str) -> Iterator[str]:
    """Copy a stream to its end; its address, inside the body. Raises OSError."""
    nameless = Path("/proc/self/fd").is_dir()
    with tempfile.TemporaryFile() if nameless else tempfile.NamedTemporaryFile() as file:
        shutil.copyfileobj(stream, file, _BUFFER)
        file.flush()
        place = f"/proc/{os.getpid()}/fd/{file.fileno()}" if nameless else file.name
        yield f"{SCHEME}://{place}/{name}"


def find(given: str) -> Found:
    """Raises InputError: no user names such an address."""
    raise InputError(f"{given}: the address of standard input; give -")


def size(path: str) -> int:
    """Bytes that were read."""
    return local.size(_file(path))


def open_file(path: str) -> OpenFile:
    """What was read."""
    return local.open_file(_file(path))


def _file(path: str) -> str:
    return path.removeprefix(f"{SCHEME}://").rpartition("/")[0]
