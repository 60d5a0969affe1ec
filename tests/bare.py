"""Tries an installed sftprep alone, as a stranger has it: `make release` runs this with the bare environment's Python."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from importlib import import_module
from importlib.metadata import metadata
from importlib.util import find_spec
from pathlib import Path

import sftprep

PROGRAM = Path(sys.executable).parent / "sftprep"


def run(*arguments: str) -> str:
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run([PROGRAM, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"sftprep {' '.join(arguments)}: {done.stderr}")
    return done.stdout


def main() -> None:
    assert Path(sftprep.__file__).is_relative_to(Path(sys.executable).parent.parent), sftprep.__file__
    assert run("--version").split()[-1].strip() == sftprep.__version__ == metadata("sftprep")["Version"]
    assert "Build a dataset:" in run("--help")
    assert "trained" in run("demo")
    assert find_spec("torch") is None
    said = ""
    try:
        import_module("sftprep.reader")
    except ModuleNotFoundError as error:
        said = str(error)
    assert "pip install 'sftprep[torch]'" in said, said
    print(f"sftprep {sftprep.__version__} alone: version, help, demo, and what the reader says without torch")


if __name__ == "__main__":
    main()
