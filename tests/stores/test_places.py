"""What a build was told to read is found again from the dataset's folder, wherever both are moved together."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftprep.stores.places import as_given, given_of


def test_places_are_relative_to_the_dataset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "tokenizer").mkdir(parents=True)
    (tmp_path / "data" / "a.jsonl").write_text("")
    (tmp_path / "linked.jsonl").symlink_to(tmp_path / "data" / "a.jsonl")
    monkeypatch.chdir(tmp_path)
    inputs = ("data/a.jsonl", str(tmp_path / "data"), "linked.jsonl", "data/*.jsonl", "-", "s3://bucket/x.jsonl")
    given = given_of(inputs, "data/tokenizer", Path("out/one"))
    assert given == {
        "inputs": ["./../../data/a.jsonl", "./../../data", "./../../linked.jsonl", "./../../data/*.jsonl", *inputs[4:]],
        "tokenizer": "./../../data/tokenizer",
    }
    monkeypatch.chdir("data")
    for found, place in zip(as_given(given, tmp_path / "out" / "one")["inputs"], inputs, strict=True):
        assert found == (place if place in inputs[4:] else str(tmp_path / place))


def test_a_name_on_the_hub_stays_what_it_is(tmp_path: Path) -> None:
    given = given_of(("a.jsonl",), "Qwen/Qwen3-0.6B", tmp_path)
    assert as_given(given, tmp_path)["tokenizer"] == "Qwen/Qwen3-0.6B"
    assert as_given({}, tmp_path) == {}
