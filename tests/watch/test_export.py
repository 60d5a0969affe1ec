"""What an export shows: what was written, and what was not."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from small_builds import CONVERSATIONS, build, sftprep
from small_dataset import npy, rewrite, write_dataset


def test_command(tmp_path: Path) -> None:
    build(tmp_path / "data", str(CONVERSATIONS), max_length=200)
    built = tmp_path / "data"
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
