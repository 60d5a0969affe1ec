"""Files that a stranger may have put there, opened for reading: regular ones only."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import BinaryIO

# O_NONBLOCK: opening a named pipe must not wait for a writer. Windows knows only the last of them, and needs it.
_FLAGS = os.O_RDONLY | sum(getattr(os, name, 0) for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"))


class NotRegularError(OSError):
    """Says what there is in place of a file."""


def open_regular(path: Path) -> BinaryIO:
    """Raises NotRegularError for a link, a folder, a pipe or a device, and what else `open` raises."""
    if path.is_symlink():
        raise NotRegularError("a symbolic link")
    descriptor = os.open(path, _FLAGS)
    if stat.S_ISREG(os.fstat(descriptor).st_mode):
        return os.fdopen(descriptor, "rb")
    os.close(descriptor)
    raise NotRegularError("not a regular file")
