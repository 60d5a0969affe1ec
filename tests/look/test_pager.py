"""Output as people get it: in a pager on a terminal, plain elsewhere, with a legend where somebody looks on."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from rich.text import Text

from sftprep.look.pager import Screen, note

LEGEND = Text("legend\n", "dim")
PRINT = "from rich.text import Text; from sftprep.look.pager import Screen; n = Screen(pager={pager}).show([Text('one\\n', 'bold'), Text('two\\n')], Text('legend\\n')); print(n)"


def on_a_terminal(*, pager: bool = True, **environment: str) -> str:
    """What a terminal gets of two texts and a legend."""
    ours, terminal = pty.openpty()
    named = {"TERM": "xterm-256color", "PAGER": "cat", "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    command = [sys.executable, "-c", PRINT.format(pager=pager)]
    subprocess.run(command, stdin=terminal, stdout=terminal, env=os.environ | named, check=True)
    os.close(terminal)
    seen = b""
    with suppress(OSError):  # there is no more
        while part := os.read(ours, 4096):
            seen += part
    os.close(ours)
    return seen.decode().replace("\r\n", "\n")


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "LESS"):
        monkeypatch.delenv(name, raising=False)


def test_a_pipe_gets_text_as_it_is_and_no_legend(capsys: pytest.CaptureFixture[str]) -> None:
    assert Screen().show([Text("one\n", "bold"), Text("two\n")], LEGEND) == 2
    assert capsys.readouterr().out == "one\n\ntwo\n\n"


def test_colours_that_are_asked_for_come_with_a_legend(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    assert Screen(True).show([Text("one\n", "bold")], LEGEND) == 1
    output = capsys.readouterr().out
    assert "\x1b[1mone" in output
    assert "legend" in output
    Screen(True).show([], LEGEND)
    assert capsys.readouterr().out == "", "a legend of nothing"


def test_a_terminal_gets_a_pager_with_colours_and_a_legend(tmp_path: Path) -> None:
    upper = tmp_path / "upper"
    upper.write_text("#!/bin/sh\necho paged\ncat\n")
    upper.chmod(0o755)
    seen = on_a_terminal(PAGER=str(upper))
    assert seen.startswith("paged\n")
    assert "\x1b[1mone" in seen
    assert seen.endswith("legend\n\n2\n")


def test_no_pager_where_none_is_wanted() -> None:
    assert "paged" not in on_a_terminal(pager=False, PAGER="echo paged")


def test_no_color_is_obeyed_on_a_terminal() -> None:
    assert "\x1b" not in on_a_terminal(NO_COLOR="1")


def test_notes_stand_beside_the_output(capsys: pytest.CaptureFixture[str]) -> None:
    note("a\x1b[31mb\n")
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err == "a\\x1b[31mb\\n\n"
