"""What a dataset holds, in numbers: a page on the terminal, or an object for machines."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from sftprep.dataset.manifest import Manifest, load_manifest
from sftprep.statistics.distribution import PERCENTS, Bin, Distribution
from sftprep.statistics.gather import statistics_of
from sftprep.statistics.measures import Advice, DatasetStatistics, Measures
from sftprep.statistics.plain import as_plain
from sftprep.visible import visible
from sftprep.watch.stated import as_json_line, stated
from sftprep.watch.summary import show_unread, summary_table

_BAR = 32  # characters of the longest bar
_AS_IT_IS, _UNITS = 10_000, ("", "k", "M", "G", "T")
_MOST_PARTS = 20  # sources or groups in a table
_PARTS = ("number", "tokens", "trained", "median", "99%", "cut off", "dropped", "rejected")
_NAMES = {"min": "min", "p50": "median", "max": "max"}  # of quantiles; others are percents


def show_stats(folder: Path, *, as_json: bool) -> None:
    """Print the numbers of a dataset. Raises DatasetError where it is none, or damaged."""
    manifest = load_manifest(folder)
    errors = Console(stderr=True)
    with Progress(console=errors, disable=not errors.is_terminal, transient=True) as progress:
        task = progress.add_task("counting", total=len(manifest.shards))
        found = statistics_of(folder, lambda shards: progress.advance(task, shards))
    if as_json:
        click.echo(as_json_line(for_machines(manifest, found)))
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without Unicode is no reason to stop
    console = Console(highlight=False)
    console.print(summary_table(manifest, str(folder), found.whole.lost))
    _show_lengths(console, manifest, found)
    if len(found.sources) > 1:
        _show_parts(console, "file", found.sources)
    if found.by is not None:
        _show_parts(console, visible(found.by), found.groups)
    show_unread(manifest, console)
    _show_advice(console, found.advice)


def for_machines(manifest: Manifest, found: DatasetStatistics) -> dict[str, object]:
    """What `--json` states: as of a build, and all that is counted."""
    counted = as_plain(found)
    sets = {name: {**held, **counted["sets"][name]} for name, held in manifest.sets.items()}
    return {**stated(manifest, found.whole.lost), **counted, "sets": sets}


def _show_lengths(console: Console, manifest: Manifest, found: DatasetStatistics) -> None:
    """Quantiles of lengths and turns; bars of lengths, what is longer than a row apart; how full the rows are."""
    lengths, longest = found.whole.lengths, manifest.config.get("max_length")
    quantiles = Table(box=None, padding=(0, 0, 0, 2), pad_edge=False, header_style="dim")
    quantiles.add_column()
    for name in PERCENTS:
        quantiles.add_column(_NAMES.get(name, f"{name[1:]}%"), justify="right", no_wrap=True)
    quantiles.add_column("mean", justify="right", no_wrap=True)
    for name, each in (("tokens", lengths), ("turns", found.whole.turns)):
        quantiles.add_row(
            Text(name, "bold"), *(f"{value:,}" for value in each.quantiles().values()), f"{each.mean:,.1f}"
        )
    console.print("\n[dim]of a conversation, before any tokens are cut off; turns are the assistant's[/]")
    console.print(quantiles)
    console.print()
    console.print(_bars(Distribution.joined([lengths, found.too_long]), longest, ascii_only=console.options.ascii_only))
    if found.whole.truncated or found.too_long.count:
        cut_off = f"more than {longest:,}: {found.whole.truncated:,} cut off, {found.too_long.count:,} dropped"
        console.print(Text(cut_off, "yellow"))
    padding = found.padding
    packed = f"; packed, about {padding.packed_rows:,} would do" if padding.packed_rows is not None else ""
    rows = f"  {padding.rows:,}, {padding.share:.1%} of their places are padding{packed}"
    console.print(Text.assemble("\n", ("rows", "bold"), rows))


def _bars(lengths: Distribution, longest: object, *, ascii_only: bool) -> Table:
    """A bar for each power of two; what is longer than a row in another colour."""
    table = Table.grid(padding=(0, 1))
    for right in (True, False, True, False, True, True):
        table.add_column(justify="right" if right else "left", no_wrap=True)
    bins, full = lengths.histogram(), "#" if ascii_only else "█"
    highest = max((each.count for each in bins), default=1)
    for each in bins:
        cut = _behind(each, lengths, longest) if type(longest) is int else 0
        bar = Text(full * round(_BAR * (each.count - cut) / highest), "green")
        bar.append(full * (round(_BAR * each.count / highest) - len(bar)), "yellow")
        ends = (Text(f"{each.start:,}", "dim"), Text("to", "dim"), Text(f"{each.stop:,}", "dim"))
        table.add_row(*ends, bar, f"{each.count:,}", Text(f"{each.count / lengths.count:.1%}", "dim"))
    return table


def _behind(each: Bin, lengths: Distribution, longest: int) -> int:
    """How many lengths of a bin are above the limit."""
    return lengths.above(max(each.start - 1, min(longest, each.stop))) - lengths.above(each.stop)


def _show_parts(console: Console, what: str, parts: Mapping[str, Measures]) -> None:
    """A line for each of the largest, and one for all others."""
    table = Table(box=None, padding=(0, 0, 0, 1), pad_edge=False, header_style="dim")
    table.add_column(Text(f"by {what}", "bold"), overflow="fold")
    for name in _PARTS:
        table.add_column(name, justify="right", no_wrap=True, min_width=len(name))
    for name, part in islice(parts.items(), _MOST_PARTS):
        table.add_row(Text(visible(name) or "(none)"), *_part(part))
    if rest := list(islice(parts.values(), _MOST_PARTS, None)):
        table.add_row(Text(f"{len(rest):,} more", "dim"), *_part(Measures.joined(rest)))
    console.print()
    console.print(table)


def _show_advice(console: Console, advice: Iterable[Advice]) -> None:
    table = Table.grid(padding=(0, 1))
    for each in advice:
        said = Text(f"{visible(each.what)}. ").append(visible(each.option), "bold")
        table.add_row(Text("!", "bold yellow"), said)
    if table.rows:
        console.print()
        console.print(table)


def _part(part: Measures) -> tuple[Text, ...]:
    lost = [part.truncated, part.lost_as("dropped"), part.lost_as("rejected", "duplicate")]
    known = [
        _short(part.conversations),
        _short(part.tokens),
        f"{part.trained_share:.1%}",
        f"{part.lengths.quantile(50):,}",
        f"{part.lengths.quantile(99):,}",
    ]
    return (*map(Text, known), *(Text(f"{count:,}", "yellow" if count else "dim") for count in lost))


def _short(count: int) -> str:
    """A number below 10,000 as it is, of others three digits."""
    if count < _AS_IT_IS:
        return f"{count:,}"
    size = float(f"{count:.3g}")  # rounded before it gets its unit: 999,999 is 1M
    unit = max(0, len(f"{size:.0f}") - 1) // 3
    return f"{size / 1000**unit:.3g}{_UNITS[unit]}" if unit < len(_UNITS) else f"{count:.2e}"
