"""What the README shows works as it stands: its commands are run, its files exist."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

import pytest

from sftprep.cli.commands import main
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.records.forms import FORMS, SYSTEM_KEYS, TOOL_KEYS, form_of
from sftprep.records.messages import SPELLINGS, SWITCHES, Reading

README = Path(__file__).parents[1] / "README.md"
SAMPLE = Path(str(files("sftprep") / "sample"))


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README.read_text(encoding="utf-8"), re.S)


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """The files that a reader of the README has, and what `make` has set up."""
    shutil.copytree(SAMPLE, tmp_path / "sftprep" / "sample")
    activate = tmp_path / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.write_text(f'export PATH="{Path(sys.executable).parent}:$PATH"\n')
    return tmp_path


def test_commands_and_code_run_as_written(clone: Path) -> None:
    """One block after another, in one shell."""
    commands = [block for block in blocks("sh") if "make demo" not in block]
    assert "sftprep build" in "".join(commands)
    environment = os.environ | {"PYTHONPATH": str(README.parent)}  # in the clone, a part of the package is another's
    script = ["set -e", *commands]
    code = blocks("python")
    if find_spec("torch"):
        for number, block in enumerate(code):
            (clone / f"code-{number}.py").write_text(block)
            script.append(f"python -P code-{number}.py")
    done = subprocess.run(
        ["bash", "-c", "\n".join(script)], cwd=clone, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in ("dataset", "dataset2"):
        assert (clone / name / "manifest.json").exists()


def test_every_form_is_read_as_it_stands() -> None:
    """Each record of the table, the same conversation in all of them."""
    said = [{"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}]
    rows = re.findall(r"^\| (.+?) \| `([{\[].+?[}\]])`(?:,.*)? \|$", README.read_text(encoding="utf-8"), re.M)
    for name, record in rows:
        key = re.search(r"--messages-key (\w+)", name)
        reading = Reading(messages_key=key and key[1])
        assert parse_conversation(record.encode(), reading) == Conversation(said, None, {}, None), name
        if name.strip("`") in FORMS:
            assert form_of(json.loads(record), reading)[0] == name.strip("`")
    assert {name.strip("`") for name, _ in rows} >= FORMS.keys() - {"sharegpt"}
    assert len(rows) == len(FORMS) + 3
    text = README.read_text(encoding="utf-8")
    names = (*SWITCHES, *SYSTEM_KEYS, *TOOL_KEYS, *(name for names in SPELLINGS.values() for name in names))
    assert [name for name in names if f"`{name}`" not in text] == []


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
