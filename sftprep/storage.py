"""Files of a dataset folder: written under a temporary name, made durable, then renamed into place.

Nothing half-written ever bears a final name. A file is reserved before it is written, so a full disk is an error
from `posix_fallocate` or `write` and never a SIGBUS later; it is fsynced before its rename and its folder after.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import hashlib
import json
import os
import socket
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from sftprep.errors import BusyError, StorageError

TEMPORARY_PREFIX = ".tmp-"
LOCK_NAME = ".lock"
_HASH_BYTES = 4 << 20


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Turn an OSError into a StorageError that names `path`."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error) or "write failed (is the disk full?)"
        raise StorageError(f"{path}: {reason}") from error


def sync_folder(folder: Path) -> None:
    """Make renames and new names inside `folder` durable."""
    with naming(folder):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def file_sha256(path: Path) -> str:
    """Hex sha256 of a file's bytes, read in blocks."""
    digest = hashlib.sha256()
    with naming(path), path.open("rb", buffering=0) as file:
        while block := file.read(_HASH_BYTES):
            digest.update(block)
    return digest.hexdigest()


class StagedFile:
    """A file being written beside its final place. `finish` makes it durable, `publish` gives it its name.

    `head` bytes at the start are left free and written by `finish`: an .npy header needs the number of rows, which
    is known last. Leaving the `with` block without `publish` removes the temporary file.
    """

    def __init__(self, path: Path, head: int = 0) -> None:
        self.path = path
        self.bytes = 0
        self.sha256 = ""
        self._head = head
        self._temporary = path.with_name(f"{TEMPORARY_PREFIX}{os.getpid()}-{id(self):x}-{path.name}")
        with naming(path):
            self._descriptor = os.open(self._temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        self._reserve(head)
        self.bytes = head

    def __enter__(self) -> StagedFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.discard()

    def write(self, data: Any) -> None:
        """Append a buffer of bytes (anything with the buffer protocol, C-contiguous)."""
        view = memoryview(data).cast("B")
        self._reserve(len(view))
        with naming(self.path):
            while len(view):
                written = os.pwrite(self._descriptor, view, self.bytes)
                self.bytes += written
                view = view[written:]

    def finish(self, head: bytes = b"") -> None:
        """Write the head, cut the reserve, fsync, close; afterwards `bytes` and `sha256` are final."""
        with naming(self.path):
            if head and os.pwrite(self._descriptor, head, 0) != len(head):
                raise OSError(errno.EIO, "short write")
            os.ftruncate(self._descriptor, self.bytes)
            os.fsync(self._descriptor)
            self.sha256 = self._digest()
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def blocks(self) -> Iterator[bytes]:
        """What was written after the head so far, read back in blocks."""
        position = self._head
        while block := os.pread(self._descriptor, _HASH_BYTES, position):
            yield block
            position += len(block)

    def publish(self) -> None:
        """Rename into place. The caller syncs the folder, once for all files it publishes."""
        with naming(self.path):
            self._temporary.rename(self.path)

    def discard(self) -> None:
        """Close and remove what was not published; does nothing after `publish`."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with suppress(OSError):  # the file is thrown away: a failing close changes nothing
                os.close(descriptor)
        with suppress(OSError):
            self._temporary.unlink(missing_ok=True)

    def _reserve(self, size: int) -> None:
        if size and hasattr(os, "posix_fallocate"):
            with naming(self.path):
                os.posix_fallocate(self._descriptor, self.bytes, size)

    def _digest(self) -> str:
        digest = hashlib.sha256()
        position = 0
        while block := os.pread(self._descriptor, _HASH_BYTES, position):
            digest.update(block)
            position += len(block)
        return digest.hexdigest()


def publish_bytes(path: Path, data: bytes) -> str:
    """Write a small file atomically and durably, or not at all; returns its hex sha256."""
    with StagedFile(path) as staged:
        staged.write(data)
        staged.finish()
        staged.publish()
        try:
            sync_folder(path.parent)
        except StorageError:
            with suppress(OSError):
                path.unlink()  # a name that a crash may undo: better to have none
            raise
        return staged.sha256


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
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        content = os.pread(descriptor, 1000, 0) if stat.S_ISREG(os.fstat(descriptor).st_mode) else b"?"
        return not content or bool(_holder(content))
    finally:
        os.close(descriptor)


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
