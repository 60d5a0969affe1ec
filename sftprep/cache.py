"""Small files that spare the next job a second of work: what a tokenizer resolves to, which engine passed its check.

Nothing depends on them. An entry carries the sha256 of its contents, so one that is cut short or damaged counts as
missing; one that cannot be written is left out. They lie in $SFTPREP_CACHE, else $XDG_CACHE_HOME/sftprep, else
~/.cache/sftprep.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
from pathlib import Path


def cache_folder() -> Path | None:
    """Where entries are kept; None where the user has no home folder."""
    if folder := os.environ.get("SFTPREP_CACHE"):
        return Path(folder)
    if folder := os.environ.get("XDG_CACHE_HOME"):
        return Path(folder) / "sftprep"
    try:
        return Path.home() / ".cache" / "sftprep"
    except RuntimeError:
        return None


def read_entry(name: str) -> bytes | None:
    """The contents of an entry; None if there is none that is whole."""
    folder = cache_folder()
    if folder is None:
        return None
    try:
        digest, _, contents = (folder / name).read_bytes().partition(b"\n")
    except OSError:
        return None
    return contents if digest == _digest(contents) else None


def write_entry(name: str, contents: bytes) -> None:
    """Put an entry in place of an older one, whole or not at all; a folder that refuses it costs the next job time."""
    folder = cache_folder()
    if folder is None:
        return
    temporary = None
    try:
        folder.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(prefix=".", suffix=".new", dir=folder)
        with os.fdopen(descriptor, "wb") as file:
            file.write(_digest(contents) + b"\n" + contents)
        Path(temporary).replace(folder / name)
    except OSError:
        if temporary is not None:
            with contextlib.suppress(OSError):
                Path(temporary).unlink()


def _digest(contents: bytes) -> bytes:
    return hashlib.sha256(contents).hexdigest().encode()
