"""Small files that spare the next job a second of work: what a tokenizer resolves to, which engine passed its check, where
a dataset's inputs lay.

Nothing depends on them. An entry carries the sha256 of its contents; one that is damaged, that no longer says what its
reader expects or is no regular file counts as missing and is made anew, one that cannot be written is left out. At most
LIMIT bytes are kept, those used last. They lie in $SFTPREP_CACHE, else $XDG_CACHE_HOME/sftprep, else ~/.cache/sftprep.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar, get_args

from sftprep.regular_files import open_regular

T = TypeVar("T")
Kind = Literal["tokenizer", "engines", "places"]
LIMIT = 200_000_000  # bytes of all entries
# The names of entries, and of those being written. No other file in the folder is ever counted or removed.
_ENTRY = f"(?:{'|'.join(get_args(Kind))})-[0-9a-f]{{64}}"
_OWN = re.compile(rf"{_ENTRY}|\.{_ENTRY}\.[a-z0-9_]{{8}}\.new")


@dataclass(frozen=True, slots=True)
class Held:
    """What is in the cache, or was."""

    entries: int
    bytes: int


def cache_folder() -> Path | None:
    """Where entries are kept, absolute; None where the user has no home folder."""
    if folder := os.environ.get("SFTPREP_CACHE"):
        return Path(folder).absolute()
    if (base := Path(os.environ.get("XDG_CACHE_HOME", ""))).is_absolute():  # XDG: a relative one is to be ignored
        return base / "sftprep"
    try:
        return Path.home() / ".cache" / "sftprep"
    except RuntimeError:
        return None


def read_entry(kind: Kind, digest: str, decode: Callable[[bytes], T]) -> T | None:
    """What `decode` makes of an entry; None if there is none, or it cannot be read or decoded for whatever reason."""
    folder = cache_folder()
    if folder is None:
        return None
    path = folder / f"{kind}-{digest}"
    try:
        with open_regular(path) as file:
            if os.fstat(file.fileno()).st_size > LIMIT:
                return None
            stated, _, contents = file.read().partition(b"\n")
        if stated != _sha256(contents):
            return None
        decoded = decode(contents)
    except Exception:  # noqa: BLE001 - it is of no use, whatever is wrong with it
        return None
    with contextlib.suppress(OSError):
        os.utime(path)  # what was used last is kept longest
    return decoded


def write_entry(kind: Kind, digest: str, contents: bytes) -> None:
    """Put an entry in place of an older one, whole or not at all; a folder that refuses it costs the next job time.

    Then the oldest entries go, until LIMIT holds.
    """
    folder = cache_folder()
    whole = _sha256(contents) + b"\n" + contents
    if folder is None or len(whole) > LIMIT:
        return
    name = f"{kind}-{digest}"
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=f".{name}.", suffix=".new", dir=folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(whole)
        Path(temporary).replace(folder / name)
        _remove(_files(folder), LIMIT)
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def held() -> Held:
    """How much there is. Raises OSError where the folder cannot be listed."""
    files = _files(cache_folder())
    return Held(len(files), sum(file.size for file in files))


def clear() -> Held:
    """Remove every entry; says what was removed. Raises OSError where the system refuses it."""
    return _remove(_files(cache_folder()), -1)


@dataclass(frozen=True, slots=True, order=True)
class _File:
    used: int  # nanoseconds since 1970
    path: str
    size: int  # bytes


def _files(folder: Path | None) -> list[_File]:
    """Entries, and what a write that was killed has left; the oldest first."""
    found: list[_File] = []
    if folder is None:
        return found
    with contextlib.suppress(FileNotFoundError), os.scandir(folder) as listing:
        for each in listing:
            with contextlib.suppress(FileNotFoundError):  # another process was faster
                status = each.stat(follow_symlinks=False)
                if _OWN.fullmatch(each.name) and stat.S_ISREG(status.st_mode):
                    found.append(_File(status.st_mtime_ns, each.path, status.st_size))
    return sorted(found)


def _remove(files: list[_File], limit: int) -> Held:
    """Remove files, the first ones first, until the others take `limit` bytes at most (-1: all); says what was removed.

    Raises OSError, once the rest is done, for one that cannot be removed.
    """
    left = sum(file.size for file in files)
    removed = []
    refused = None
    for file in files:
        if left <= limit:
            break
        try:
            Path(file.path).unlink(missing_ok=True)
        except OSError as error:
            refused = refused or error
        else:
            removed.append(file.size)
            left -= file.size
    if refused:
        raise refused
    return Held(len(removed), sum(removed))


def _sha256(contents: bytes) -> bytes:
    return hashlib.sha256(contents).hexdigest().encode()
