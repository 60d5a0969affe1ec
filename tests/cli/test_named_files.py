"""Templates and system prompts in files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sftprep.cli.named_files import prompts_in, text_in
from sftprep.config import MOST_TEMPLATE
from sftprep.errors import ConfigError


def test_prompts_are_lines_or_json_strings(tmp_path: Path) -> None:
    file = tmp_path / "prompts.txt"
    file.write_text('Be kind.\n\n  Be brief. \n"Two\\nlines, \\u00e9"\n', encoding="utf-8")
    assert prompts_in(file) == ["Be kind.", "Be brief.", "Two\nlines, é"]


@pytest.mark.parametrize(
    ("text", "message"), [("", "is empty"), (" \n", "is blank"), ('a\n"b\n', r":2: begins with a quote")]
)
def test_files_without_prompts_are_refused(text: str, message: str, tmp_path: Path) -> None:
    (tmp_path / "prompts.txt").write_text(text)
    with pytest.raises(ConfigError, match=message):
        prompts_in(tmp_path / "prompts.txt")


def test_what_is_no_text_is_refused_and_no_more_is_read_than_a_template_may_have(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigError, match="not a regular file; expected one with a template"):
        text_in(tmp_path / "pipe", "a template")
    (tmp_path / "bytes").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="utf-8"):
        text_in(tmp_path / "bytes", "a template")
    (tmp_path / "long").write_text("x" * (MOST_TEMPLATE + 5))
    assert len(text_in(tmp_path / "long", "a template")) == MOST_TEMPLATE + 1
