"""What is done with datasets, watched: what an export wrote, and what it did not; comparisons and their exit codes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_builds import CONVERSATIONS, GOOD, TOKENIZER, build, sftprep, write
from small_dataset import npy, rewrite, write_dataset

from sftprep.compare.kinds import AGAINST, Request
from sftprep.watch.datasets import watched_against, watched_diff, watched_report


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


def test_comparisons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        build(tmp_path / name, write(tmp_path / f"{name}.jsonl", GOOD))
    assert watched_diff(tmp_path / "a", tmp_path / "b", few=1, quiet=True).equal == 1
    monkeypatch.setitem(AGAINST, "toy", "compare.test_kinds:toy")
    assert watched_against(Request(tmp_path / "a", "toy"), quiet=True).equal == 3


def test_exit_codes(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", GOOD, {"messages": GOOD["messages"] * 2})
    for name, more in (("a", {}), ("b", {"max_length": 99}), ("c", {"train_on": "last"})):
        build(tmp_path / name, source, **more)
    a, b, c = (str(tmp_path / name) for name in "abc")
    same, other = sftprep("diff", a, b, "--json"), sftprep("diff", a, c, "-q")
    assert (same.returncode, '"differs": false' in same.stdout) == (0, True)
    assert (other.returncode, other.stdout, other.stderr) == (1, "", "")


def test_a_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path / "a", write(tmp_path / "a.jsonl", GOOD))
    for quiet, said in ((False, f"{tmp_path}/r.html: open it in a browser\n"), (True, "")):
        watched_report(tmp_path / "a", tmp_path / "r.html", TOKENIZER, text=True, quiet=quiet)
        assert capsys.readouterr().out == said
    assert b"open all" in (tmp_path / "r.html").read_bytes()
