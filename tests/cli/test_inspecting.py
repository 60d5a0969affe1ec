"""`sftprep inspect` as it is typed: rows, options that fit together, and those that do not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result
from small_builds import CONVERSATIONS, TOKENIZER, build

from sftprep.cli.inspecting import inspect
from sftprep.errors import SftprepError


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("inspecting")
    build(folder / "out", str(CONVERSATIONS), max_length=100)
    return folder / "out"


def run(*arguments: object) -> Result:
    return CliRunner().invoke(inspect, [str(each) for each in arguments])


def rows(*arguments: object) -> list[str]:
    done = run(*arguments)
    assert done.exit_code == 0, done.output
    return [line.split(" · ")[0].removeprefix("row ") for line in done.stdout.splitlines() if " trained (" in line]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["0", "1", "2"]),
        (["3"], ["3"]),
        (["5", "0-2"], ["5", "0", "1", "2"]),
        (["-1"], ["68"]),
        (["-2--1", "4"], ["67", "68", "4"]),
        (["--table", "-1", "--only-trained"], ["68"]),
        (["--", "-1"], ["68"]),
        (["--longest", "1", "3", "4-6"], ["4"]),
        (["--random", "2", "--seed", "7"], None),
        (["--limit", "4"], ["0", "1", "2", "3"]),
        (["--source", "conversations.jsonl:18"], ["17"]),
        (["--truncated", "0-9"], None),
        (["--grep", "mask", "--limit", "1", "--no-pager", "--no-color"], ["0"]),
    ],
)
def test_rows_are_chosen(folder: Path, arguments: list[str], expected: list[str] | None) -> None:
    found = rows(folder, *arguments)
    assert found == (expected or rows(folder, *arguments)) != []


def test_longest_takes_a_number_or_three(folder: Path) -> None:
    assert len(rows(folder, "--longest")) == 3
    assert len(rows(folder, "--longest", "5")) == 5
    assert len(rows(folder, "--longest", "--table")) == 3


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "Missing OUT"),
        (["OUT", "x"], "'x' is no row"),
        (["OUT", "--lmit", "3"], "--limit"),
        (["OUT", "-x"], "No such option '-x'"),
        (["--grpe"], "--grep"),
        (["OUT", "0", "--mask", "scan"], "--mask is for rows before a build"),
        (["OUT", "0", "--input", "a.jsonl"], "--input is for rows before a build"),
        (["OUT", "--longest", "2", "--random", "2"], "give one of them"),
        (["--input", "a.jsonl"], "Missing --tokenizer"),
        (["--input", "a.jsonl", "-t", "x", "--set", "validation"], "--set belongs to a dataset"),
        (["OUT", "--random", "0"], "--random"),
    ],
)
def test_what_does_not_fit_together_is_refused(folder: Path, arguments: list[str], word: str) -> None:
    done = run(*(folder if each == "OUT" else each for each in arguments))
    assert done.exit_code == 2
    assert word in done.output


def test_rows_before_a_build_take_the_options_of_a_build(folder: Path) -> None:
    given: list[Any] = ["--input", CONVERSATIONS, "-t", TOKENIZER, "--max-length", 100]
    before, after = run(*given, "17"), run(folder, "17", "--no-color")
    assert before.stdout == after.stdout.replace("shard-00000", "not built")
    assert "assistant⟧" not in run(*given, "17").stdout
    assert "⟦" in run(*given, "17", "--train-on", "user").stdout.partition("<|im_start|>assistant")[0]
    assert "why         content" in run(*given, "17", "--at", "30", "--train-on", "all").stdout


def test_reasons_may_be_asked_with_the_input_named(folder: Path) -> None:
    done = run(folder, "0", "--at", "13", "--input", CONVERSATIONS)
    assert "why         content" in done.stdout


def test_errors_are_typed(tmp_path: Path) -> None:
    done = run(tmp_path / "nowhere")
    assert isinstance(done.exception, SftprepError)


def test_every_option_says_what_it_does() -> None:
    for each in inspect.params:
        assert isinstance(each, click.Argument) or (isinstance(each, click.Option) and each.help), each.name
