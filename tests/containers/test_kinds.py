"""Which kind of file a name and its first bytes mean."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.containers.compressed import CHUNK
from sftprep.containers.kinds import ARRAY, LINES, VALUES, kind_of_file, suffix_of
from sftprep.containers.record import RECORD_KEYS, Range, Selection

ANY = Selection()
SAID = [{"role": "user", "content": "Why?"}, {"role": "assistant", "content": "So."}]
RECORD = {"messages": SAID}
LONG = {"messages": [{"role": "user", "content": "x" * CHUNK}]}


def dumped(value: Any, indent: int | None = None) -> bytes:
    return json.dumps(value, indent=indent).encode()


def read(path: Path, data: bytes, selection: Selection = ANY) -> list[Any]:
    """The records of a file, by what its beginning says, and its kind."""
    path.write_bytes(data)
    kind = kind_of_file(str(path), selection)
    unpacked = gzip.decompress(data) if path.suffix == ".gz" else data
    found = list(kind.records(str(path), Range(0, 0, len(unpacked), 1), selection))
    for record in found:
        assert unpacked[record.offset : record.offset + len(record.data)] == record.data
        assert record.line == unpacked.count(b"\n", 0, record.offset) + 1
    assert kind.index(str(path), [unpacked], selection).records == len(found)
    return [json.loads(record.data) for record in found]


LAYOUTS = {
    "lines": (dumped(RECORD) + b"\n" + dumped(RECORD) + b"\n", [RECORD] * 2),
    "lines behind white space": (b" " * (2 * CHUNK) + b"\n" + dumped(RECORD) + b"\n" + dumped(RECORD), [RECORD] * 2),
    "one line": (dumped(RECORD), [RECORD]),
    "a long line": (dumped(LONG), [LONG]),
    "indented": (dumped(RECORD, 2) + b"\n" + dumped(RECORD, 2), [RECORD] * 2),
    "indented by nothing": (dumped(RECORD, 0) + b"\n" + dumped(RECORD, 0) + b"\n", [RECORD] * 2),
    "indented and long": (dumped(LONG, 1) + b"\n" + dumped(RECORD, 1), [LONG, RECORD]),
    "indented, with carriage returns": (dumped(RECORD, 2).replace(b"\n", b"\r\n"), [RECORD]),
    "array": (dumped([RECORD] * 3), [RECORD] * 3),
    "indented array": (dumped([RECORD] * 3, 1), [RECORD] * 3),
    "array of long records": (dumped([LONG, RECORD]), [LONG, RECORD]),
    "array with a line a record": (b"[\n" + b",\n".join([dumped(RECORD)] * 3) + b"\n]\n", [RECORD] * 3),
    "array behind a byte order mark": (b"\xef\xbb\xbf \n\t" + dumped([RECORD]), [RECORD]),
    "empty array": (b"[ ]", []),
    "array of lists of messages": (dumped([SAID, SAID]), [SAID] * 2),
    "a list of messages": (dumped(SAID), [SAID]),
    "lists of messages": (dumped(SAID) + b"\n" + dumped(SAID), [SAID] * 2),
    "an indented list of messages": (dumped(SAID, 2), [SAID]),
    "wrapped": (dumped({"data": [RECORD] * 2}), [RECORD] * 2),
    "wrapped and indented": (b"\xef\xbb\xbf" + dumped({"version": 1, "data": [RECORD] * 2, "n": [2]}, 2), [RECORD] * 2),
    "wrapped lists": (dumped({"meta": {"a": [{"b": 1}]}, "rows": [SAID] * 2}), [SAID] * 2),
    "wrapped and long": (dumped({"data": [LONG, RECORD]}), [LONG, RECORD]),
    "a record with a list of objects first": (
        dumped({"tools": [{"type": "function"}], **RECORD}, 1),
        [{"tools": [{"type": "function"}], **RECORD}],
    ),
    "a list of messages under data": (dumped({"data": SAID}, 1), [{"data": SAID}]),
}


@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.parametrize("suffix", ["json", "jsonl", "ndjson.gz"])
def test_records_are_found_however_they_are_laid_out(tmp_path: Path, name: str, suffix: str) -> None:
    data, expected = LAYOUTS[name]
    assert read(tmp_path / f"x.{suffix}", gzip.compress(data, 1) if suffix.endswith("gz") else data) == expected


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"{}\n[]", LINES),
        (b"", LINES),
        (b"[1,2]\n" + dumped(RECORD), LINES),
        (b'{"messages": [\n' + 2 * (dumped(RECORD) + b"\n"), LINES),
        (b'{"messages": [{"role": "us\n' + dumped(RECORD), LINES),
        (b"[\n" + 2 * (dumped(RECORD) + b"\n"), LINES),
        (b"[[[[\n" + 2 * (dumped(RECORD) + b"\n"), LINES),
        (b"{\n[\n", LINES),
        (b'{"messages": [{"role": "user",\n' + dumped(RECORD), LINES),
        (b"{]\n" + dumped(RECORD) + b"\n", LINES),
        (b"[" * 100_000 + b"\n" + 2 * (dumped(RECORD) + b"\n"), LINES),
        (b'{"messages": [{"ro', LINES),
        (b'[{"ro', LINES),
        (b'[\n {"messages": tru},\n {"messages": []}\n]', ARRAY),
        (dumped([RECORD])[:-1] + b', {"mess', ARRAY),
        (b'{\n "messages": tru\n}\n{\n "messages": []\n}', VALUES),
        (b'{"score": NaN}\n{"score": NaN}', LINES),
        (b'{\n "score": NaN\n}', VALUES),
    ],
)
def test_broken_records_do_not_make_another_kind(tmp_path: Path, data: bytes, kind: object) -> None:
    (tmp_path / "x.jsonl").write_bytes(data)
    assert kind_of_file(str(tmp_path / "x.jsonl"), Selection()) is kind


def test_the_key_of_messages_that_is_named_tells_a_record(tmp_path: Path) -> None:
    data = {"id": 7, "dialogue": SAID, "more": [RECORD]}
    assert read(tmp_path / "x.json", dumped(data)) == [RECORD]
    assert read(tmp_path / "y.json", dumped(data), Selection(keys=RECORD_KEYS | {"dialogue"})) == [data]


@given(st.text('[]{}":, \n1a') | st.text())
def test_any_text_is_of_some_kind(tmp_path: Path, text: str) -> None:
    (tmp_path / "x.jsonl").write_bytes(text.encode("utf-8", "surrogatepass"))
    kind = kind_of_file(str(tmp_path / "x.jsonl"), Selection())
    if not text.startswith(("[", "{")):
        assert kind is LINES or text[:1].isspace() or text.startswith("\ufeff")


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.jsonl", ".jsonl"),
        ("A.JSONL.GZ", ".jsonl"),
        ("a.b.ndjson.zst", ".ndjson"),
        ("a.json.xz", ".json"),
        ("a.parquet", ".parquet"),
        ("A.ARROW", ".arrow"),
        ("a.parquet.gz", None),
        ("a.csv", None),
        ("a.gz", None),
        ("a.jsonl.gz.gz", None),
        ("jsonl", None),
    ],
)
def test_the_suffix_is_that_of_the_text(name: str, suffix: str | None) -> None:
    assert suffix_of(name) == suffix
