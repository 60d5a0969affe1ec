"""What the README shows works as it stands: its commands are run, its files exist."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from importlib.resources import files
from pathlib import Path

import pytest

from sftprep.cli import main

README = Path(__file__).parents[1] / "README.md"
SAMPLE = Path(str(files("sftprep") / "sample"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.S)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    shutil.copy(SAMPLE / "conversations.jsonl", tmp_path / "chat.jsonl")
    shutil.copytree(SAMPLE / "tokenizer", tmp_path / "path" / "to" / "tokenizer")
    return tmp_path


def test_commands_and_code_run_as_written(folder: Path) -> None:
    environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    commands = [shlex.split(line, comments=True) for line in lines if line.startswith("sftprep")]
    assert {command[1] for command in commands} >= {"build", "inspect", "verify", "plan", "work", "commit"}
    for command in commands:
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (command, done.stderr)
    for name in ("dataset", "dataset2"):
        assert (folder / name / "manifest.json").exists()
    pytest.importorskip("torch")
    (code,) = blocks("python")
    subprocess.run([sys.executable, "-c", code], cwd=folder, check=True)


def test_commands_options_and_files_that_are_named_exist() -> None:
    text = README.read_text(encoding="utf-8")
    known = {
        option
        for command in main.commands.values()
        for each in command.params
        for option in (*each.opts, *each.secondary_opts)
    }
    assert set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", text)) <= known
    for target in re.findall(r"\]\(([^)#]+)\)", text):
        assert (README.parent / target).exists(), target
    for command in re.findall(r"`make ([\w-]+)`", text):
        assert f"\n{command}:" in (README.parent / "Makefile").read_text()


def test_every_command_and_option_has_help() -> None:
    for name, command in main.commands.items():
        assert command.help, name
        for parameter in command.params:
            assert getattr(parameter, "help", None) or parameter.param_type_name == "argument", (name, parameter.name)
