"""A dry run before the user's eyes."""

from __future__ import annotations

import json
from pathlib import Path

from small_builds import GOOD, TOKENIZER, sftprep, write


def test_a_dry_run_shows_what_would_come_of_it_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = write(tmp_path / "in" / "a.jsonl", *[GOOD] * 40, b"{")
    done = sftprep("build", source, "-t", TOKENIZER, "--dry-run", "-o", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    words = " ".join(done.stderr.split())
    assert "dry run: nothing was written records 41 conversations 40" in words
    assert "1 × not JSON" in words
    assert "what --max-length would cut" in words
    assert "512 0 0 0.0% " in words
    assert "rejects.jsonl" not in words
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_dry_run_for_machines(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", *[GOOD] * 4, b"{")
    done = sftprep("build", source, "-t", TOKENIZER, "--dry-run", "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    stated = json.loads(done.stdout)
    assert (stated["totals"]["conversations"], stated["rejects"][0]["count"]) == (4, 1)
    assert [each["max_length"] for each in stated["lengths"]] == [512, 1024, 2048, 4096, 8192, 16384, 32768]
    assert stated["lengths"][0]["tokens"] == stated["totals"]["tokens"]
    strict = sftprep("build", source, "-t", TOKENIZER, "--dry-run", "--json", "-q", "--max-rejects", "0")
    assert (strict.returncode, json.loads(strict.stdout)["totals"]) == (1, stated["totals"])
    assert "1 of 5 records rejected, more than 0" in strict.stderr


def test_a_build_for_machines(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", GOOD)
    for _ in range(2):  # the second has nothing to do
        done = sftprep("build", source, "-t", TOKENIZER, "-o", str(tmp_path / "out"), "--json", "-q")
        assert (done.returncode, json.loads(done.stdout)["totals"]["rows"]) == (0, 1)
    shown = json.loads(sftprep("stats", str(tmp_path / "out"), "--json").stdout)
    assert shown == {name: json.loads(done.stdout)[name] for name in ("totals", "rejects")}
