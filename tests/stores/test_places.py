"""Where inputs and tokenizer of a dataset lay is known on the machine that built it."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftprep.cache import write_entry
from sftprep.stores.places import remember_places, remembered_places

A, B = "a" * 64, "b" * 64
pytestmark = pytest.mark.usefixtures("cache")


def test_places_are_found_again_from_every_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "tokenizer").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    remember_places(
        A, ("data/a.jsonl", str(tmp_path / "b"), "data/*.jsonl", "s3://bucket/x.jsonl"), "data/tokenizer", ["v.jsonl"]
    )
    monkeypatch.chdir("data")
    inputs = [str(tmp_path / each) for each in ("data/a.jsonl", "b", "data/*.jsonl")]
    assert remembered_places(A) == {
        "inputs": [*inputs, "s3://bucket/x.jsonl"],
        "tokenizer": str(tmp_path / "data" / "tokenizer"),
        "validation_input": [str(tmp_path / "v.jsonl")],
    }
    assert remembered_places(B) == {}


def test_a_name_on_the_hub_stays_what_it_is_and_what_is_no_entry_counts_as_none() -> None:
    remember_places(A, ("a.jsonl",), "Qwen/Qwen3-0.6B")
    assert remembered_places(A)["tokenizer"] == "Qwen/Qwen3-0.6B"
    write_entry("places", A, b"[]")
    assert remembered_places(A) == {}
    remember_places(B, ("-",), "t")
    assert remembered_places(B) == {}
