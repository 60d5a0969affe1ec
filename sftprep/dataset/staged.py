"""Files of a dataset: written under a temporary name, made durable, then renamed into place.

Nothing half-written ever bears a final name. A file is reserved before it is written, so a full disk is an error
from `posix_fallocate` or `write` and never a SIGBUS later; it is fsynced before its rename and its folder after.
"""

from __future__ import annotations

import errno
import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from sftprep.errors import StorageError

TEMPORARY_PREFIX = ".tmp-"
_BLOCK_BYTES = 4 << 20


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
    with naming(path), path.open("rb", buffering=0) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


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

    def __exit__(self, *error: object) -> None:
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
            os.lseek(self._descriptor, 0, os.SEEK_SET)
            with open(self._descriptor, "rb", buffering=0, closefd=False) as file:
                self.sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def blocks(self) -> Iterator[bytes]:
        """What was written after the head so far, read back in blocks."""
        position = self._head
        while block := os.pread(self._descriptor, _BLOCK_BYTES, position):
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
        """Have the disk set `size` bytes aside behind what is written: a full one says so here."""
        if size and hasattr(os, "posix_fallocate"):
            with naming(self.path):
                os.posix_fallocate(self._descriptor, self.bytes, size)


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
