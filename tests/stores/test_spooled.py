"""Standard input, kept while it is needed."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sftprep.containers.compressed import read_chunks
from sftprep.errors import InputError
from sftprep.stores.kinds import store_of
from sftprep.stores.spooled import find, spool

DATA = b"line\n" * 500_000


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_it_is_read_as_often_as_one_likes_and_then_gone(folder: Path) -> None:
    with spool(io.BytesIO(DATA), "x.jsonl") as path:
        assert path.endswith("/x.jsonl")
        assert store_of(path).size(path) == len(DATA)
        assert b"".join(read_chunks(path)) == b"".join(read_chunks(path)) == DATA
        assert b"".join(read_chunks(path, 7, 12)) == DATA[7:12]
    assert list(folder.iterdir()) == []
    with pytest.raises(InputError, match="cannot be read"):
        list(read_chunks(path))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="elsewhere the file has a name")
def test_it_has_no_name_so_nothing_is_left_of_a_killed_process(folder: Path) -> None:
    with spool(io.BytesIO(DATA), "x.jsonl"):
        assert list(folder.iterdir()) == []


def test_other_processes_can_read_it(folder: Path) -> None:
    code = "import sys; from sftprep.containers.compressed import read_chunks; print(sum(map(len, read_chunks(sys.argv[1]))))"
    with spool(io.BytesIO(DATA), "x.jsonl") as path:
        done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert int(done.stdout) == len(DATA)


def test_a_stream_that_breaks_leaves_nothing(folder: Path) -> None:
    class Broken(io.RawIOBase):
        def read(self, size: int = -1) -> bytes:
            raise OSError(5, os.strerror(5))

    with pytest.raises(OSError, match="Input/output error"), spool(Broken(), "x.jsonl"):  # type: ignore[arg-type]
        raise AssertionError
    assert list(folder.iterdir()) == []


def test_its_address_is_no_input() -> None:
    with pytest.raises(InputError, match="the address of standard input; give -"):
        find("spooled:///proc/1/fd/3/x.jsonl")
