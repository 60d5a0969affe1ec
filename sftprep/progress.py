"""What a build shows on the terminal: a progress bar while it works, a table of counts when it is done.

A terminal that is gone, or a full disk behind standard error, is no reason to stop the work.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from sftprep.build import Watch, build_dataset
from sftprep.config import BuildConfig
from sftprep.engines import Progress as Step
from sftprep.fast_tokens import BegunTokenizer
from sftprep.inputs import PassedOver
from sftprep.manifest import REJECTS, Manifest
from sftprep.plan import Plan
from sftprep.rejects import count_reasons
from sftprep.shards import REJECT_KINDS
from sftprep.visible import visible

_MEGA = 1e6
_FORGED = {
    "split": "in message text, kept as plain text",
    "reject": "in message text, and are rejected for it",
    "allow": "in message text, which become control tokens",
}


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Nobody reads any more; rich would exit."""


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


class BuildProgress(Watch):
    """A bar over the input's bytes, with conversations, tokens/s and MB/s. Drawn on standard error."""

    def __init__(self, quiet: bool) -> None:
        self.plan: Plan | None = None  # once work begins
        self.seconds: dict[str, float] = {}  # of all processes, by stage of the work
        self._conversations = self._tokens = self._bytes = self._replayed = 0
        self._created = self._begin = time.monotonic()
        # refreshed from `update`, not from a thread: worker processes are forked while it is shown
        self._bar = Progress(
            TextColumn("[bold]{task.description}"),
            BarColumn(bar_width=None),
            TextColumn("{task.percentage:>3.0f}%"),
            TextColumn("[cyan]{task.fields[counts]}"),
            TimeRemainingColumn(),
            console=_Console(stderr=True),
            auto_refresh=False,
            disable=quiet,
        )
        self._task = self._bar.add_task("tokenizing", total=None, counts="")
        self._drawn = 0.0

    def __enter__(self) -> BuildProgress:
        return self

    def begin(self, plan: Plan, left: int) -> None:
        """Show the bar."""
        self.plan = plan
        self._begin = time.monotonic()
        self._bar.update(self._task, total=left)
        with suppress(OSError):
            self._bar.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self.plan is not None:
            self._draw()
            with suppress(OSError):
                self._bar.stop()

    def update(self, step: Step) -> None:
        """Add what a worker reports."""
        if step.note and not self._bar.disable:
            with suppress(OSError):
                self._bar.console.print(f"[dim]{escape(visible(step.note))}")
        self._conversations += step.conversations
        self._tokens += step.tokens
        self._bytes += step.bytes
        self._replayed += step.replayed
        for stage, seconds in step.seconds.items():
            self.seconds[stage] = self.seconds.get(stage, 0.0) + seconds
        if time.monotonic() - self._drawn > 0.1:
            self._draw()

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._created

    @property
    def replayed_share(self) -> float:
        """Of the conversations, those that were rendered without Jinja."""
        return self._replayed / max(self._conversations, 1)

    def _draw(self) -> None:
        seconds = max(time.monotonic() - self._begin, 1e-9)
        counts = (
            f"{self._conversations:,} conversations  {self._tokens / seconds / _MEGA:.2f} M tokens/s  "
            f"{self._bytes / seconds / _MEGA:.1f} MB/s"
        )
        self._bar.update(self._task, completed=self._bytes, counts=counts)
        with suppress(OSError):
            self._bar.refresh()
        self._drawn = time.monotonic()


def show_summary(
    manifest: Manifest,
    folder: Path,
    passed_over: Sequence[PassedOver],
    work: BuildProgress | None = None,
) -> None:
    """The closing table: where every record went, how much is trained, and what the workers' time was spent on."""
    totals = manifest.totals
    table = Table(
        title=escape(visible(str(folder))), title_justify="left", title_style="bold", show_header=False, box=None
    )
    table.add_column(style="dim")
    table.add_column(justify="right", style="bold")
    table.add_column(style="dim")
    share = totals["trained_tokens"] / max(totals["tokens"], 1)
    table.add_row("records", f"{totals['records']:,}")
    table.add_row("conversations", f"{totals['conversations']:,}")
    table.add_row("rows", f"{totals['rows']:,}", f"{manifest.width} wide, {manifest.dtype}")
    table.add_row("tokens", f"{totals['tokens']:,}")
    table.add_row("trained tokens", f"[green]{totals['trained_tokens']:,}", f"{share:.1%}")
    table.add_row("truncated", _warn(totals["truncated"]))
    for kind in REJECT_KINDS:
        table.add_row(kind, _warn(totals[kind]), "listed in rejects.jsonl" if totals[kind] else "")
    for reason in count_reasons(folder / REJECTS):
        where = f"{reason.count:,} × {escape(visible(reason.reason))}"
        table.add_row("", "", f"{where} [dim](first {escape(visible(reason.first))})")
    if passed_over:
        kinds = ", ".join(f"{each.count:,} {escape(visible(each.kind))}" for each in passed_over)
        table.add_row("files not read", _warn(sum(each.count for each in passed_over)), kinds)
    if forged := totals.get("control_text", 0):
        table.add_row(
            "spell control tokens", _warn(forged), _FORGED.get(str(manifest.config.get("control_tokens")), "")
        )
    if silent := totals.get("silent_turns", 0):
        table.add_row("silent turns", _warn(silent), "the template prints nothing of them but their end")
    if unended := totals.get("unended_turns", 0):
        table.add_row("turns without an end", _warn(unended), "the template puts no end-of-turn token behind them")
    if work is not None:
        rate = sum(each.bytes for each in manifest.inputs) / work.elapsed / _MEGA
        table.add_row("time", f"{work.elapsed:.1f} s", f"{rate:.1f} MB/s")
    if work is not None and work.seconds:
        whole = sum(work.seconds.values())
        shares = [
            f"{name} {part / whole:.0%}" for name, part in sorted(work.seconds.items(), key=lambda each: -each[1])
        ]
        table.add_row("time went to", "", ", ".join(shares))
        table.add_row("replayed", f"{work.replayed_share:.1%}", "of the conversations; Jinja rendered the others")
    with suppress(OSError):
        _Console(stderr=True).print(table)


def _warn(count: int) -> str:
    return f"[yellow]{count:,}" if count else "0"
