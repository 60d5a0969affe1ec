"""Chunks of text -> records: the bytes of each record with its line and offset, in bounded memory.

Records are lines, or the elements of a file that is one JSON array. Nothing is decoded here. A record that is longer
than the limit is passed over without being held and comes out as an error, so a line of any length, or a few kilobytes
of gzip that unpack to gigabytes, cost one rejected record.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from sftprep.errors import InputError

MAX_RECORD = 64 << 20  # bytes
BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NEWLINE, _SPACE = 10, 32
# What JSON makes of a byte outside strings, by its value.
_STEP = np.zeros(256, np.int64)  # how the level of nesting changes
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1
_IS_STRUCTURE = _STEP != 0
_IS_STRUCTURE[ord(",")] = True
_AFTER_ARRAY = "text after the end of the array; expected one array and nothing else"


class Record(NamedTuple):
    """One record as it stands in its file."""

    data: bytes  # b"" if there is an error
    source: int  # index into the sources
    line: int  # 1-based, where the record starts
    offset: int  # bytes from the start of the uncompressed file
    error: str | None = None  # why the record could not be read

    @property
    def place(self) -> tuple[int, int, int]:
        """What tells it of all other records of a job."""
        return self.source, self.line, self.offset


@dataclass(frozen=True, slots=True)
class Start:
    """Where records are read: the index of their source, its path, and where in it the first chunk of bytes begins."""

    source: int
    path: str
    start: int = 0  # bytes of the uncompressed text, the start of a line
    line: int = 1  # its 1-based number


class LineCounter:
    """Counts lines and records of a text given in chunks, the first of at least three bytes, by vectorized comparison."""

    def __init__(self, limit: int = MAX_RECORD) -> None:
        self.newlines = 0
        self._limit = limit
        self._records = 0  # of finished lines
        self._held = 0  # bytes of the line that is not finished
        self._blank = True  # and whether all of them are white space
        self._started = False

    @property
    def records(self) -> int:
        """Records so far: as many as `text_lines` makes of the same text with the same limit."""
        return self._records + self._unfinished()

    def add(self, chunk: bytes) -> int | None:
        """Count a chunk; returns the position of its first newline."""
        if not self._started and chunk.startswith(BYTE_ORDER_MARK):
            chunk = chunk.replace(BYTE_ORDER_MARK, b"   ", 1)
        self._started = True
        text = np.frombuffer(chunk, dtype=np.uint8)
        ends = np.flatnonzero(text == _NEWLINE)  # (N,) int64
        if not len(ends):
            self._extend(chunk)
            return None
        first = int(ends[0])
        self._extend(chunk[:first])
        self._records += self._unfinished()
        starts = ends[:-1] + 1
        suspects = np.flatnonzero(text[starts] <= _SPACE)
        self._records += len(starts)
        for each in suspects.tolist():  # lines that start with white space, few in most files
            line = chunk[starts[each] : ends[each + 1]]
            self._records -= _is_blank(line) and len(line) <= self._limit
        self.newlines += len(ends)
        self._held, self._blank = 0, True
        self._extend(chunk[int(ends[-1]) + 1 :])
        return first

    def _extend(self, part: bytes) -> None:
        self._held += len(part)
        self._blank = self._blank and _is_blank(part)

    def _unfinished(self) -> bool:
        return not self._blank or self._held > self._limit


def _is_blank(data: bytes) -> bool:
    return not data or data.isspace()


def _oversized(source: int, line: int, offset: int, size: int, limit: int) -> Record:
    return Record(b"", source, line, offset, f"record of {size} bytes; at most {limit} are read")


def text_lines(chunks: Iterable[bytes], place: Start, limit: int) -> Iterator[Record]:
    """The lines of chunks that start at `place`.

    Lines end at `\\n`. Blank ones are counted in line numbers and otherwise passed over. A `\\r` before the end stays (it is
    white space to JSON), a byte order mark at the start of a file does not. Lines longer than `limit` bytes are errors.
    """
    source, offset, line = place.source, place.start, place.line
    held: list[bytes] = []  # what has been read of a line that is not finished; nothing, once it is too long
    size = 0  # bytes of that line so far
    for chunk in chunks:
        lines = chunk.split(b"\n")
        size += len(lines[0])
        held.append(lines[0])
        if size > limit:
            held.clear()
        if len(lines) == 1:
            continue
        yield from _line(held, source, line, offset, size, limit)
        line += 1
        offset += size + 1
        tail = lines.pop()
        for data in lines[1:]:
            if len(data) > limit:
                yield _oversized(source, line, offset, len(data), limit)
            elif data and not data.isspace():
                yield Record(data, source, line, offset)
            line += 1
            offset += len(data) + 1
        held, size = [tail], len(tail)
    yield from _line(held, source, line, offset, size, limit)


def _line(held: list[bytes], source: int, line: int, offset: int, size: int, limit: int) -> Iterator[Record]:
    """The record of a line read in parts, if it is not blank."""
    if size > limit:
        yield _oversized(source, line, offset, size, limit)
        return
    data = b"".join(held)
    if offset == 0 and data.startswith(BYTE_ORDER_MARK):
        data = data.removeprefix(BYTE_ORDER_MARK)
        offset = len(BYTE_ORDER_MARK)
    held[:] = [] if not data or data.isspace() else [data]
    del data  # whoever gets the record has it alone, and may let go of it
    if held:
        yield Record(held.pop(), source, line, offset)


class _Element:
    """The array element that is being read: its bytes so far, and where it starts."""

    def __init__(self, source: int, limit: int) -> None:
        self.source, self.limit = source, limit
        self.line, self.offset = 1, 0  # of the byte after the bracket or comma before it
        self._start()

    def _start(self) -> None:
        self.parts: list[bytes] = []  # emptied once the element is too long to be kept
        self.size = self.newlines = 0

    def add(self, part: bytes) -> None:
        self.size += len(part)
        self.newlines += part.count(b"\n")
        self.parts.append(part)
        if self.size > self.limit:
            self.parts.clear()

    def move_on(self) -> None:
        """Start the next element, after the one byte that ended this one."""
        self.line += self.newlines
        self.offset += self.size + 1
        self._start()

    def record(self) -> Record:
        if self.size > self.limit:
            return _oversized(self.source, self.line, self.offset, self.size, self.limit)
        raw = b"".join(self.parts)
        self.parts.clear()
        data = raw.lstrip()
        blank = len(raw) - len(data)
        return Record(data.rstrip(), self.source, self.line + raw.count(b"\n", 0, blank), self.offset + blank)


def array_elements(chunks: Iterable[bytes], place: Start, limit: int) -> Iterator[Record]:
    """The elements of a file at `place`, its start, which is one JSON array.

    Raises InputError, naming `file:line`, where the array itself is broken: there it cannot be told how many elements
    are lost.
    """
    path, element = place.path, _Element(place.source, limit)
    scanner = _ArrayScanner()
    cuts = 0
    closed = False
    for chunk in chunks:
        begin = 0
        for position, mark in scanner.cuts(chunk):
            element.add(chunk[begin:position])
            begin = position + 1
            record = element.record()
            if closed:
                raise InputError(f"{path}:{record.line}: {_AFTER_ARRAY}")
            if mark == "}":
                raise InputError(f"{path}:{element.line + element.newlines}: '}}' where the array's ']' belongs")
            if record.data or record.error:
                if cuts:
                    yield record
            elif cuts > 1 or mark == ",":
                yield record._replace(error="an empty array element")
            closed = mark == "]"
            cuts += 1
            element.move_on()
        element.add(chunk[begin:])
    rest = element.record()
    if not closed:
        raise InputError(f"{path}:{rest.line}: the array is not closed; no ',' or ']' follows what starts here")
    if rest.data or rest.error:
        raise InputError(f"{path}:{rest.line}: {_AFTER_ARRAY}")


class _ArrayScanner:
    """Finds the brackets and commas of an array's own level, chunk by chunk, by quotes and nesting alone."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._escaped = False

    def cuts(self, chunk: bytes) -> Iterator[tuple[int, str]]:
        """Position and kind of each `[` that opens an array, `,` between its elements, and `]` or `}` that closes it."""
        text = np.frombuffer(self._blank_escapes(chunk), dtype=np.uint8)
        quotes = np.flatnonzero(text == ord('"'))
        marks = np.flatnonzero(_IS_STRUCTURE.take(text))
        marks = marks[(np.searchsorted(quotes, marks) + self._in_string) % 2 == 0]  # those outside strings
        steps = _STEP.take(text[marks])
        after = self._depth + np.cumsum(steps)
        level = np.maximum(after, after - steps)  # of the array that a mark opens, divides or closes
        marks = marks[level == 1]
        self._depth = int(after[-1]) if len(after) else self._depth
        self._in_string = (len(quotes) + self._in_string) % 2 == 1
        return zip(marks.tolist(), map(chr, text[marks].tolist()), strict=True)

    def _blank_escapes(self, chunk: bytes) -> bytes:
        """The chunk with dots for escaped backslashes and quotes."""
        text = b"." + chunk[1:] if self._escaped else chunk
        if b"\\" in text:
            text = text.replace(b"\\\\", b"..").replace(b'\\"', b"..")  # left to right, so that backslashes pair up
        self._escaped = text.endswith(b"\\")
        return text
