"""Files are whole or not there."""

from __future__ import annotations

import hashlib
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sftprep.dataset.staged import StagedFile, file_sha256, publish_bytes
from sftprep.errors import StorageError


@settings(max_examples=50)
@given(head=st.binary(max_size=200), blocks=st.lists(st.binary(max_size=5000), max_size=6))
def test_a_published_file_is_head_and_blocks(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, blocks: list[bytes]
) -> None:
    path = tmp_path_factory.mktemp("staged") / "file"
    with StagedFile(path, len(head)) as staged:
        for block in blocks:
            staged.write(block)
        staged.finish(head)
        assert not path.exists()
        staged.publish()
    expected = head + b"".join(blocks)
    assert path.read_bytes() == expected
    assert (staged.bytes, staged.sha256) == (len(expected), hashlib.sha256(expected).hexdigest())
    assert [each.name for each in path.parent.iterdir()] == ["file"]


def test_arrays_are_written_without_a_copy_of_their_own(tmp_path: Path) -> None:
    array = np.arange(300_000, dtype=np.uint32).reshape(300, 1000)
    with StagedFile(tmp_path / "a") as staged:
        staged.write(array)
        staged.finish()
        staged.publish()
    assert np.array_equal(np.fromfile(tmp_path / "a", np.uint32), array.reshape(-1))


def test_an_error_on_the_way_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), StagedFile(tmp_path / "a") as staged:
        staged.write(b"half")
        raise ZeroDivisionError
    assert list(tmp_path.iterdir()) == []


def test_an_older_file_stays_until_the_rename(tmp_path: Path) -> None:
    publish_bytes(tmp_path / "a", b"old")
    with StagedFile(tmp_path / "a") as staged:
        staged.write(b"new")
        staged.finish()
        assert (tmp_path / "a").read_bytes() == b"old"
        staged.publish()
    assert (tmp_path / "a").read_bytes() == b"new"
    assert file_sha256(tmp_path / "a") == hashlib.sha256(b"new").hexdigest()


def test_blocks_gives_back_what_was_written(tmp_path: Path) -> None:
    with StagedFile(tmp_path / "a", head=16) as staged:
        staged.write(b"x" * 10)
        staged.write(b"y" * 10)
        assert b"".join(staged.blocks()) == b"x" * 10 + b"y" * 10


def test_a_file_limit_is_an_error_with_the_path(tmp_path: Path) -> None:
    code = textwrap.dedent("""
        import resource, sys
        from pathlib import Path
        from sftprep.errors import StorageError
        from sftprep.dataset.staged import publish_bytes
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
        try:
            publish_bytes(Path(sys.argv[1]), b"x" * 5000)
        except StorageError as error:
            print(error)
    """)
    path = tmp_path / "large"
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert str(path) in done.stdout
    assert list(tmp_path.iterdir()) == []
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000


def test_a_missing_folder_is_an_error_with_the_path(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="nowhere"):
        publish_bytes(tmp_path / "nowhere" / "file", b"")
