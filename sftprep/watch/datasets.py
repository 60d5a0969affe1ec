"""What is done with datasets before the user's eyes: exported, compared, made a page of; a bar while it takes long."""

from __future__ import annotations

import logging
from pathlib import Path

import click

from sftprep.compare.datasets import compare_datasets
from sftprep.compare.findings import Comparison
from sftprep.compare.kinds import Request, compare_against
from sftprep.dataset.manifest import load_manifest
from sftprep.exports.export import export_dataset
from sftprep.pages.report import write_report
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


def watched_diff(a: Path, b: Path, *, few: int, quiet: bool) -> Comparison:
    """Compare two datasets. Raises as `compare_datasets`."""
    with Steps(quiet=quiet) as steps:
        return compare_datasets(a, b, steps.begin, steps.advance, few)


def watched_against(request: Request, *, quiet: bool) -> Comparison:
    """Compare a dataset with another program's way. Raises as `compare_against`."""
    with Steps(quiet=quiet) as steps:
        return compare_against(request, steps.begin, steps.advance)


def watched_report(folder: Path, output: Path, tokenizer: str | None, *, text: bool, quiet: bool) -> None:
    """Make the page of a dataset. Raises as `write_report`."""
    with Steps(quiet=quiet) as steps:
        steps.begin("reading shards", len(load_manifest(folder).shards), "shards")
        why = write_report(folder, output, tokenizer, text=text, progress=steps.advance)
    if why:
        say(why)
    if not quiet:
        click.echo(visible(f"{output}: open it in a browser"))
