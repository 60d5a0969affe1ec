"""The closing table: how much there is, how much of it is trained, and where the other records went."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from sftprep.containers.files import PassedOver
from sftprep.dataset.manifest import REJECTS, Manifest, form_of
from sftprep.dataset.receipt import REJECT_KINDS
from sftprep.dataset.rejects import ReasonCount, count_reasons
from sftprep.statistics.advice import LEFT_OUT
from sftprep.visible import visible
from sftprep.watch.log import say, says_json
from sftprep.watch.progress import BuildProgress
from sftprep.watch.stated import stated
from sftprep.watch.steps import MEGA, QuietConsole

_FORGED = {
    "split": "in message text, kept as plain text",
    "reject": "in message text, and are rejected for it",
    "allow": "in message text, which become control tokens",
}
_IN_NO_SHARD = {
    "rejected": "records that cannot be used",
    "dropped": "records of which nothing would be trained",
    "duplicate": "records that say the same as another one",
}

_CUT = {  # what a conversation that is longer than a row has lost, by `--overflow`
    "truncate": "longer than a row, and cut off at its end",
    "turns": "longer than a row, and cut off behind its last whole turn",
    "split": "pieces of conversations of which a turn is too long for any",
}


def show_summary(
    manifest: Manifest,
    folder: Path,
    passed_over: Sequence[PassedOver],
    work: BuildProgress | None = None,
    *,
    verbose: bool = False,
    hint: bool = True,
) -> None:
    """Show the closing table of a job. verbose: counts that are zero, where the time went and the keys that were not read,
    too. hint: and the command to type next."""
    reasons = count_reasons(folder / REJECTS)
    if says_json():
        totals = manifest.totals
        done = f"{folder}: {totals['conversations']:,} conversations, {totals['tokens']:,} tokens"
        say(done, "summary", stated(manifest, reasons, work))
        return
    console = QuietConsole(stderr=True)
    with suppress(OSError):
        console.print(summary_table(manifest, str(folder), reasons, passed_over, work, verbose=verbose))
        if verbose:
            show_unread(manifest, console)
        if hint:
            command = f"sftprep inspect {shlex.quote(visible(str(folder)))}"
            console.print(Text.assemble(("next: ", "dim"), command), soft_wrap=True)


def summary_table(
    manifest: Manifest,
    title: str,
    reasons: Sequence[ReasonCount],
    passed_over: Sequence[PassedOver] = (),
    work: BuildProgress | None = None,
    *,
    verbose: bool = False,
) -> Table:
    """How much there is and how much of it is trained; where the other records went, and what to beware of, where there is
    something to say of it; how long it took, if that is known. verbose: what is zero, and where the time went."""
    totals = manifest.totals
    table = Table(title=escape(visible(title)), title_justify="left", title_style="bold", show_header=False, box=None)
    table.add_column(style="dim")
    table.add_column(justify="right", style="bold")
    table.add_column(style="dim")
    share = totals["trained_tokens"] / max(totals["tokens"], 1)
    table.add_row("conversations", f"{totals['conversations']:,}", f"of {totals['records']:,} records")
    table.add_row("tokens", f"{totals['tokens']:,}")
    table.add_row("trained tokens", f"[green]{totals['trained_tokens']:,}", f"{share:.1%}")
    table.add_row("rows", f"{totals['rows']:,}", f"{form_of(manifest)}, {manifest.dtype}")
    if totals["truncated"] or verbose:
        table.add_row("truncated", _warn(totals["truncated"]), _CUT.get(str(manifest.config.get("overflow")), ""))
    _sets(table, manifest)
    _left_out(table, manifest, reasons, verbose=verbose)
    if passed_over:
        kinds = ", ".join(f"{each.count:,} {escape(visible(each.kind))}" for each in passed_over)
        table.add_row("files not read", _warn(sum(each.count for each in passed_over)), kinds)
    _beware(table, manifest)
    _contexts(table, totals, manifest.config)
    if work is not None:
        seconds = work.elapsed
        rates = f"{work.bytes / seconds / MEGA:.1f} MB/s, {work.tokens / seconds / MEGA:.2f} M tokens/s"
        table.add_row("time", f"{seconds:.1f} s", rates if work.bytes >= MEGA else "")
    if work is not None and work.seconds and verbose:
        whole = sum(work.seconds.values())
        shares = sorted(work.seconds.items(), key=lambda each: -each[1])
        table.add_row("time went to", "", ", ".join(f"{name} {part / whole:.0%}" for name, part in shares))
        replayed = "of the conversations; for the others the template was run"
        table.add_row("rendered fast", f"{work.replayed_share:.1%}", replayed)
    return table


def _left_out(table: Table, manifest: Manifest, reasons: Sequence[ReasonCount], *, verbose: bool) -> None:
    """Records that are in no shard, and why."""
    for kind, name in REJECT_KINDS.items():
        count = manifest.totals.get(name, 0)
        if count or (verbose and name != "duplicates"):
            listed = f"; listed in {REJECTS}" if count and manifest.files else ""
            table.add_row(name, _warn(count), f"{_IN_NO_SHARD[kind]}{listed}")
    for reason in reasons:
        where = f"{reason.count:,} × {escape(visible(reason.reason))}"
        table.add_row("", "", f"{where} [dim](first {escape(visible(reason.first))})")


def _beware(table: Table, manifest: Manifest) -> None:
    """What a user may not expect of the conversations that are there."""
    totals = manifest.totals
    if forged := totals.get("control_text", 0):
        what = _FORGED.get(str(manifest.config.get("control_tokens")), "")
        table.add_row("spell control tokens", _warn(forged), what)
    if adapted := totals.get("adapted", 0):
        what = "tool arguments decoded, missing content filled in, parts joined or made, as the template wants them"
        table.add_row("adapted", _warn(adapted), what)
    if empty := totals.get("empty_turns", 0):
        table.add_row("empty turns", _warn(empty), "the template prints nothing that they say; not trained")
    for kind, what in LEFT_OUT.items():
        left_out = totals.get(f"unprinted_{kind}", 0)
        if kind == "reasoning":
            left_out -= totals.get("dropped_reasoning", 0)
        if left_out > 0:
            table.add_row("left out", _warn(left_out), what)
    if unended := totals.get("unended_turns", 0):
        table.add_row("turns without an end", _warn(unended), "the template puts no end-of-turn token behind them")


def show_unread(manifest: Manifest, console: Console) -> None:
    """Show the keys that were not read, if there are any."""
    for what, counts in (
        ("keys of records, ignored", manifest.ignored_keys),
        ("keys of messages, passed on to the template", manifest.message_keys),
    ):
        if counts:
            ordered = sorted(counts.items(), key=lambda each: (-each[1], each[0]))
            named = ", ".join(f"{escape(visible(name))} [bold]{count:,}[/]" for name, count in ordered)
            console.print(f"[dim]{what}:[/] {named}", highlight=False, soft_wrap=True)


def _sets(table: Table, manifest: Manifest) -> None:
    """What each set holds, where there are several, and whether they have conversations in common."""
    if len(manifest.sets) < 2:
        return
    for name, held in manifest.sets.items():
        what = f"conversations, {held['rows']:,} rows, {held['tokens']:,} tokens, {held['trained_tokens']:,} of them trained"
        if not held["rows"]:
            share = manifest.config.get("validation")
            what = "conversations: none of its records gives a row"
            if share:
                what = (
                    f"of {escape(visible(str(share)))} there is no conversation; try a larger share, or another --seed"
                )
        table.add_row(f"{name} set", f"{held['conversations']:,}" if held["rows"] else "[yellow]0", what)
    if near := manifest.totals.get("near_copies", 0):
        what = "of the training set are in the validation set too, but for white space and case: take them out of the inputs"
        if any(each.set == "validation" for each in manifest.inputs) and not manifest.config.get("deduplicate"):
            what += "; --deduplicate drops the exact ones"
        table.add_row("near-copies", _warn(near), what)


def _contexts(table: Table, totals: Mapping[str, int], config: Mapping[str, Any]) -> None:
    """What is trained in another context than a model is asked in."""
    if totals.get("examples", 0) > totals["conversations"]:
        served, split = config.get("contexts") == "served", config.get("overflow") == "split"
        why = ["as many as it takes to serve each turn"] * served + [
            "pieces of those that are longer than a row"
        ] * split
        table.add_row("examples", f"{totals['examples']:,}", f"of the conversations: {'; '.join(why)}")
    if dropped := totals.get("dropped_examples", 0):
        table.add_row("examples dropped", _warn(dropped), "longer than a row, so that nothing of the answer is left")
    if other := totals.get("other_context", 0):
        what = "--contexts served trains them behind just what a server shows"
        if config.get("contexts") == "served":
            what = "the template asks for an answer by a prompt that they are no answers to"
        table.add_row("turns in another context", _warn(other), f"than they are asked for in; {what}")
    if dropped := totals.get("dropped_reasoning", 0):
        what = "of earlier turns, by this template; --contexts served keeps it"
        table.add_row("reasoning dropped", _warn(dropped), what)
    if unknown := totals.get("unknown_context", 0):
        table.add_row("context not known", _warn(unknown), "of turns of long conversations: it takes too long to look")


def _warn(count: int) -> str:
    return f"[yellow]{count:,}" if count else "0"
