"""Rows are derived anew from what they were made of."""

from __future__ import annotations

from pathlib import Path

from small_builds import GOOD, TOKENIZER, build, sftprep, write


def test_rows_are_derived_anew_by_the_command(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", GOOD, GOOD)
    build(tmp_path / "out", source)
    options = ["--source", source, "-t", TOKENIZER]
    sound = sftprep("verify", str(tmp_path / "out"), *options)
    assert (sound.returncode, "derived anew" in " ".join(sound.stderr.split())) == (0, True), sound.stderr
    write(tmp_path / "a.jsonl", GOOD, GOOD, GOOD)
    changed = sftprep("verify", str(tmp_path / "out"), *options)
    assert (changed.returncode, "internal error" in changed.stderr) == (1, False), changed.stderr
