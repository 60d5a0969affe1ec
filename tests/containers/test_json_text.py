"""Chunks -> records that are lines: against a slow oracle."""

from __future__ import annotations

from hypothesis import given
from strategies import chunks_of, cut_points, texts_of_lines

from sftprep.containers.json_text import LineCounter, text_lines
from sftprep.containers.record import Record, Start

LIMIT = 40


def lines_slowly(text: bytes, limit: int) -> list[Record]:
    """Line by line, as one would with the whole file in memory."""
    records = []
    offset = 0
    for number, line in enumerate(text.split(b"\n"), start=1):
        if len(line) > limit:
            records.append(Record(b"", 7, number, offset, f"record of {len(line)} bytes; at most {limit} are read"))
        else:
            mark = 3 if offset == 0 and line.startswith(b"\xef\xbb\xbf") else 0
            if line[mark:].strip():
                records.append(Record(line[mark:], 7, number, offset + mark))
        offset += len(line) + 1
    return records


@given(texts_of_lines(), cut_points())
def test_lines_are_those_of_the_whole_text(text: bytes, points: list[int]) -> None:
    assert list(text_lines(chunks_of(text, points), Start(7, "x.jsonl"), LIMIT)) == lines_slowly(text, LIMIT)


@given(texts_of_lines(), cut_points())
def test_counter_counts_what_is_read(text: bytes, points: list[int]) -> None:
    counter = LineCounter(LIMIT)
    chunks = chunks_of(text, points)
    assert [counter.add(chunk) for chunk in chunks] == [
        chunk.index(b"\n") if b"\n" in chunk else None for chunk in chunks
    ]
    assert counter.newlines == text.count(b"\n")
    assert counter.records == len(lines_slowly(text, LIMIT))


def test_lines_golden() -> None:
    text = b'\xef\xbb\xbf{"a": 1}\r\n\n \t\r\n{"b": 2}\n{"too": "long"}\nlast'
    assert list(text_lines([text[:9], text[9:]], Start(0, "x.jsonl"), 12)) == [
        Record(b'{"a": 1}\r', 0, 1, 3),
        Record(b'{"b": 2}', 0, 4, 18),
        Record(b"", 0, 5, 27, "record of 15 bytes; at most 12 are read"),
        Record(b"last", 0, 6, 43),
    ]


def test_lines_go_on_in_the_middle_of_a_file() -> None:
    assert list(text_lines([b"\xef\xbb\xbfx\n", b"y"], Start(2, "x.jsonl", 100, 11), LIMIT)) == [
        Record(b"\xef\xbb\xbfx", 2, 11, 100),
        Record(b"y", 2, 12, 105),
    ]
