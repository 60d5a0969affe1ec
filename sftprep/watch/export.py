"""An export before the user's eyes: a bar while it works, what was written when it is done."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress

from sftprep.dataset.manifest import load_manifest
from sftprep.exports.export import export_dataset
from sftprep.visible import visible


def watched_export(folder: Path, form: str, output: Path, *, quiet: bool) -> None:
    """Export a dataset before the user's eyes. Raises as `export_dataset` does."""
    totals = load_manifest(folder).totals
    console = Console(stderr=True)
    with Progress(console=console, disable=quiet or not console.is_terminal, transient=True) as progress:
        task = progress.add_task("exporting", total=totals["conversations"])
        done = export_dataset(folder, form, output, lambda count: progress.advance(task, count))
    if quiet:
        return
    what = f"{done.examples:,} conversations, {done.tokens:,} tokens, {done.trained_tokens:,} of them trained"
    click.echo(visible(f"{output}: {what}"))
    left = {
        "conversations of a single token, which train nothing": totals["conversations"] - done.examples,
        "trained tokens of padding": totals["trained_tokens"] - done.trained_tokens,
    }
    for what, count in left.items():
        if count:
            click.echo(visible(f"not written: {count:,} {what}"), err=True)
