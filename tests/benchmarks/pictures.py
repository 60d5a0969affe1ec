"""Draws the pictures of the README from a real build of the sample: python tests/benchmarks/pictures.py"""

from __future__ import annotations

import io
import re
import tempfile
from importlib.resources import files
from pathlib import Path

from rich.console import Console
from tokenizers import Tokenizer

from sftprep.config import BuildConfig
from sftprep.jobs.build import build_dataset
from sftprep.look.rows import render_rows
from sftprep.tokens.resolve import resolve_tokenizer

ROWS = (28, 35)
WIDTH = 100  # columns


def main() -> None:
    sample = Path(str(files("sftprep") / "sample"))
    resolved = resolve_tokenizer(str(sample / "tokenizer"))
    tokenizer = Tokenizer.from_str(resolved.backend)
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder) / "demo"
        config = BuildConfig((str(sample / "conversations.jsonl"),), str(sample / "tokenizer"), max_length=512)
        build_dataset(config, out)
        for text in render_rows(out, ROWS, lambda ids: tokenizer.decode(ids, skip_special_tokens=False)):
            console.print(text)
    drawn = console.export_svg(title=f"sftprep inspect demo {' '.join(map(str, ROWS))}")
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.S)  # fonts from elsewhere: the reader's own will do
    Path(__file__).with_name("inspect.svg").write_text(drawn)


if __name__ == "__main__":
    main()
