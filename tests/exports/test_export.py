"""An export is whole or not there, and no stranger's file is in its way."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_builds import CONVERSATIONS, build, sftprep
from small_dataset import npy, rewrite, write_dataset

from sftprep.errors import DatasetError
from sftprep.exports.export import export_dataset


@pytest.fixture
def built(tmp_path: Path) -> Path:
    build(tmp_path / "data", str(CONVERSATIONS), max_length=200)
    return tmp_path / "data"


def test_command(built: Path, tmp_path: Path) -> None:
    done = sftprep("export", str(built), "--to", "trl", "-o", str(tmp_path / "deep" / "out"))
    assert (done.returncode, done.stderr) == (0, "")
    assert "conversations" in done.stdout
    assert (tmp_path / "deep" / "out" / "state.json").is_file()
    again = sftprep("export", str(built), "--to", "trl", "-o", str(tmp_path / "deep" / "out"))
    assert again.returncode == 1
    assert "there already; an export goes into a new folder" in again.stderr


def test_what_is_not_written_is_named(tmp_path: Path) -> None:
    """Some masks train the pads after an answer that does not end; and a single token is no example."""
    rows = [([5, 6, 7], [0, 1, 1]), ([8], [0])]
    manifest = write_dataset(tmp_path / "data", [rows], max_length=6)
    manifest = replace(manifest, totals={**manifest.totals, "trained_tokens": 5})
    mask = np.array([[1, 1, 1, 1, 1], [0, 0, 0, 0, 0]], np.bool_)
    rewrite(tmp_path / "data", manifest, "shard-00000.mask.npy", npy(mask))
    done = sftprep("export", str(tmp_path / "data"), "--to", "hf", "-o", str(tmp_path / "out"))
    assert done.returncode == 0
    assert done.stdout.endswith("out: 1 conversations, 3 tokens, 2 of them trained\n")
    assert done.stderr.splitlines() == [
        "not written: 1 conversations of a single token, which train nothing",
        "not written: 3 trained tokens of padding",
    ]


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
