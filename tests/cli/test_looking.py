"""The commands that look: what they refuse, and that they change nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_builds import sftprep


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["inspect", "nowhere"], 1, "nowhere"),
        (["stats", "nowhere"], 1, "nowhere"),
        (["verify", "nowhere"], 1, "nowhere"),
        (["verify", "nowhere", "--source", "x.jsonl"], 2, "--tokenizer"),
        (["export", "nowhere", "--to", "hf", "-o", "out"], 1, "nowhere"),
        (["export", "nowhere", "-o", "out"], 2, "--to"),
        (["template"], 2, "--tokenizer"),
        (["diff", "nowhere", "there"], 1, "nowhere"),
        (["diff", "nowhere", "--against", "minimind"], 1, "nowhere"),
        (["diff", "nowhere"], 2, "--against"),
        (["diff", "a", "b", "--against", "hf"], 2, "--against"),
        (["diff", "a", "b", "--all"], 2, "belong to --against hf"),
        (["diff", "a", "--against", "hf", "--all", "--limit", "3"], 2, "not both"),
    ],
)
def test_errors_are_one_line_with_the_right_code(tmp_path: Path, arguments: list[str], code: int, word: str) -> None:
    done = sftprep(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert word in done.stderr
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []
