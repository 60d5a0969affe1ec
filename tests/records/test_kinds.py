"""Which kind of file a name and its first bytes mean."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from sftprep.records.compressed import CHUNK
from sftprep.records.kinds import ARRAY, kind_of_file


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
