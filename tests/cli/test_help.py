"""What `--help` shows, and what a shell completes."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from sftprep.cli.commands import SHELLS, main
from sftprep.cli.help import BUILD, COMMANDS, EXAMPLES, Command


def shown(*arguments: str) -> str:
    return CliRunner().invoke(main, [*arguments, "--help"], terminal_width=110).output


def test_commands_stand_under_titles_with_whole_sentences() -> None:
    named = [name for names in COMMANDS.values() for name in names]
    assert len(named) == len({*named} & main.commands.keys())
    assert [
        name for name, each in main.commands.items() if type(each) is not Command
    ] == []  # @click.command(cls=Command)
    text = shown()
    assert "..." not in text.partition("Options:")[2]
    words = " ".join(text.split())
    for command in main.commands.values():
        sentence = str(command.help).partition("\n\n")[0].split(". ")[0].rstrip(".")
        assert f"{command.name} {' '.join(sentence.split())}." in words


def test_options_stand_under_titles_each_once() -> None:
    names = [name for names in BUILD.values() for name in names]
    assert len(names) == len({*names} & {each.name for each in main.commands["build"].params})
    text = shown("build")
    for title in (*BUILD, "Examples", "Options"):
        assert f"\n{title}:\n" in text
    assert text.count(" --") >= len(names)
    assert "\nWhat it says:\n  -q, --quiet" in shown("plan")  # which has no --verbose


def test_an_option_of_no_section_and_a_command_of_none_are_shown() -> None:
    @click.group(cls=type(main))
    def group() -> None:
        """All."""

    @group.command("build")
    @click.option("--new", help="Something new.")
    @click.option("--mask", help="Known.")
    def build(new: str, mask: str) -> None:
        """Do."""

    group.add_command(build, "unheard")
    one = CliRunner().invoke(group, ["build", "--help"]).output
    assert "\nWhat is trained:\n  --mask" in one
    assert "\nOptions:\n  --new TEXT  Something new.\n" in one
    assert "\nOther commands:\n  unheard  Do.\n" in CliRunner().invoke(group, ["--help"]).output


@pytest.mark.parametrize("name", EXAMPLES)
def test_examples_can_be_typed(name: str) -> None:
    text = shown(name)
    for line in EXAMPLES[name]:
        assert f"  {line}\n" in text
        words = shlex.split(re.sub(r'"\$\((.*)\)"', r"\1", line).rpartition("| ")[2], comments=True)
        words = words[words.index("sftprep") + 1 :]
        command = main.commands[words[0]]
        command.make_parser(click.Context(command, **command.context_settings)).parse_args(
            words[1:]
        )  # raises for an option that is not there


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("sftprep ver", {"verify"}),
        ("sftprep build --max-", {"--max-length", "--max-record-bytes", "--max-rejects"}),
        ("sftprep build --mask min", {"minimind", "minimind-v5"}),
        ("sftprep export --to t", {"trl"}),
    ],
)
def test_bash_completes(line: str, expected: set[str], tmp_path: Path) -> None:
    """In a real bash, as pressing the tabulator does."""
    program = tmp_path / "sftprep"
    program.write_text(f"#!{sys.executable}\nfrom sftprep.cli.commands import run\nrun()\n")
    program.chmod(0o755)
    *words, last = line.split(" ")
    script = f"""eval "$(sftprep completion bash)"
        COMP_WORDS=({" ".join(words)} {last}); COMP_CWORD={len(words)}; _sftprep_completion sftprep
        printf '%s\\n' "${{COMPREPLY[@]}}"; complete -p sftprep"""
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=True)
    *completed, bound = done.stdout.split("\n")[:-1]
    assert ({*completed}, "-F _sftprep_completion sftprep" in bound) == (expected, True)


@pytest.mark.parametrize("shell", SHELLS)
def test_files_are_completed_where_they_are_meant(shell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    said = CliRunner().invoke(main, ["completion", shell]).output
    assert "_SFTPREP_COMPLETE" in said
    for words, kind in (("sftprep build ch", "file"), ("sftprep build -t ch", "dir"), ("sftprep inspect ch", "file")):
        last = "ch" if shell == "fish" else str(len(words.split()) - 1)
        environment = {"_SFTPREP_COMPLETE": f"{shell}_complete", "COMP_WORDS": words, "COMP_CWORD": last}
        done = CliRunner().invoke(main, prog_name="sftprep", env=environment)
        assert done.output.replace("\n", ",").split(",")[0] == kind


def test_the_demo_ends_with_what_colours_mean_and_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    said = CliRunner().invoke(main, ["demo", "-o", "a demo"]).stdout
    legend, then = [line for line in said.splitlines() if line][-2:]
    assert "⟦in brackets⟧ is trained" in legend
    command = shlex.split(then.partition(": sftprep ")[2])
    assert command == ["inspect", "a demo", "28", "35"]
    assert "<tool_call>" in CliRunner().invoke(main, command).output
