"""A dataset is committed whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_builds import GOOD, build, rejects, write

from sftprep.config import reject_limit
from sftprep.errors import InputError


def test_too_many_rejects_fail_the_job(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", GOOD, b"{", GOOD, b"{")
    with pytest.raises(InputError, match="2 of 4 records rejected, more than 1"):
        build(tmp_path / "one", source, max_rejects="1")
    with pytest.raises(InputError, match="more than 1"):
        build(tmp_path / "share", source, max_rejects="49%")
    assert (reject_limit("0.57%", 10_000), reject_limit("1.13%", 10_000), reject_limit("0.5%", 199)) == (57, 113, 0)
    build(tmp_path / "half", source, max_rejects="50%")


def test_nothing_left_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row to train on: 2 records rejected"):
        build(tmp_path / "out", write(tmp_path / "a.jsonl", b"{", b"["))
    assert len(rejects(tmp_path / "out")) == 2
    assert not (tmp_path / "out" / "manifest.json").exists()
