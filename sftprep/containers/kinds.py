"""The kinds of file that hold records, by suffix. A new one is a FileKind and a line of KINDS.

How JSON lies in a text is told from the beginning of the file, by one rule for every suffix of it. Lines that are whole
JSON are records. Where the first line is not whole, the text is an array of records, objects one after another, or an
object with an array of records in it. An array is no array of records if its first element is a message: then it is one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any

from sftprep.containers import columnar
from sftprep.containers.compressed import CODECS, read_chunks
from sftprep.containers.json_text import index_lines, read_lines
from sftprep.containers.json_values import array_elements, elements_from, of_values, values
from sftprep.containers.record import RECORD_KEYS, SAYING_KEYS, Index, Range, Record, Selection


@dataclass(frozen=True, slots=True)
class FileKind:
    """How records lie in a file.

    index: what one pass over the chunks of its uncompressed bytes, all of them, finds. records: those of a range.
    """

    index: Callable[[str, Iterable[bytes], Selection], Index]
    records: Callable[[str, Range, Selection], Iterator[Record]]


LINES = FileKind(index_lines, read_lines)
ARRAY = FileKind(*of_values(array_elements))
VALUES = FileKind(*of_values(values))
PARQUET = FileKind(partial(columnar.index, columnar.PARQUET), partial(columnar.records, columnar.PARQUET))
ARROW = FileKind(partial(columnar.index, columnar.ARROW), partial(columnar.records, columnar.ARROW))
_BLANK = b"\xef\xbb\xbf \t\r\n"  # a byte order mark, white space
_LINES_LOOKED_AT = 100
_KEYS_OF_A_MESSAGE = frozenset({"role", "from"})
_DECODER = json.JSONDecoder(strict=False)
_SPACE = re.compile(r"[ \t\r\n]*")


def head_of(path: str) -> tuple[bytes, int, bool]:
    """The beginning of a text, some 256 kB from the first byte on that is not blank; how many bytes are before it; whether
    that is all. Raises InputError where the file cannot be read."""
    before = 0
    with closing(read_chunks(path)) as chunks:
        for chunk in chunks:
            if text := chunk.lstrip(_BLANK):
                return text, before + len(chunk) - len(text), next(chunks, None) is None
            before += len(chunk)
    return b"", before, True


def _json_kind(path: str, selection: Selection) -> FileKind:
    head, before, whole = head_of(path)
    first, _, rest = head.partition(b"\n")
    if not head.startswith((b"{", b"[")) or (rest.strip() and _is_value(first.decode("utf-8", "replace").rstrip())):
        return LINES
    text = head.decode("utf-8", "surrogateescape")
    lines = [line.rstrip() for line in islice(filter(str.strip, text.split("\n")), _LINES_LOOKED_AT)]
    inside = [",[:{", *[",[:{}]"] * len(lines)]  # how a line ends that another one of the same value may follow
    if any(map(_are_records, lines, lines[1:], inside)):
        return LINES
    if text.startswith("["):
        return _kind_of_array(text, one_line=len(lines) == 1, whole=whole)
    at = _array_in(text, SAYING_KEYS | (selection.keys - RECORD_KEYS))
    if at is not None:
        return FileKind(*of_values(partial(elements_from, before + len(text[:at].encode("utf-8", "surrogateescape")))))
    if len(lines) == 1 or not _is_unfinished(lines[0]):
        return LINES
    return VALUES if lines[1][0].isspace() or _is_unfinished("\n".join(lines[:2]), or_whole=True) else LINES


def _kind_of_array(text: str, *, one_line: bool, whole: bool) -> FileKind:
    """Of a text, or of the beginning of it, that begins with an array."""
    at = _after_space(text, 1)
    _, end = _decode(text, at)
    if _first_key(text, at) in _KEYS_OF_A_MESSAGE:
        return LINES if one_line else VALUES
    broken = text[at : at + 1] != "]" and (end is None or text[_after_space(text, end) :][:1] not in (",", "]"))
    return LINES if broken and one_line and whole else ARRAY


def _are_records(line: str, following: str, inside: str) -> bool:
    """Whether two lines tell that lines are records: the second is an object, and not in something that the first begins."""
    return following.startswith("{") and (line[-1] not in inside or _is_value(line)) and _is_value(following)


def _is_value(line: str) -> bool:
    """Whether a line is an object or an array, and nothing else."""
    value, end = _decode(line, 0)
    return type(value) in (dict, list) and end == len(line)


def _is_unfinished(text: str, *, or_whole: bool = False) -> bool:
    """Whether lines are the beginning of a JSON value, and no more of it."""
    try:
        _DECODER.raw_decode(text)
    except json.JSONDecodeError as error:
        return error.pos >= len(text)
    except (ValueError, RecursionError):
        return False
    return or_whole


def _array_in(text: str, saying: frozenset[str]) -> int | None:
    """Where, in the text of an object or the beginning of it, an array of records begins; None if under none of its keys.

    saying: keys by which it is told that an object is a record.
    """
    at: int | None = _after_space(text, 1)
    while at is not None and text.startswith('"', at):
        key, end = _decode(text, at)
        if end is None or key in saying:
            return None
        at = _after_space(text, _after_space(text, end) + 1)  # behind the colon
        inner = _after_space(text, at + 1)
        first, _ = _decode(text, inner)
        if text.startswith("[", at) and (_is_record(first, saying) or _first_key(text, inner) in saying):
            return at
        _, end = _decode(text, at)
        at = end and _after_space(text, _after_space(text, end) + 1)  # behind the comma
    return None


def _is_record(value: Any, saying: frozenset[str]) -> bool:
    """Whether it is an object that says something, or a list of messages."""
    if type(value) is list:
        return bool(value) and type(value[0]) is dict and not _KEYS_OF_A_MESSAGE.isdisjoint(value[0])
    return type(value) is dict and not saying.isdisjoint(value)


def _first_key(text: str, at: int) -> Any:
    """The first key of the object that begins there."""
    return _decode(text, _after_space(text, at + 1))[0] if text.startswith("{", at) else None


def _decode(text: str, at: int) -> tuple[Any, int | None]:
    """The JSON value that begins there, and where it ends; None for both where it is not JSON, or not whole."""
    try:
        return _DECODER.raw_decode(text, at)
    except (ValueError, RecursionError):
        return None, None


def _after_space(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


Choose = Callable[[str, Selection], FileKind]
JSON = (".jsonl", ".ndjson", ".json")
KINDS: dict[str, Choose] = {
    **dict.fromkeys(JSON, _json_kind),
    ".parquet": lambda path, selection: PARQUET,
    ".arrow": lambda path, selection: ARROW,
}
COLUMNAR = frozenset({".parquet", ".arrow"})  # they compress what is in them by themselves


def suffix_of(name: str) -> str | None:
    """The suffix of the uncompressed name, if it is a known one."""
    path = Path(name.lower())
    compressed = path.suffix in CODECS
    suffix = (path.with_suffix("") if compressed else path).suffix
    return suffix if suffix in KINDS and not (compressed and suffix in COLUMNAR) else None


def kind_of_file(path: str, selection: Selection) -> FileKind:
    """How records lie in a file of a known suffix. Raises InputError where it has to be looked at and cannot be read."""
    return KINDS[suffix_of(path) or ".jsonl"](path, selection)


def kind_of_range(path: str, place: Range, selection: Selection) -> FileKind:
    """The same, for a range that the file was cut into. Of JSON only lines are cut: that need not be looked at again."""
    return LINES if place.start and suffix_of(path) in JSON else kind_of_file(path, selection)
