"""Chunks of text -> records that are lines: the bytes of each with its line and offset, in bounded memory.

Nothing is decoded here. A line that is longer than the limit is passed over without being held and comes out as an error,
so a line of any length, or a few kilobytes of gzip that unpack to gigabytes, cost one rejected record.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

import numpy as np

from sftprep.containers.compressed import read_chunks
from sftprep.containers.record import MAX_RECORD, THE_END, Index, Range, Record, Selection, Start, oversized
from sftprep.errors import InputError

BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_NEWLINE, _SPACE = 10, 32


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


def index_lines(path: str, chunks: Iterable[bytes], selection: Selection) -> Index:
    """Counts the lines of a file's chunks; a range may begin with the first line that begins in a chunk."""
    counter = LineCounter(selection.most)
    offsets, lines = array("q"), array("q")
    size = 0
    for chunk in chunks:
        newlines = counter.newlines
        first = counter.add(chunk)
        if first is not None:
            offsets.append(size + first + 1)
            lines.append(newlines + 2)
        size += len(chunk)
    return Index(size, counter.records, offsets, lines)


def read_lines(path: str, place: Range, selection: Selection) -> Iterator[Record]:
    """The lines of a range. Raises InputError if the file is damaged or no longer what was planned."""
    return text_lines(
        range_chunks(path, place), Start(place.source, path, place.start, place.first_line), selection.most
    )


def range_chunks(path: str, place: Range) -> Iterator[bytes]:
    """The bytes of a range, checked against the plan: the line's start, the range's length."""
    chunks = read_chunks(path, max(place.start - 1, 0), place.stop)
    length = place.stop - place.start
    if place.start:
        before = next(chunks, b"")
        if not before.startswith(b"\n"):
            raise InputError(f"{path}: changed since it was planned; no line starts at byte {place.start}")
        length -= len(before) - 1
        yield before[1:]
    for chunk in chunks:
        length -= len(chunk)
        yield chunk
    if length and place.stop != THE_END:
        raise InputError(f"{path}: changed since it was planned; {length} bytes are missing at its end")


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
                yield oversized(source, line, offset, len(data), limit)
            elif data and not data.isspace():
                yield Record(data, source, line, offset)
            line += 1
            offset += len(data) + 1
        held, size = [tail], len(tail)
    yield from _line(held, source, line, offset, size, limit)


def _line(held: list[bytes], source: int, line: int, offset: int, size: int, limit: int) -> Iterator[Record]:
    """The record of a line read in parts, if it is not blank."""
    if size > limit:
        yield oversized(source, line, offset, size, limit)
        return
    data = b"".join(held)
    if offset == 0 and data.startswith(BYTE_ORDER_MARK):
        data = data.removeprefix(BYTE_ORDER_MARK)
        offset = len(BYTE_ORDER_MARK)
    held[:] = [] if not data or data.isspace() else [data]
    del data  # whoever gets the record has it alone, and may let go of it
    if held:
        yield Record(held.pop(), source, line, offset)
