"""What inspect prints: rows with their text by themselves, and one position with its reason."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_builds import CONVERSATIONS, TOKENIZER, build, write
from small_dataset import npy, rewrite, write_dataset
from tokenizers import Tokenizer

from sftprep.config import BuildConfig
from sftprep.dataset.manifest import load_manifest
from sftprep.errors import ConfigError, TokenizerError
from sftprep.look.inspect import Manner, preview_rows, show_position, show_rows
from sftprep.views.choosing import Choice

SAMPLE = Tokenizer.from_file(str(Path(TOKENIZER) / "tokenizer.json"))
COLOUR_CODE = re.compile(r"\x1b\[[0-9;]*m")


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    """Three rows in two shards, of a tokenizer that nobody knows."""
    first = [([1, 2, 5, 6], [0, 0, 1, 1]), ([1, 2, 3, 5, 5, 5, 6], [0, 0, 0, 1, 1, 1, 1])]
    write_dataset(tmp_path / "out", [first, [([1, 5, 6], [0, 0.5, 0])]], max_length=5, mask_dtypes=["bool", "float32"])
    return tmp_path / "out"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample, its inputs and its tokenizer, in a folder that may be moved."""
    folder = tmp_path_factory.mktemp("inspect")
    (folder / "chat.jsonl").write_bytes(CONVERSATIONS.read_bytes())
    shutil.copytree(TOKENIZER, folder / "tokenizer")
    build(folder / "out", str(folder / "chat.jsonl"), tokenizer=str(folder / "tokenizer"), max_length=100)
    return folder


def test_without_colours_brackets_mark_what_is_trained(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(dataset, Choice(), Manner())
    output = capsys.readouterr().out
    assert output.count("row ") == 3
    assert "1 2 ⟦5 6 ⟧" in output
    assert "\x1b" not in output


def test_another_tokenizer_is_used_by_force_only(
    dataset: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    ids = SAMPLE.encode("What is a loss mask?<|im_end|>").ids
    write_dataset(dataset, [[(ids, [0] * (len(ids) - 1) + [1])]], max_length=64)
    with pytest.raises(TokenizerError, match=r"not the tokenizer that the dataset was built with: .*--force"):
        show_rows(dataset, Choice(), Manner(TOKENIZER, color=True))
    assert capsys.readouterr().out == ""

    show_rows(dataset, Choice(), Manner(TOKENIZER, color=True, force=True))

    output, warning = capsys.readouterr()
    assert "\x1b[1;38;5;34m" in output or "\x1b[1;38;5;28m" in output
    assert "⟦" not in output
    assert "What is a loss mask?<|im_end|>" in COLOUR_CODE.sub("", output)
    assert "not the tokenizer that the dataset was built with" in " ".join(warning.split())


def test_rows_on_a_terminal_without_unicode(dataset: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-m", "sftprep", "inspect", str(dataset), "0"],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert r"row 0 \xb7 shard-00000" in run.stdout


def test_an_empty_dataset_shows_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_dataset(tmp_path, [], max_length=5)
    show_rows(tmp_path, Choice(), Manner())
    assert capsys.readouterr().out == ""
    with pytest.raises(ConfigError, match=r"row 0: .* holds no rows"):
        show_rows(tmp_path, Choice(rows=((0, 0),)), Manner())


def test_the_tokenizer_is_found_where_it_lay(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(built / "out", Choice(rows=((0, 0),)), Manner())
    output, note = capsys.readouterr()
    assert "What is a loss mask?<|im_end|>" in output
    assert note == ""


def test_ids_and_a_word_where_the_tokenizer_is_not_the_same_any_more(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(TOKENIZER, tmp_path / "tokenizer")
    source = write(tmp_path / "a.jsonl", {"prompt": "Hi", "completion": "Hello"})
    manifest = build(tmp_path / "out", source, tokenizer=str(tmp_path / "tokenizer"))

    def said() -> str:
        show_rows(tmp_path / "out", Choice(), Manner())
        output, note = capsys.readouterr()
        assert re.search(r"\n3992 \d+ ", output)
        assert note.startswith("token ids only: ")
        assert "-t NAME shows" in note
        return note

    other = replace(manifest, tokenizer={**manifest.tokenizer, "sha256": "0" * 64})
    (tmp_path / "out" / "manifest.json").write_bytes(other.to_bytes())
    assert "is not the tokenizer any more that was used" in said()
    (tmp_path / "tokenizer").rename(tmp_path / "elsewhere")
    assert "is not there any more" in said()
    (tmp_path / "out" / "manifest.json").write_bytes(replace(manifest, fingerprint="0" * 64).to_bytes())
    assert "is not known on this machine" in said()


def test_searches_say_that_there_is_more_or_nothing(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(built / "out", Choice(truncated=True, limit=2), Manner(table=True))
    output, note = capsys.readouterr()
    assert output.count("row ") == 2
    assert "tokens (truncated)" in output
    assert note == "2 shown, the first of them; --limit N shows more\n"
    show_rows(built / "out", Choice(grep="no such text"), Manner())
    assert capsys.readouterr() == ("", "no conversation is like that\n")


def test_a_line_of_json_for_each_conversation(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_rows(built / "out", Choice(rows=((0, 1),)), Manner(as_json=True))
    first, second = map(json.loads, capsys.readouterr().out.splitlines())
    assert (first["row"], second["row"], first["source"], first["line"]) == (0, 1, "chat.jsonl", 1)
    assert len(first["ids"]) == len(first["mask"]) == 100
    assert first["truncated"]
    assert SAMPLE.decode(first["ids"], skip_special_tokens=False) == first["text"]


# --- one position -------------------------------------------------------------------------------------------------
def position(built: Path, at: int, *inputs: Path, row: int = 0, **manner: object) -> None:
    show_position(built / "out", Choice(rows=((row, row),)), at, tuple(map(str, inputs)), Manner(**manner), "train")  # type: ignore[arg-type]


def test_a_position_is_said_with_its_reason(built: Path, capsys: pytest.CaptureFixture[str]) -> None:
    position(built, 13)
    assert capsys.readouterr().out.splitlines()[1:-1] == [
        "position    13",
        "token (X)   198  ↵",
        "target (Y)  32  A",
        "trained     yes",
        "message     1, of the assistant (counted from 0)",
        "why         content",
    ]
    show_rows(built / "out", Choice(rows=((0, -1),)), Manner(as_json=True))
    short = next(row for row in map(json.loads, capsys.readouterr().out.splitlines()) if not row["truncated"])
    position(built, -1, row=short["row"], as_json=True)
    facts = json.loads(capsys.readouterr().out)
    assert facts["position"] == 98
    assert facts["rule"] == "padding"
    assert facts["doubt"] is None
    position(built, -1)
    assert "cut         45 more tokens of it are not in the row" in capsys.readouterr().out
    position(built, 9, as_json=True)
    assert json.loads(capsys.readouterr().out)["rule"] == "untrained"


def test_positions_and_rows_that_are_not_there(built: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"--at 99: the row has positions 0 to 98, and its conversation was cut there"
    ):
        position(built, 99)
    with pytest.raises(ConfigError, match="one row"):
        show_position(built / "out", Choice(), 0, (), Manner(), "train")


def test_the_row_alone_where_the_input_is_gone(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = write(tmp_path / "a.jsonl", {"prompt": "Hi", "completion": "Hello"})
    build(tmp_path / "out", source)
    (tmp_path / "a.jsonl").rename(tmp_path / "b.jsonl")
    position(tmp_path, 5)
    output = capsys.readouterr().out
    assert "trained " in output
    assert "a.jsonl" in output
    assert "--input FILE says where it lies now" in output
    position(tmp_path, 5, tmp_path / "b.jsonl")
    output = capsys.readouterr().out
    assert "header of the turn" in output
    assert "--input" not in output


def test_a_mask_that_no_rule_gives_is_doubted(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shutil.copytree(built / "out", tmp_path / "out")
    mask = np.load(tmp_path / "out" / "shard-00000.mask.npy")
    rewrite(tmp_path / "out", load_manifest(tmp_path / "out"), "shard-00000.mask.npy", npy(~mask))
    position(tmp_path, 13)
    assert "the row's mask says otherwise" in capsys.readouterr().out


# --- before a build -----------------------------------------------------------------------------------------------
def test_rows_before_a_build(built: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = BuildConfig((str(built / "chat.jsonl"),), TOKENIZER, max_length=100)
    show_rows(built / "out", Choice(rows=((17, 17),)), Manner())
    there = capsys.readouterr().out
    preview_rows(config, Choice(rows=((17, 17),)), None, Manner())
    assert capsys.readouterr() == (there.replace("shard-00000", "not built"), "")

    source = write(tmp_path / "a.jsonl", *[b'{"x": 1}'] * 7)
    preview_rows(BuildConfig((source,), TOKENIZER), Choice(source="a.jsonl:2"), None, Manner())
    assert "a.jsonl:2 gives no row: rejected: " in capsys.readouterr().err
    preview_rows(BuildConfig((source,), TOKENIZER), Choice(), None, Manner())
    assert "and 2 more records give none" in capsys.readouterr().err
    preview_rows(config, Choice(rows=((0, 0),)), 13, Manner())
    assert "why         content" in capsys.readouterr().out
    assert [*tmp_path.iterdir()] == [tmp_path / "a.jsonl"]
