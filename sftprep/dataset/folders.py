"""Folders: made durably, exchanged in a single step, held by one process or shared by many."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import os
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from sftprep.dataset.staged import TEMPORARY_PREFIX, naming, sync_folder
from sftprep.errors import BusyError, StorageError
from sftprep.regular_files import open_regular

LOCK_NAME = ".lock"


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, durably."""
    if folder.is_dir():
        return
    with naming(folder):
        folder.mkdir(parents=True, exist_ok=True)
    sync_folder(folder.parent)


def exchange_folders(new: Path, old: Path) -> None:
    """Swap two folders of one file system in a single step (Linux renameat2; elsewhere two renames).

    Whoever holds the lock of `old` holds that of the folder in its place, too.
    """
    with suppress(OSError):  # nobody holds a lock; or no links here, and it is free a moment early
        os.link(old / LOCK_NAME, new / LOCK_NAME)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        at_cwd, exchange = -100, 2
        if libc.renameat2(at_cwd, os.fsencode(new), at_cwd, os.fsencode(old), exchange) == 0:
            sync_folder(new.parent)
            return
        if ctypes.get_errno() not in (errno.EINVAL, errno.ENOSYS):
            raise StorageError(f"{old}: {os.strerror(ctypes.get_errno())}")
    aside = old.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{old.name}")
    with naming(old):
        old.rename(aside)
        new.rename(old)
        aside.rename(new)
    sync_folder(new.parent)


@contextmanager
def folder_lock(folder: Path, *, shared: bool = False, create: bool = True, patience: float = 2.0) -> Iterator[None]:
    """Hold `folder` for this process: one exclusive holder (build, plan, commit) or many shared ones (work).

    The kernel drops the lock with the process, however it dies. Raises BusyError, naming the holder, when another
    process still has it after `patience` seconds, StorageError where there is no folder and `create` is False.
    """
    if create:
        make_folder(folder)
    elif not folder.is_dir():
        raise StorageError(f"{folder}: no such folder")
    path = folder / LOCK_NAME
    descriptor = -1
    try:
        with naming(path):
            descriptor = _wait_for_lock(path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, patience)
            if not shared:
                _write_holder(descriptor)
        yield
    finally:
        if descriptor >= 0:
            _let_go(path, descriptor)


def is_lock(path: Path) -> bool:
    """Whether a file is a lock of sftprep's: it says who holds it, or nothing."""
    try:
        with open_regular(path) as file:
            content = file.read(1000)
    except OSError:
        return False
    return not content or bool(_holder(content))


def _let_go(path: Path, descriptor: int) -> None:
    """Give a lock up, and its file if nobody else holds it: alone it keeps nobody out."""
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails where others share it
            if _is_same_file(descriptor, path):
                path.unlink()
    finally:
        os.close(descriptor)


def _wait_for_lock(path: Path, kind: int, patience: float) -> int:
    """The descriptor of a lock file, locked. Raises OSError, or BusyError when the time is over."""
    deadline = time.monotonic() + patience
    while True:
        if os.path.lexists(path) and not is_lock(path):
            raise StorageError(f"{path}: not a lock of sftprep's; move it away, or choose another folder")
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            if _is_same_file(descriptor, path):  # else: the last holder removed it between our open and our lock
                return descriptor
        except BlockingIOError:
            if time.monotonic() > deadline:
                holder = _holder(os.pread(descriptor, 1000, 0)) or "another process"
                os.close(descriptor)
                raise BusyError(f"{path.parent}: in use by {holder}; wait for it, or choose another folder") from None
            time.sleep(0.02)
        os.close(descriptor)


def _is_same_file(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _write_holder(descriptor: int) -> None:
    holder = {"pid": os.getpid(), "host": socket.gethostname()}
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, json.dumps(holder).encode(), 0)


def _holder(content: bytes) -> str:
    """Who holds a lock, by its file; "" if it does not say so."""
    try:
        holder = json.loads(content)
        return f"process {int(holder['pid'])} on {holder['host']}"
    except (ValueError, KeyError, TypeError, RecursionError):
        return ""
