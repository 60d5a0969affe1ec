"""A dataset in numbers, as people see it and as programs do."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest
from rich.console import Console
from small_builds import GOOD, build, sftprep, write

from sftprep.errors import DatasetError
from sftprep.look.stats import _bars, _short, show_stats
from sftprep.statistics.distribution import Distribution


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stats")
    thinks = {"messages": [GOOD["messages"][0], {**GOOD["messages"][1], "reasoning_content": "Hm, how to greet?"}]}
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    template += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    long = {"messages": [*GOOD["messages"], {**GOOD["messages"][0], "content": "Why? " * 30}, GOOD["messages"][1]]}
    many = [{**GOOD, "of": f"kind {number}"} for number in range(25)]
    first = write(folder / "a.jsonl", {**GOOD, "source": "x", "[red]": 1, "of": "\x1b[2J"}, thinks, {"messages": []})
    build(folder / "out", first, write(folder / "b.jsonl", long, *many), chat_template=template, by="of", max_length=40)
    return folder / "out"


def shown(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "80")
    show_stats(folder, as_json=False)
    return capsys.readouterr().out


def test_for_machines(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_stats(folder, as_json=True)
    stated, manifest = json.loads(capsys.readouterr().out), json.loads((folder / "manifest.json").read_text())
    assert stated["totals"] == manifest["totals"]
    assert (stated["ignored_keys"], stated["message_keys"]) == ({"source": 1, "[red]": 1}, {})
    (reject,) = stated["rejects"]
    assert (reject["kind"], reject["count"], "no messages" in reject["reason"]) == ("rejected", 1, True)
    assert stated["sets"]["train"].items() >= manifest["sets"]["train"].items()
    assert stated["sets"]["train"]["lengths"] == stated["lengths"]
    assert (stated["by"], len(stated["groups"]), len(stated["sources"])) == ("of", 27, 2)
    assert {"turns", "padding", "trained_share", "features", "dropped_lengths"} <= stated.keys()
    assert "length" in {each["kind"] for each in stated["advice"]}


def test_for_people(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    out = shown(folder, capsys, monkeypatch)
    assert max(map(len, out.splitlines())) <= 80
    assert "messages whose reasoning is not in the text" in " ".join(out.split())
    assert "no messages" in out
    assert "keys of records, ignored: [red] 1, source 1\n" in out
    assert "more than 40: 1 cut off, 0 dropped" in out
    for line in ("by file", "a.jsonl", "by of", "(none)", "7 more", "min", "median"):
        assert line in out
    assert ("\x1b[2J" in out, r"\x1b[2J" in out) == (False, True)
    assert out.rstrip().splitlines()[-1].startswith(("!", "  "))  # advice comes last


def test_of_one_file_and_no_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build(tmp_path / "out", write(tmp_path / "a.jsonl", GOOD), max_length=18)
    show_stats(tmp_path / "out", as_json=False)
    out = capsys.readouterr().out
    assert ("by file" in out, "by of" in out, "!" in out, "more than" in out) == (False,) * 4


def test_bars(capsys: pytest.CaptureFixture[str]) -> None:
    table = _bars(Distribution.counted({3: 1, 60: 2, 100: 8, 120: 8}), 110, ascii_only=True)
    Console(width=80, force_terminal=True, color_system="standard").print(table)
    lines = capsys.readouterr().out.splitlines()
    assert [line.count("#") for line in lines] == [2, 0, 0, 0, 4, 32]
    green, yellow = lines[-1].split("#\x1b[0m")[:2]
    assert (green.count("#"), yellow.count("#"), "\x1b[33m" in yellow) == (15, 15, True)


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"),
        (9999, "9,999"),
        (10_000, "10k"),
        (532_111, "532k"),
        (999_999, "1M"),
        (3_642_948, "3.64M"),
        (10**12, "1T"),
    ],
)
def test_short_numbers(count: int, text: str) -> None:
    assert _short(count) == text


def test_the_command(folder: Path) -> None:
    done = sftprep("stats", str(folder), "--json")
    assert (done.returncode, json.loads(done.stdout)["totals"]["unprinted_reasoning"]) == (0, 1)
    done = sftprep("stats", str(folder.parent))
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False)


def test_a_terminal_without_unicode_is_no_reason_to_stop(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding="ascii"))
    show_stats(folder, as_json=False)
    sys.stdout.seek(0)
    assert "####" in sys.stdout.read()


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        show_stats(tmp_path, as_json=False)
