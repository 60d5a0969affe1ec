"""What every container gives: a record as the bytes of one JSON value, and where it stands."""

from __future__ import annotations

import json
from array import array
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sftprep.checksum import Count

MAX_RECORD = 64 << 20  # bytes
THE_END = 2**63 - 1  # where a Range stops whose end is not known
MOST_GROUP = 100  # characters that are kept of a group's name
# Keys of a record that are its conversation, of one form or another.
SAYING_KEYS = frozenset(
    [
        "messages",
        "conversations",
        "conversation",
        "prompt",
        "completion",
        "instruction",
        "output",
        "question",
        "answer",
        "query",
        "response",
    ]
)
# All keys that any form of record, tools, template variables or switches read. Of a columnar file no other column is read.
RECORD_KEYS = SAYING_KEYS | frozenset(
    [
        "input",
        "history",
        "system",
        "system_prompt",
        "system_message",
        "context",
        "tools",
        "functions",
        "chat_template_kwargs",
        "documents",
        "data",
        "train",
        "weight",
        "loss",
        "loss_weight",
        "loss_scale",
        "loss_mask",
        "step_loss_mask",
        "trainable",
        "training",
        "masked",
    ]
)


class Record(NamedTuple):
    """One record as it stands in its file."""

    data: bytes  # b"" if there is an error
    source: int  # index into the sources
    line: int  # 1-based, where the record starts; of a columnar file, the row
    offset: int  # bytes from the start of the uncompressed file; of a columnar file, rows
    error: str | None = None  # why the record could not be read
    group: str | None = None  # what it has under the key `Selection.by`; of a columnar file, its row

    @property
    def place(self) -> tuple[int, int, int]:
        """What tells it of all other records of a job."""
        return self.source, self.line, self.offset


@dataclass(frozen=True, slots=True)
class Selection:
    """What is read of a file, by the options of a build."""

    most: int = MAX_RECORD  # bytes of a record; a longer one is an error
    keys: frozenset[str] = RECORD_KEYS  # the columns that are read of a columnar file
    by: str | None = None  # and the one, beside those, whose value is kept as the record's group


@dataclass(frozen=True, slots=True)
class Start:
    """Where records are read: the index of their source, its path, and where in it the first chunk of bytes begins."""

    source: int
    path: str
    start: int = 0  # bytes of the uncompressed text, the start of a line
    line: int = 1  # its 1-based number


@dataclass(frozen=True, slots=True)
class Range:
    """Whole records of one source.

    Positions are bytes of its uncompressed text, the starts of lines. Of a columnar file they are what its row groups or
    batches take unpacked, added up from the first; lines are rows.
    """

    source: Count  # index into the sources
    start: Count  # of the first record
    stop: Count  # of the next range's first record, or the end
    first_line: Count  # 1-based line number at `start`


@dataclass(frozen=True, slots=True)
class Index:
    """What one pass over a file finds."""

    size: int  # its end, as positions of a Range are counted
    records: int
    offsets: array[int] = field(default_factory=lambda: array("q"))  # where a range may begin, ascending; none: nowhere
    lines: array[int] = field(default_factory=lambda: array("q"))  # their 1-based line numbers


def group_of(value: Any) -> str:
    """The group of a record that has this value under the key of --by: text is cut, numbers and booleans are as JSON writes
    them, whatever else there is has no name."""
    if type(value) in (bool, int, float):
        return json.dumps(value)[:MOST_GROUP]
    if type(value) is not str:
        return ""
    name = value[:MOST_GROUP]
    return name if name.isprintable() else name.encode("utf-8", "replace").decode()


def oversized(source: int, line: int, offset: int, size: int, limit: int) -> Record:
    """In place of a record that is longer than may be read."""
    return Record(b"", source, line, offset, f"record of {size} bytes; at most {limit} are read")
