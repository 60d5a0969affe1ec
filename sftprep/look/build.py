"""A build, or its first step, before the user's eyes: a bar while it works, the table of counts when it is done."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from sftprep.config import BuildConfig
from sftprep.jobs.build import build_dataset
from sftprep.jobs.folder import adopt_plan, hold, no_temporaries
from sftprep.jobs.plan import Plan, make_plan
from sftprep.jobs.repeats import STEP, find_repeats
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
    tokenizer: BegunTokenizer | None = None,
) -> None:
    """Build a dataset before the user's eyes. Raises as `build_dataset` does."""
    with BuildProgress(quiet) as progress:
        manifest = build_dataset(config, folder, overwrite=overwrite, watch=progress, tokenizer=tokenizer)
    if quiet:
        return
    if progress.plan is None:
        click.echo(visible(f"{folder}: complete already; nothing to do"), err=True)
    else:
        show_summary(manifest, folder, progress.plan.passed_over, progress)


def watched_plan(
    config: BuildConfig, folder: Path, *, overwrite: bool, quiet: bool, tokenizer: BegunTokenizer | None
) -> tuple[Plan, bool]:
    """Plan a dataset before the user's eyes: the plan, and whether there is anything left to do. Raises SftprepError."""
    plan, _ = make_plan(config, tokenizer)
    with hold(folder):
        target = adopt_plan(plan, folder, overwrite=overwrite)
        if target is not None and plan.config.deduplicate:
            with BuildProgress(quiet) as progress, no_temporaries(target):
                find_repeats(plan, target, partial(progress.begin, plan, STEP), progress.update)
    return plan, target is not None
