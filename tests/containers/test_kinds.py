"""Which kind of file a name and its first bytes mean."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from sftprep.containers.compressed import CHUNK
from sftprep.containers.json_text import LineCounter
from sftprep.containers.kinds import ARRAY, Start, kind_of_file, suffix_of


@pytest.mark.parametrize(
    ("name", "data", "expected"),
    [
        ("x.json", b"[{}]", True),
        ("x.json", b"\xef\xbb\xbf \n\t[", True),
        ("x.json", b" " * (2 * CHUNK) + b"[", True),
        ("x.json.gz", gzip.compress(b"[]", mtime=0), True),
        ("x.json", b"{}\n[]", False),
        ("x.json", b"", False),
        ("x.jsonl", b"[{}]", False),
    ],
)
def test_a_json_file_may_hold_an_array(tmp_path: Path, name: str, data: bytes, expected: bool) -> None:
    (tmp_path / name).write_bytes(data)
    assert (kind_of_file(str(tmp_path / name)) is ARRAY) is expected


@pytest.mark.parametrize(
    ("name", "suffix"),
    [
        ("a.jsonl", ".jsonl"),
        ("A.JSONL.GZ", ".jsonl"),
        ("a.b.ndjson.zst", ".ndjson"),
        ("a.json.xz", ".json"),
        ("a.csv", None),
        ("a.gz", None),
        ("a.jsonl.gz.gz", None),
        ("jsonl", None),
    ],
)
def test_the_suffix_is_that_of_the_text(name: str, suffix: str | None) -> None:
    assert suffix_of(name) == suffix


def test_the_elements_of_an_array_are_its_records(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'[{"a": 1},\n {"a": [2, 3]}]')
    assert not ARRAY.cut  # it is read from its start
    assert ARRAY.count(str(path), LineCounter()) == 2
    records = list(ARRAY.records(iter([path.read_bytes()]), Start(3, str(path)), 1000))
    assert [(record.source, record.data) for record in records] == [(3, b'{"a": 1}'), (3, b'{"a": [2, 3]}')]
