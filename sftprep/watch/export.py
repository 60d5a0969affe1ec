"""An export before the user's eyes: a bar while it works, what was written when it is done."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from sftprep.dataset.manifest import load_manifest
from sftprep.exports.export import export_dataset
from sftprep.visible import visible
from sftprep.watch.log import say
from sftprep.watch.steps import Steps


def watched_export(folder: Path, form: str, output: Path, *, quiet: bool) -> None:
    """Export a dataset before the user's eyes. Raises as `export_dataset` does."""
    totals = load_manifest(folder).totals
    with Steps(quiet=quiet) as steps:
        steps.begin("exporting", totals["conversations"], "conversations")
        done = export_dataset(folder, form, output, steps.advance)
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
            say(f"not written: {count:,} {what}", level=logging.WARNING)
