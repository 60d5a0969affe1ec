"""What `sftprep diff` shows: what is stated differently, how many conversations differ and how, and the first ones in colour."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from sftprep.compare.findings import Change, Comparison, Difference, Kind, Side
from sftprep.dataset.manifest import Manifest, load_manifest
from sftprep.errors import TokenizerError
from sftprep.look.rows import BRACKETS, HEADER_STYLE, PROMPT_STYLES, TRAINED_STYLES, append_visibly
from sftprep.views.pieces import Decode, find_decoder, open_decoder, pieces
from sftprep.visible import visible
from sftprep.watch.log import say
from sftprep.watch.stated import as_json_line

_DIFFERS = {"A": "bold black on color(216)", "B": "bold black on color(117)"}
_ARROWS = ("»", "«")  # around what differs, where there are no colours
_MOST_CHANGES = 12  # of options or totals, that are shown
_LONGEST = 40  # characters of a value


def show_comparison(comparison: Comparison, folders: Sequence[Path], tokenizer: str | None, color: bool | None) -> None:
    """Print what a comparison found. folders: of the datasets. tokenizer: that gives the ids their text; where none is
    given, the one that a dataset was built with, if it still lies where it lay. color: None is on a terminal only. Raises
    TokenizerError for one that belongs to no side."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without Unicode is no reason to stop
    console = Console(force_terminal=color, no_color=color is False or None, highlight=False)
    plain = console.color_system is None or console.no_color
    console.print(Text.assemble(("A  ", _DIFFERS["A"]), visible(comparison.a)), soft_wrap=True)
    console.print(Text.assemble(("B  ", _DIFFERS["B"]), visible(comparison.b)), soft_wrap=True)
    for what, changes in (("options", comparison.options), ("totals", comparison.totals)):
        if changes:
            console.print(_changes(what, changes))
    for note in comparison.notes:
        console.print(Text(visible(note), "dim"), soft_wrap=True)
    console.print(_counts(comparison))
    decoders = _decoders(folders, tokenizer) if comparison.kinds else []
    for kind in comparison.kinds:
        for difference in kind.examples:
            console.print(_difference(kind, difference, decoders, plain=plain), soft_wrap=True)


def show_comparison_as_json(comparison: Comparison) -> None:
    """Print it as one JSON object."""
    click.echo(as_json_line({**asdict(comparison), "differs": comparison.differs}))


def _changes(what: str, changes: Sequence[Change]) -> Table:
    table = _table(f"{what} that differ")
    table.add_row("", "[bold]A", "[bold]B")
    for each in changes[:_MOST_CHANGES]:
        table.add_row(visible(each.name), *(Text(_value(value), "bold") for value in (each.a, each.b)))
    if len(changes) > _MOST_CHANGES:
        table.add_row(f"{len(changes) - _MOST_CHANGES} more", "", "--json shows all")
    return table


def _value(value: Any) -> str:
    if value is None:
        return "-"
    text = f"{value:,}" if type(value) is int else visible(str(value))
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _counts(comparison: Comparison) -> Table:
    table = _table("conversations")
    table.add_row("compared", f"{comparison.conversations:,}")
    table.add_row("the same", f"[green]{comparison.equal:,}")
    for kind in comparison.kinds:
        count = f"{kind.count:,}" if kind.meant else f"[yellow]{kind.count:,}"
        tokens = f"; {kind.tokens:,} tokens" if kind.tokens else ""
        table.add_row("as promised" if kind.meant else "different", count, f"{kind.what}{tokens}")
    return table


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left", title_style="bold", show_header=False, box=None)
    table.add_column(style="dim")
    table.add_column(justify="right", style="bold")
    table.add_column()
    return table


def _difference(kind: Kind, difference: Difference, decoders: Sequence[Decode | None], *, plain: bool) -> Text:
    where = "" if difference.at is None else f" · first at token {difference.at}"
    text = Text(f"── {kind.what}{where} ──\n", HEADER_STYLE)
    for number, (name, side) in enumerate((("A", difference.a), ("B", difference.b))):
        if side is not None:
            text.append_text(_side(name, side, decoders[min(number, len(decoders) - 1)], plain=plain))
    return text


def _side(name: str, side: Side, decode: Decode | None, *, plain: bool) -> Text:
    row = "" if side.row is None else f" · {side.set} row {side.row}"
    cut = " (truncated)" if side.truncated else ""
    trained = "" if side.trained_tokens is None else f", {side.trained_tokens:,} trained"
    facts = f"{side.place}{row} · {side.tokens:,} tokens{cut}{trained}"
    text = Text.assemble((f"{name} ", _DIFFERS[name]), (f" {visible(facts)}\n", HEADER_STYLE))
    text.append("… " if side.first else "")
    state = (False, False)  # trained, differs
    for number, (start, piece) in enumerate(pieces(side.ids, decode)):
        now = side.trained[start], side.differs[start]
        if plain:
            text.append(_marks(state, now))
            state = now
        style = _DIFFERS[name] if now[1] else (TRAINED_STYLES if now[0] else PROMPT_STYLES)[number % 2]
        append_visibly(text, piece.replace(" ", "·") if piece.isspace() else piece, style)
    if plain:
        text.append(_marks(state, (False, False)))
    if side.first + len(side.ids) < side.tokens:
        text.append(" …")
    return text if text.plain.endswith("\n") else text.append("\n")


def _marks(before: tuple[bool, bool], now: tuple[bool, bool]) -> str:
    """What stands between two tokens where there are no colours: trained is between brackets, what differs between arrows."""
    closed = _ARROWS[1] * (before[1] and not now[1]) + BRACKETS[1] * (before[0] and not now[0])
    return closed + BRACKETS[0] * (now[0] and not before[0]) + _ARROWS[0] * (now[1] and not before[1])


def _decoders(folders: Sequence[Path], given: str | None) -> list[Decode | None]:
    """What turns the ids of each side into text; None where no tokenizer is found that made them."""
    found: list[Decode | None] = []
    why: list[str | None] = []
    for manifest in map(load_manifest, folders):
        decode, word = find_decoder(manifest) if given is None else _given_decoder(given, manifest)
        found.append(decode)
        why.append(word)
    if given is not None and not any(found):
        raise TokenizerError(why[0])
    if not all(found) and given is None:
        say(next(filter(None, why)), level=logging.WARNING)
    return found


def _given_decoder(name: str, manifest: Manifest) -> tuple[Decode | None, str | None]:
    """As `find_decoder`, with a tokenizer that may be of the other side. Raises TokenizerError where it cannot be loaded."""
    decode, other = open_decoder(name, str(manifest.tokenizer.get("sha256")), force=True)
    return (None, f"{name}: no dataset here was built with this tokenizer") if other else (decode, None)
