"""A build before the user's eyes: a bar while it works, the table of counts when it is done."""

from __future__ import annotations

from pathlib import Path

import click

from sftprep.config import BuildConfig
from sftprep.jobs.build import build_dataset
from sftprep.look.progress import BuildProgress
from sftprep.look.summary import show_summary
from sftprep.tokens.load_early import BegunTokenizer
from sftprep.visible import visible


def watched_build(
    config: BuildConfig,
    folder: Path,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    verbose: bool = False,
    tokenizer: BegunTokenizer | None = None,
) -> None:
    """Build a dataset before the user's eyes. verbose: and say which keys were not read. Raises as `build_dataset` does."""
    with BuildProgress(quiet) as progress:
        manifest = build_dataset(config, folder, overwrite=overwrite, watch=progress, tokenizer=tokenizer)
    if quiet:
        return
    if progress.plan is None:
        click.echo(visible(f"{folder}: complete already; nothing to do"), err=True)
    else:
        show_summary(manifest, folder, progress.plan.passed_over, progress, verbose=verbose)
