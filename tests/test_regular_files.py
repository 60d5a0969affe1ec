"""Only what is a regular file is opened, and nothing is waited for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sftprep.regular_files import NotRegularError, open_regular


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    with open_regular(tmp_path / "file") as file:
        assert file.read() == b"12345"


@pytest.mark.parametrize(
    ("place", "what"),
    [
        (Path.mkdir, "not a regular file"),
        (os.mkfifo, "not a regular file"),  # without a writer, which would be waited for
        (lambda path: path.symlink_to(__file__), "a symbolic link"),
        (lambda path: path.symlink_to("nowhere"), "a symbolic link"),
    ],
)
def test_what_is_none(place: Callable[[Path], object], what: str, tmp_path: Path) -> None:
    place(tmp_path / "file")
    held = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(NotRegularError, match=f"^{what}$"):
        open_regular(tmp_path / "file")
    assert len(list(Path("/proc/self/fd").iterdir())) == held


def test_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        open_regular(tmp_path / "file")
