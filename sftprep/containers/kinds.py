"""The kinds of file that hold records, by suffix. A new one is a FileKind and a line of KINDS."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from sftprep.containers.compressed import CODECS, read_chunks
from sftprep.containers.json_text import MAX_RECORD, LineCounter, Record, Start, array_elements, text_lines


@dataclass(frozen=True, slots=True)
class FileKind:
    """How records lie in a file.

    cut: whether the file may be read from the start of any line. count: how many records it has, of which all lines were
    counted. records: those in chunks of its bytes; those longer than a number of bytes are oversized.
    """

    cut: bool
    count: Callable[[str, LineCounter], int]
    records: Callable[[Iterator[bytes], Start, int], Iterator[Record]]


def _count_elements(path: str, lines: LineCounter) -> int:
    return sum(1 for _ in array_elements(read_chunks(path), Start(0, path), MAX_RECORD))


LINES = FileKind(cut=True, count=lambda path, lines: lines.records, records=text_lines)
ARRAY = FileKind(cut=False, count=_count_elements, records=array_elements)


def _array_or_lines(path: str) -> FileKind:
    """A .json file is one array of records, or lines as in .jsonl."""
    with closing(read_chunks(path)) as chunks:
        for chunk in chunks:
            text = chunk.lstrip(b"\xef\xbb\xbf \t\r\n")  # a byte order mark, white space
            if text:
                return ARRAY if text.startswith(b"[") else LINES
    return LINES


KINDS: dict[str, Callable[[str], FileKind]] = {
    ".jsonl": lambda path: LINES,
    ".ndjson": lambda path: LINES,
    ".json": _array_or_lines,
}


def suffix_of(name: str) -> str | None:
    """The suffix of the uncompressed name, if it is a known one."""
    path = Path(name.lower())
    suffix = (path.with_suffix("") if path.suffix in CODECS else path).suffix
    return suffix if suffix in KINDS else None


def kind_of_file(path: str) -> FileKind:
    """How records lie in a file of a known suffix. Raises InputError where it has to be looked at and cannot be read."""
    return KINDS[suffix_of(path) or ".jsonl"](path)
