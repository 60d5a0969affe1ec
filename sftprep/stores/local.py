"""The file systems of this machine."""

from __future__ import annotations

import glob
import os
import stat
from pathlib import Path

from sftprep.errors import InputError
from sftprep.stores.types import Found, OpenFile


def find(given: str) -> Found:
    """A file, all files below a folder, or all that a glob matches, as absolute paths.

    Raises InputError where there is no such file or folder, or a folder cannot be listed.
    """
    if os.path.exists(given):  # noqa: PTH110 - Path.exists raises for odd names
        path = _absolute(given)
        found = Found("holds" if path.is_dir() else "is")
        _expand(path, found)
        return found
    if not glob.has_magic(given):
        raise InputError(f"{given!r}: no such file or folder")
    found = Found("matches")
    matches = glob.iglob(given, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
    for match in sorted(matches, key=lambda match: Path(match).parts):
        _expand(_absolute(match), found)
    return found


def size(path: str) -> int:
    """Bytes of a file. Raises OSError for what is no regular file, or cannot be read."""
    status = os.stat(path)  # noqa: PTH116 - before it is opened: a pipe would be waited for
    if not stat.S_ISREG(status.st_mode):
        raise OSError(0, "not a regular file")
    with Path(path).open("rb", buffering=0):
        return status.st_size


def open_file(path: str) -> OpenFile:
    """A file, not buffered. Raises OSError."""
    return Path(path).open("rb", buffering=0)


def _expand(path: Path, found: Found) -> None:
    """Take a file, or the files below a folder. A link below it might lead back into it, and is not followed."""
    if not path.is_dir():
        found.files.append(str(path))
        return
    files: list[Path] = []
    for folder, subfolders, names in os.walk(path, onerror=_refuse):
        found.searched.append(folder)
        for name in list(subfolders):
            place = Path(folder, name)
            if name.startswith("."):
                subfolders.remove(name)
                found.hidden.append(str(place))
            elif place.is_symlink():
                subfolders.remove(name)
                found.linked[str(place)] = os.path.realpath(place)
        files += (Path(folder, name) for name in names if not name.startswith("."))
        found.hidden.extend(str(Path(folder, name)) for name in names if name.startswith("."))
    found.files.extend(str(file) for file in sorted(files, key=lambda file: file.parts))


def _absolute(given: str) -> Path:
    """Without links of folders. A file's own name has the suffix, the target of a link (in a content-addressed store, say)
    may not. Never normpath(): `link/../x` is beside the link's target."""
    path = Path(given)
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be listed: {error.strerror}") from error
