"""Chunks of text -> records that are JSON values: elements of an array, or objects one after another, however laid out.

Values are told apart by quotes and nesting alone, nothing is decoded, and one that is longer than the limit is passed over
without being held. Where the nesting itself is broken, it cannot be told how many values are lost: that is the file's error.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import chain

import numpy as np

from sftprep.containers.json_text import BYTE_ORDER_MARK, range_chunks
from sftprep.containers.record import Index, Range, Record, Selection, Start, oversized
from sftprep.errors import InputError

# What JSON makes of a byte outside strings, by its value.
_STEP = np.zeros(256, np.int64)  # how the level of nesting changes
_STEP[list(b"[{")] = 1
_STEP[list(b"]}")] = -1
_IS_STRUCTURE = _STEP != 0
_IS_STRUCTURE[ord(",")] = True
_AFTER_ARRAY = "text after the end of the array; expected one array and nothing else"
Values = Callable[[Iterable[bytes], Start, int], Iterator[Record]]


class _Value:
    """The value that is being read: its bytes so far, and where it starts."""

    def __init__(self, place: Start, limit: int) -> None:
        self.source, self.limit = place.source, limit
        self.line, self.offset = place.line, place.start  # of the byte after the bracket or comma before it
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

    def move_on(self, passed: int = 0) -> None:
        """Start the next value, `passed` bytes after the end of this one."""
        self.line += self.newlines
        self.offset += self.size + passed
        self._start()

    def record(self) -> Record:
        if self.size > self.limit:
            return oversized(self.source, self.line, self.offset, self.size, self.limit)
        raw = b"".join(self.parts)
        self.parts.clear()
        data = raw.lstrip()
        blank = len(raw) - len(data)
        return Record(data.rstrip(), self.source, self.line + raw.count(b"\n", 0, blank), self.offset + blank)


def array_elements(chunks: Iterable[bytes], place: Start, limit: int, before: bytes = b"") -> Iterator[Record]:
    """The elements of an array that begins at `place` and is all that the chunks hold.

    before: the text of an object up to there; then the rest of the object follows the array. Raises InputError, naming
    `file:line`, where the array itself is broken: there it cannot be told how many elements are lost.
    """
    path, element = place.path, _Value(place, limit)
    scanner = _Scanner()
    cuts = 0
    closed = False
    for chunk in chunks:
        begin = 0
        for position, mark in () if closed and before else scanner.cuts(chunk):
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
            element.move_on(passed=1)
            if closed and before:
                break
        element.add(chunk[begin:])
    rest = element.record()
    if not closed:
        raise InputError(f"{path}:{rest.line}: the array is not closed; no ',' or ']' follows what starts here")
    if before and not _is_object(before + b"[]" + rest.data):
        raise InputError(f"{path}:{rest.line}: the object around the array of records is not closed, or not JSON")
    if not before and (rest.data or rest.error):
        raise InputError(f"{path}:{rest.line}: {_AFTER_ARRAY}")


def _is_object(text: bytes) -> bool:
    try:
        return type(json.loads(text)) is dict
    except (ValueError, RecursionError):
        return False


def values(chunks: Iterable[bytes], place: Start, limit: int) -> Iterator[Record]:
    """Objects (or arrays) from `place` on, the start of a file, one after another with nothing but white space between.

    Raises InputError, naming `file:line`, where brackets do not match: there it cannot be told where a value ends.
    """
    value, scanner = _Value(place, limit), _Scanner()
    for chunk in chunks:
        begin = 0
        if value.offset == value.size == 0 and chunk.startswith(BYTE_ORDER_MARK):
            begin = value.offset = len(BYTE_ORDER_MARK)
        for position, mark in scanner.cuts(chunk):
            if mark in "]}":
                value.add(chunk[begin : position + 1])
                begin = position + 1
                yield value.record()
                value.move_on()
        value.add(chunk[begin:])
    rest = value.record()
    if rest.data or rest.error:
        raise InputError(f"{place.path}:{rest.line}: brackets do not match in what starts here; it is not closed")


def of_values(read: Values) -> tuple[Callable[..., Index], Callable[..., Iterator[Record]]]:
    """How a file that `read` reads is indexed, and its records are read. It is never cut."""

    def index(path: str, chunks: Iterable[bytes], selection: Selection) -> Index:
        sizes: list[int] = []
        counted = (sizes.append(len(chunk)) or chunk for chunk in chunks)  # type: ignore[func-returns-value]
        records = sum(1 for _ in read(counted, Start(0, path), selection.most))
        return Index(sum(sizes), records)

    def records(path: str, place: Range, selection: Selection) -> Iterator[Record]:
        return read(range_chunks(path, place), Start(place.source, path), selection.most)

    return index, records


def elements_from(start: int, chunks: Iterable[bytes], place: Start, limit: int) -> Iterator[Record]:
    """The elements of an array that begins so many bytes after the beginning of the object that it is in."""
    chunks, before = iter(chunks), b""
    while len(before) < start and (chunk := next(chunks, b"")):
        before += chunk
    before, rest = before[:start], before[start:]
    line = place.line + before.count(b"\n")
    there = Start(place.source, place.path, start, line)
    return array_elements(chain([rest], chunks), there, limit, before.removeprefix(BYTE_ORDER_MARK))


class _Scanner:
    """Finds the brackets and commas of the outermost values' own level, chunk by chunk, by quotes and nesting alone."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._escaped = False

    def cuts(self, chunk: bytes) -> Iterator[tuple[int, str]]:
        """Position and kind of each `[` or `{` that opens a value, `,` inside it, and `]` or `}` that closes it."""
        text = np.frombuffer(self._blank_escapes(chunk), dtype=np.uint8)
        quotes = np.flatnonzero(text == ord('"'))
        marks = np.flatnonzero(_IS_STRUCTURE.take(text))
        marks = marks[(np.searchsorted(quotes, marks) + self._in_string) % 2 == 0]  # those outside strings
        steps = _STEP.take(text[marks])
        after = self._depth + np.cumsum(steps)
        level = np.maximum(after, after - steps)  # of the value that a mark opens, divides or closes
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
