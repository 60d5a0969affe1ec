"""Folders change places in a step, and locks have one holder."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from sftprep.dataset.folders import exchange_folders, folder_lock
from sftprep.errors import BusyError


def test_folders_change_places(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(b"")
    exchange_folders(tmp_path / "a", tmp_path / "b")
    assert (tmp_path / "a" / "b").exists()
    assert (tmp_path / "b" / "a").exists()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "b"]


def _lock_elsewhere(folder: Path, *, shared: bool) -> bool:
    """Whether another process gets the lock now."""
    code = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from sftprep.errors import BusyError
        from sftprep.dataset.folders import folder_lock
        try:
            with folder_lock(Path(sys.argv[1]), shared={shared}, patience=0):
                print("mine")
        except BusyError as error:
            print(error)
    """)
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    if done.stdout.strip() != "mine":
        assert f"process {os.getpid()}" in done.stdout or shared or "another process" in done.stdout
    return done.stdout.strip() == "mine"


def test_a_lock_has_one_holder_or_many_sharing(tmp_path: Path) -> None:
    folder = tmp_path / "out"
    with folder_lock(folder):
        assert not _lock_elsewhere(folder, shared=False)
        assert not _lock_elsewhere(folder, shared=True)
        with pytest.raises(BusyError), folder_lock(folder, patience=0):
            pass
    assert list(folder.iterdir()) == []
    with folder_lock(folder, shared=True):
        with folder_lock(folder, shared=True):  # who leaves while others are in it holds nothing any more
            before = len(list(Path("/proc/self/fd").iterdir()))
        assert len(list(Path("/proc/self/fd").iterdir())) == before - 1
        assert _lock_elsewhere(folder, shared=True)
        assert not _lock_elsewhere(folder, shared=False)
    assert list(folder.iterdir()) == []
    assert _lock_elsewhere(folder, shared=False)
