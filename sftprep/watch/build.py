"""A build, its first step or a dry run of it, before the user's eyes: a bar while it works, counts when it is done."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import click
from rich.table import Table

from sftprep.batches.lengths import COUNTED, LENGTHS
from sftprep.config import BuildConfig, Tolerance
from sftprep.dataset.manifest import REJECTS, Manifest
from sftprep.dataset.rejects import count_reasons
from sftprep.jobs.build import build_dataset
from sftprep.jobs.commit import commit_dataset
from sftprep.jobs.folder import adopt_plan, hold, no_temporaries, read_passed_over
from sftprep.jobs.plan import Plan, make_plan
from sftprep.jobs.repeats import STEP, find_repeats
from sftprep.jobs.work import work_on
from sftprep.previews.dry_run import Counts, count_dataset
from sftprep.tokens.load_early import BegunTokenizer
from sftprep.watch.log import say, says_json
from sftprep.watch.progress import BuildProgress
from sftprep.watch.stated import as_json_line, stated
from sftprep.watch.steps import QuietConsole
from sftprep.watch.summary import show_summary, summary_table

_FEW = 0.01  # conversations that are cut: a share that is worth no longer rows


def watched_build(
    config: BuildConfig,
    folder: Path,
    *,
    overwrite: bool = False,
    quiet: bool = False,
    as_json: bool = False,
    verbose: bool = False,
    tokenizer: BegunTokenizer | None = None,
    again: Manifest | None = None,
    hint: bool = True,
) -> None:
    """Build a dataset before the user's eyes. Raises as `build_dataset` does.

    as_json: also say on standard output what was done, as one JSON object. verbose, hint: `show_summary`.
    """
    with BuildProgress(quiet) as progress:
        manifest = build_dataset(config, folder, overwrite=overwrite, watch=progress, tokenizer=tokenizer, again=again)
    if as_json:
        click.echo(as_json_line(stated(manifest, count_reasons(folder / REJECTS), progress)))
    if quiet:
        return
    if progress.plan is None:
        say(f"{folder}: complete already; nothing to do", "summary")
    else:
        show_summary(manifest, folder, progress.plan.passed_over, progress, verbose=verbose, hint=hint)


def watched_dry_run(
    config: BuildConfig,
    *,
    quiet: bool = False,
    verbose: bool = False,
    as_json: bool = False,
    tokenizer: BegunTokenizer | None = None,
) -> None:
    """Count before the user's eyes. Raises as `count_dataset` does, and InputError, at last, where this call does not put up
    with what is rejected."""
    with BuildProgress(quiet) as progress:
        manifest, counts = count_dataset(config, watch=progress, tokenizer=tokenizer)
    if as_json:
        lengths = [{"max_length": each, **_named(counts, at)} for at, each in enumerate(LENGTHS)]
        click.echo(as_json_line({**stated(manifest, counts.reasons, progress), "lengths": lengths}))
    elif says_json():
        say("dry run: nothing was written", "summary", stated(manifest, counts.reasons, progress))
    elif not quiet and progress.plan:
        title, passed_over = "dry run: nothing was written", progress.plan.passed_over
        with suppress(OSError):
            console = QuietConsole(stderr=True)
            console.print(summary_table(manifest, title, counts.reasons, passed_over, progress, verbose=verbose))
            console.print(lengths_table(counts))
    config.tolerance.check(manifest.totals, "the dry run")


def lengths_table(counts: Counts) -> Table:
    """What each limit would keep; the least that cuts few conversations is marked."""
    table = Table(title="what --max-length would cut", title_justify="left", title_style="bold", box=None)
    for name in ("--max-length", "truncated", "dropped", "both", "tokens kept", "trained tokens kept"):
        table.add_column(name, justify="right")
    examples = counts.totals.examples + counts.totals.dropped_examples + counts.totals.dropped
    cut = counts.lengths[:, :2].sum(axis=1) / max(examples, 1)  # share of the examples
    enough = next((at for at, share in enumerate(cut) if share <= _FEW), None)
    for at, length in enumerate(LENGTHS):
        truncated, dropped, tokens, trained = counts.lengths[at].tolist()
        share = f"{cut[at]:.1%}"
        style = "bold green" if at == enough else None
        table.add_row(
            f"{length:,}", f"{truncated:,}", f"{dropped:,}", share, f"{tokens:,}", f"{trained:,}", style=style
        )
    return table


def _named(counts: Counts, at: int) -> dict[str, int]:
    return dict(zip(COUNTED, counts.lengths[at].tolist(), strict=True))


def watched_plan(
    config: BuildConfig, folder: Path, *, overwrite: bool, quiet: bool, tokenizer: BegunTokenizer | None
) -> tuple[Plan, bool]:
    """Plan a dataset before the user's eyes: the plan, and whether there is anything left to do. Raises SftprepError."""
    with BuildProgress(quiet) as progress:
        plan, _ = make_plan(config, tokenizer, watch=progress)
        with hold(folder):
            target = adopt_plan(plan, folder, overwrite=overwrite)
            if target is not None and plan.config.deduplicate:
                with no_temporaries(target):
                    find_repeats(plan, target, partial(progress.begin, plan, STEP), progress.update)
    return plan, target is not None


def watched_commit(folder: Path, tolerance: Tolerance, *, quiet: bool, verbose: bool, as_json: bool) -> None:
    """Commit a dataset and show what it holds. Raises as `commit_dataset`."""
    with hold(folder, create=False):
        passed_over = read_passed_over(folder)
        manifest = commit_dataset(folder, tolerance)
    if as_json:
        click.echo(as_json_line(stated(manifest, count_reasons(folder / REJECTS))))
    if not quiet:
        show_summary(manifest, folder, passed_over, verbose=verbose)


def watched_work(folder: Path, task: int, tokenizer: str | None, *, quiet: bool, **call: Any) -> str:
    """Do one split before the user's eyes. As `work_on`."""
    with BuildProgress(quiet) as progress:
        return work_on(folder, task, tokenizer, progress, **call)
