"""A dataset is committed whole, or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_builds import GOOD, build, rejects, write

from sftprep.config import reject_limit
from sftprep.dataset.manifest import load_manifest
from sftprep.errors import InputError


def test_too_many_rejects_fail_the_job(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", GOOD, b"{", GOOD, b"{")
    with pytest.raises(InputError, match="2 of 4 records rejected, more than 1"):
        build(tmp_path / "one", source, max_rejects="1")
    with pytest.raises(InputError, match="more than 1"):
        build(tmp_path / "share", source, max_rejects="49%")
    assert (reject_limit("0.57%", 10_000), reject_limit("1.13%", 10_000), reject_limit("0.5%", 199)) == (57, 113, 0)
    build(tmp_path / "half", source, max_rejects="50%")


def test_keys_that_are_not_read_are_in_the_manifest(tmp_path: Path) -> None:
    """The same ones, however the records are shared out."""
    said, answer = GOOD["messages"]
    odd = {"messages": [said, {**answer, "id": 7, "train": True}], "source": "x", "system": ""}
    records = [{**GOOD, "source": 1}, {**GOOD, "id": 2, "source": None}, odd, {**GOOD, "n" * 99: 0}]
    build(tmp_path / "one", write(tmp_path / "a.jsonl", *records * 5, {"messages": [], "lost": 1}))
    sources = [write(tmp_path / f"{number}.jsonl", *records) for number in range(5)]
    for number, workers in enumerate((1, 3)):
        manifest = build(tmp_path / f"more{number}", *sources, workers=workers)
        assert manifest == load_manifest(tmp_path / f"more{number}")
        assert manifest.ignored_keys == {"source": 10, "id": 5, "n" * 40: 5}
        assert manifest.message_keys == {"id": 5}
    assert load_manifest(tmp_path / "one").ignored_keys == manifest.ignored_keys


def test_nothing_left_to_train_on_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no row to train on: 2 records rejected"):
        build(tmp_path / "out", write(tmp_path / "a.jsonl", b"{", b"["))
    assert len(rejects(tmp_path / "out")) == 2
    assert not (tmp_path / "out" / "manifest.json").exists()
