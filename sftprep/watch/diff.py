"""A comparison before the user's eyes: a bar while it reads."""

from __future__ import annotations

from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from sftprep.compare.datasets import compare_datasets
from sftprep.compare.findings import Comparison
from sftprep.compare.kinds import Request, compare_against
from sftprep.dataset.manifest import load_manifest


def watched_diff(a: Path, b: Path, *, few: int, quiet: bool) -> Comparison:
    """Compare two datasets. Raises as `compare_datasets`."""
    total = sum(shard.segments for folder in (a, b) for shard in load_manifest(folder).shards)
    with _bar(quiet) as progress:
        task = progress.add_task("comparing", total=total)
        return compare_datasets(a, b, lambda count: progress.advance(task, count), few)


def watched_against(request: Request, *, quiet: bool) -> Comparison:
    """Compare a dataset with another program's way. Raises as `compare_against`."""
    with _bar(quiet) as progress:
        task = progress.add_task("")

        def begin(step: str, total: int) -> None:
            progress.reset(task, description=step, total=total)

        return compare_against(request, begin, lambda count: progress.advance(task, count))


def _bar(quiet: bool) -> Progress:
    console = Console(stderr=True)
    return Progress(console=console, disable=quiet or not console.is_terminal, transient=True)
