"""A build before the user's eyes."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_builds import GOOD, TOKENIZER, write

from sftprep.config import BuildConfig
from sftprep.dataset.verify import verify_dataset
from sftprep.look.build import watched_build


def test_a_build_ends_with_the_table_or_says_that_nothing_was_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = {"messages": [{**message, "id": 1} for message in GOOD["messages"]], "source": "x"}
    config = BuildConfig((write(tmp_path / "a.jsonl", odd, b"{"),), TOKENIZER)
    watched_build(config, tmp_path / "out", verbose=True)
    out, shown = capsys.readouterr()
    assert shown.endswith("keys of records, ignored: source 1\nkeys of messages, passed on to the template: id 2\n")
    words = " ".join(shown.split())
    assert (out, "records 2 conversations 1" in words, "1 × not JSON" in words) == ("", True, True), shown
    assert verify_dataset(tmp_path / "out") == []
    watched_build(config, tmp_path / "out", verbose=True)
    assert capsys.readouterr().err == f"{tmp_path}/out: complete already; nothing to do\n"


def test_a_quiet_build_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = BuildConfig((write(tmp_path / "a.jsonl", GOOD),), TOKENIZER)
    for _ in range(2):
        watched_build(config, tmp_path / "out", quiet=True)
        assert capsys.readouterr() == ("", "")
