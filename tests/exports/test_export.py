"""An export is whole or not there, and no stranger's file is in its way."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from small_builds import CONVERSATIONS, build, sftprep

from sftprep.errors import DatasetError
from sftprep.exports.export import export_dataset


@pytest.fixture
def built(tmp_path: Path) -> Path:
    build(tmp_path / "data", str(CONVERSATIONS), max_length=200)
    return tmp_path / "data"


@pytest.mark.parametrize("what", ["file", "folder", "link"])
def test_what_is_there_stays(what: str, built: Path, tmp_path: Path) -> None:
    output = tmp_path / "out"
    if what == "file":
        output.write_bytes(b"mine")
    elif what == "folder":
        output.mkdir()
        (output / "mine").touch()
    else:
        output.symlink_to(tmp_path / "elsewhere")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(DatasetError, match="there already"):
        export_dataset(built, "hf", output)
    assert sorted(tmp_path.rglob("*")) == before


def test_damage(built: Path, tmp_path: Path) -> None:
    (built / "shard-00000.Y.npy").unlink()
    before = sorted(tmp_path.rglob("*"))
    done = sftprep("export", str(built), "--to", "hf", "-o", str(tmp_path / "out"))
    assert done.returncode == 1
    assert "shard-00000.Y.npy: missing" in done.stderr
    assert sorted(tmp_path.rglob("*")) == before


def test_a_full_disk_leaves_nothing(built: Path, tmp_path: Path) -> None:
    """A limit on the size of files stands for it: the kernel refuses the write."""
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000));"
        "from sftprep.cli.commands import run; sys.argv[0] = 'sftprep'; run()"
    )
    command = [sys.executable, "-c", code, "export", str(built), "--to", "hf", "-o", str(tmp_path / "out")]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ})
    assert done.returncode == 1
    assert "File too large" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data"]
