"""What `sftprep verify` shows: a bar while it hashes, then every problem, or that there is none."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from sftprep.dataset.manifest import load_manifest
from sftprep.dataset.verify import verify_dataset
from sftprep.errors import SftprepError
from sftprep.jobs.rederive import verify_source
from sftprep.visible import visible
from sftprep.workers.trial import run_apart


def verify_command(folder: Path, *, fast: bool, sources: Sequence[str], tokenizer: str | None, quiet: bool) -> bool:
    """Check and print every problem; True if there is none."""
    console = Console(stderr=True)
    with Progress(console=console, disable=quiet or fast or not console.is_terminal, transient=True) as progress:
        task = progress.add_task("hashing", total=_bytes(folder))
        problems = verify_dataset(folder, fast=fast, progress=lambda size: progress.advance(task, size))
    if not problems and sources and tokenizer is not None:
        problems = run_apart(
            partial(verify_source, folder, sources, tokenizer), what="deriving rows anew by the chat template"
        )
    for problem in problems:
        where, what = (escape(visible(each)) for each in (str(folder / problem.file), problem.what))
        console.print(f"[red]{where}[/]: {what}", highlight=False, soft_wrap=True)
    if not problems and not quiet:
        looked_at = "sizes and headers" if fast else "sizes, hashes, totals and rows"
        derived = ", and a sample of rows derived anew" if sources else ""
        console.print(f"[green]{escape(visible(str(folder)))}: sound[/] ({looked_at}{derived})", soft_wrap=True)
    return not problems


def _bytes(folder: Path) -> int | None:
    """How much there is to hash; None where the manifest cannot say."""
    try:
        return sum(entry.bytes for entry in load_manifest(folder).files.values())
    except SftprepError:
        return None
