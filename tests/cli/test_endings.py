"""How the program ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from small_builds import GOOD, TOKENIZER, build, write


def test_output_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    build(tmp_path / "out", write(tmp_path / "a.jsonl", GOOD))
    command = [sys.executable, "-m", "sftprep", "inspect", str(tmp_path / "out"), "0"]
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")
    # what stays in the buffer until the end, too
    with Path("/dev/full").open("wb") as full:
        command = [sys.executable, "-m", "sftprep", "--version"]
        assert subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False).returncode == 1


def test_a_tokenizer_that_is_still_loading_holds_nobody_up(tmp_path: Path) -> None:
    """An error shows, and the program ends, while fastokens is at it."""
    code = (
        "import sys, threading; import sftprep.tokens.load_early as fast\n"
        "fast.FastTokens._load = lambda self: threading.Event().wait()\n"
        "from sftprep.cli.commands import run; run()"
    )
    command = [sys.executable, "-c", code, "build", "nosuch", "-o", str(tmp_path / "out"), "-t", TOKENIZER]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, "nosuch" in done.stderr) == (1, True)
