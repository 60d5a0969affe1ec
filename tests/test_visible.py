"""Names from strangers in what commands print."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_dataset import write_dataset

from sftprep.sample import TOKENIZER
from sftprep.visible import is_hostile, visible

HOSTILE = "\x1b]0;owned\x07\n\u202e[red]\x9b31m"
SHOWN = r"\x1b]0;owned\x07\n\u202e[red]\x9b31m"


@pytest.mark.parametrize("text", ["", "résumé 漢字 🙂.jsonl", "न\u200dम 👩\u200d🚀", "a\u00a0b\u3000c", "\ue000"])
def test_what_prints_stays(text: str) -> None:
    assert visible(text) == text


def test_what_controls_a_terminal_is_escaped() -> None:
    assert visible(HOSTILE) == SHOWN
    assert visible("\udcff\u2028\u200b") == r"\udcff\u2028\u200b"


@given(st.text())
def test_nothing_hostile_is_left(text: str) -> None:
    assert not any(map(is_hostile, visible(text)))
    assert visible(text).isprintable() or any(unicodedata.category(each) not in ("Cc", "Cf") for each in text)


def test_commands_escape_names(tmp_path: Path) -> None:
    """Whatever a command says, of a folder, an input, a tokenizer or an option, in success and in failure."""
    folder = tmp_path / f"data{HOSTILE}"
    folder.mkdir()
    talk = '{"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}\n'
    source, out = folder / "in.jsonl", folder / "out"
    source.write_text(talk)
    write_dataset(folder / "other", [[([1, 2], [0, 1])]], max_length=5)
    (folder / "other" / f"shard-{HOSTILE.replace('/', '')}").touch()
    build = ["build", str(source), "-o", str(out), "-t", str(TOKENIZER), "--workers", "1"]
    calls = [
        ["plan", str(source), "-o", str(folder / "planned"), "-t", str(TOKENIZER)],
        ["work", str(folder / "planned"), "--task", "0"],
        ["work", str(folder / "planned"), "--task", "7"],
        ["commit", str(folder / "planned")],
        build,
        build,
        ["plan", *build[1:-2]],
        [*build, "--max-length", "7"],
        ["build", str(folder / "none.jsonl"), *build[2:]],
        [*build[:5], str(folder / "no tokenizer")],
        [*build, "--template-kwarg", HOSTILE],
        [*build, "--config", str(folder / "no config")],
        [*build, f"--{HOSTILE}"],
        [HOSTILE],
        ["inspect", str(out)],
        ["inspect", str(out), "99"],
        ["inspect", str(out), "-t", str(folder)],
        ["inspect", str(folder)],
        ["verify", str(out)],
        ["verify", str(folder / "other")],
        ["verify", str(folder)],
    ]
    said = ""
    for call in calls:
        done = subprocess.run(
            [sys.executable, "-m", "sftprep", *call], capture_output=True, env=os.environ | {"COLUMNS": "500"}
        )
        output = (done.stdout + done.stderr).decode()
        assert not any(is_hostile(each) for line in output.split("\n") for each in line), (call[0], output)
        assert "internal error" not in output, output
        said += output
    assert said.count(SHOWN) >= len(calls) - 3
