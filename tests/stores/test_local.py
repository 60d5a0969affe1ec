"""What an input names on this machine."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from sftprep.errors import InputError
from sftprep.stores.local import find, open_file, size
from sftprep.stores.types import Found


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in ("b.txt", "a/2", "a/10", "a-b", ".git/x", "a/.hidden", "far/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"12345")
    (tmp_path / "a" / "link").symlink_to(tmp_path / "far")
    return tmp_path


def test_a_folder(tree: Path) -> None:
    """All files below it, sorted by their parts; what is hidden or linked is named and not looked into."""
    (tree / "a" / "linked.txt").symlink_to(tree / "b.txt")
    found = find(str(tree))
    assert found.what == "holds"
    assert found.files == [str(tree / name) for name in ("a/10", "a/2", "a/linked.txt", "a-b", "b.txt", "far/c")]
    assert sorted(found.hidden) == [str(tree / ".git"), str(tree / "a" / ".hidden")]
    assert found.linked == {str(tree / "a" / "link"): str(tree / "far")}
    assert sorted(found.searched) == [str(tree), str(tree / "a"), str(tree / "far")]


def test_a_file(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree / "a")
    assert find("2") == find("../a/2") == Found("is", [str(tree / "a" / "2")])
    assert find("link/../b.txt") == Found("is", [str(tree / "b.txt")])  # beside the link's target


def test_a_glob(tree: Path) -> None:
    """Folders that match are searched; a hidden file that is asked for is no longer hidden."""
    assert find(f"{tree}/[ab]*").files == [str(tree / name) for name in ("a/10", "a/2", "a-b", "b.txt")]
    assert find(f"{tree}/a/.h*") == Found("matches", [str(tree / "a" / ".hidden")])
    assert find(f"{tree}/nothing*") == Found("matches")
    (tree / "[1]").touch()
    assert find(f"{tree}/[1]") == Found("is", [f"{tree}/[1]"])


def test_nothing(tree: Path) -> None:
    with pytest.raises(InputError, match=r"missing': no such file or folder"):
        find(str(tree / "missing"))


def test_sizes_and_bytes(tree: Path) -> None:
    assert size(str(tree / "b.txt")) == 5
    with closing(open_file(str(tree / "b.txt"))) as file:
        file.seek(2)
        assert file.read(2) == b"34"
        assert file.read(9) == b"5"
        assert file.read(1) == b""
    os.mkfifo(tree / "pipe")
    for name in ("pipe", "a"):  # a pipe without a writer would be waited for
        with pytest.raises(OSError, match="not a regular file"):
            size(str(tree / name))
    for look in (size, open_file):
        with pytest.raises(FileNotFoundError):
            look(str(tree / "missing"))
