"""Small builds, and what they leave."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np

from sftprep.config import BuildConfig
from sftprep.dataset.manifest import Manifest
from sftprep.jobs.build import build_dataset

SAMPLE = Path(str(files("sftprep") / "sample"))
CONVERSATIONS = SAMPLE / "conversations.jsonl"
TOKENIZER = str(SAMPLE / "tokenizer")
GOOD = {"messages": [{"role": "user", "content": "Hello?"}, {"role": "assistant", "content": "Hello!"}]}


def write(path: Path, *records: Any) -> str:
    lines = [each if isinstance(each, bytes) else json.dumps(each, ensure_ascii=False).encode() for each in records]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return str(path)


def build(folder: Path, *inputs: str, tokenizer: str = TOKENIZER, **options: Any) -> Manifest:
    return build_dataset(BuildConfig(inputs, tokenizer, **options), folder)


def load(folder: Path, kind: str) -> np.ndarray:
    parts = [np.load(path, mmap_mode="r") for path in sorted(folder.glob(f"shard-*.{kind}.npy"))]
    return np.concatenate(parts)


def rejects(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "rejects.jsonl").read_text().splitlines()]


def conversations(folder: Path) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """X, Y and mask of every segment."""
    for path in sorted(folder.glob("shard-*.segments.npy")):
        x, y, mask = (np.load(path.with_name(path.name.replace("segments", kind))) for kind in ("X", "Y", "mask"))
        for row, start, length in np.load(path):
            yield tuple(array[row, start : start + length] for array in (x, y, mask))


# --- the command line ---------------------------------------------------------------------------------------------
def sftprep(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sftprep", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=cwd)
