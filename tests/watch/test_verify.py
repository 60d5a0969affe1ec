"""What `sftprep verify` says of a dataset, sound or not."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_builds import GOOD, TOKENIZER, build, write

from sftprep.watch.log import show_log
from sftprep.watch.verify import verify_command


@pytest.fixture
def source(tmp_path: Path) -> str:
    return write(tmp_path / "a.jsonl", GOOD, GOOD)


@pytest.fixture
def dataset(tmp_path: Path, source: str) -> Path:
    build(tmp_path / "out", source)
    return tmp_path / "out"


def verified(folder: Path, *sources: str, fast: bool = False, quiet: bool = False) -> bool:
    return verify_command(folder, fast=fast, sources=sources, tokenizer=TOKENIZER if sources else None, quiet=quiet)


def shown(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Lines with something in them, on standard error."""
    out, err = capsys.readouterr()
    assert out == ""
    return [line for line in err.splitlines() if line]


def test_a_sound_dataset(dataset: Path, source: str, capsys: pytest.CaptureFixture[str]) -> None:
    said = f"{dataset}: sound"
    assert verified(dataset)
    assert shown(capsys) == [f"{said} (sizes, hashes, totals and rows)"]
    assert verified(dataset, fast=True)
    assert shown(capsys) == [f"{said} (sizes and headers)"]
    assert verified(dataset, source)
    assert shown(capsys) == [f"{said} (sizes, hashes, totals and rows, and a sample of rows derived anew)"]
    assert verified(dataset, source, quiet=True)
    assert shown(capsys) == []


@pytest.mark.parametrize("quiet", [False, True])
def test_every_problem_has_its_line(dataset: Path, quiet: bool, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("shard-00000.X.npy", "rejects.jsonl"):
        (dataset / name).write_bytes(b"[red]")
    assert not verified(dataset, quiet=quiet)
    lines = sorted(shown(capsys))
    assert [line.partition(": ")[0] for line in lines] == [
        str(dataset / name) for name in ("rejects.jsonl", "shard-00000.X.npy")
    ]


def test_rows_that_their_records_do_not_give_any_more(
    dataset: Path, source: str, capsys: pytest.CaptureFixture[str]
) -> None:
    write(Path(source), GOOD)
    assert not verified(dataset, source)
    assert shown(capsys) == [f"{dataset}/a.jsonl: is not the file that was read: its sha256 differs"]


def test_for_machines(dataset: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verify = {"fast": False, "sources": (), "tokenizer": None, "quiet": True, "as_json": True}
    assert verify_command(dataset, **verify)  # type: ignore[arg-type]
    assert json.loads(capsys.readouterr().out) == {"sound": True, "problems": [], "hashed": True}
    (dataset / "rejects.jsonl").write_bytes(b"x")
    assert not verify_command(dataset, **verify)  # type: ignore[arg-type]
    assert json.loads(capsys.readouterr().out)["problems"][0]["file"] == "rejects.jsonl"
    show_log(as_json=True)
    assert not verified(dataset)
    problem = json.loads(shown(capsys)[-1])
    assert (problem["level"], problem["event"], problem["file"]) == ("error", "problem", "rejects.jsonl")
    show_log(as_json=False)


def test_a_folder_that_is_no_dataset(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert not verified(tmp_path / "nowhere\x1b[2J")
    (line,) = shown(capsys)
    assert ("\x1b" in line, r"nowhere\x1b[2J" in line) == (False, True)
