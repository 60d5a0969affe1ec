"""What a place that holds files has to be able to do."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class Found:
    """All that an input names in a place."""

    what: str  # "is" of a file, "holds" of a folder, "matches" of a glob
    files: list[str] = field(default_factory=list)  # paths as they are opened, in the order of reading
    hidden: list[str] = field(default_factory=list)  # files and folders with a dot before their name, not looked into
    linked: dict[str, str] = field(default_factory=dict)  # folders that are not searched -> where they lead
    searched: list[str] = field(default_factory=list)  # folders


class Stream(Protocol):
    """Bytes, one after another."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, b"" at the end. Raises OSError."""

    def close(self) -> None:
        """Release what it reads from."""


class OpenFile(Stream, Protocol):
    """A file open for reading."""

    def seek(self, position: int, /) -> object:
        """Go on reading at a byte."""


class Store(Protocol):
    """A place that holds files, as a room."""

    def find(self, given: str) -> Found:
        """What an input names; a folder's and a glob's files sorted. Raises InputError where there is nothing."""

    def size(self, path: str) -> int:
        """Bytes of a file. Raises OSError for what is none, or cannot be read."""

    def open_file(self, path: str) -> OpenFile:
        """A file, not buffered. Raises OSError."""
