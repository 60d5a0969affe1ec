"""What `sftprep inspect` shows: conversations of a dataset, or those that a build would make; and why one target is trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from sftprep.dataset.manifest import Manifest
from sftprep.errors import ConfigError, InputError, SftprepError, TokenizerError
from sftprep.look.pager import Screen, note
from sftprep.look.rows import BRACKETS, PROMPT_STYLES, TRAINED_STYLES, header, isolated, render_row
from sftprep.look.table import cell_of, render_table
from sftprep.stores.places import remembered_places
from sftprep.views.choosing import Choice, checked, choose, why_none
from sftprep.views.conversations import OpenSet, RowConversation
from sftprep.views.pieces import find_decoder, open_decoder, spelled
from sftprep.views.spelling import Spelling
from sftprep.visible import visible

if TYPE_CHECKING:
    from sftprep.config import BuildConfig
    from sftprep.remaking.reasons import Reasons

_MOST_REJECTS = 5  # that are shown


@dataclass(frozen=True, slots=True)
class Manner:
    """How conversations are shown."""

    tokenizer: str | None = None  # folder or hub name; None: where the dataset was built, if it is still there
    force: bool = False  # use another tokenizer than the dataset was built with
    color: bool | None = None  # None: only on a terminal
    pager: bool = True
    table: bool = False
    only_trained: bool = False
    as_json: bool = False
    legend: bool = False  # always, not only where somebody looks on


def show_rows(folder: Path, choice: Choice, manner: Manner, of: str = "train") -> None:
    """Print conversations of a dataset to standard output. of: the set.

    Raises TokenizerError where the tokenizer cannot be loaded or is another one, ConfigError for a row, set or file that is not
    there, DatasetError for damage.
    """
    opened = OpenSet(folder, of)
    choice = checked(opened, choice)
    if choice.grep is None:  # what is chosen is known before a tokenizer is loaded
        chosen = choose(opened, choice)
        chosen = chain(islice(chosen, 1), chosen)
        decode = _decoder(manner, opened.manifest)
    else:
        decode = _decoder(manner, opened.manifest)
        chosen = choose(opened, choice, decode)
    shown = show_conversations(chosen, manner, decode)
    if not shown and (choice.is_search or choice.rows):
        note(why_none(opened, choice), "yellow")
    elif choice.most is not None and choice.is_search and shown == choice.most:
        note(f"{shown:,} shown, the first of them; --limit N shows more")


def show_conversations(chosen: Iterable[RowConversation], manner: Manner, decode: Spelling | None) -> int:
    """Print conversations; says how many there were."""
    if manner.as_json:
        count = 0
        for each in chosen:
            click.echo(_as_json(each, decode))
            count += 1
        return count
    screen = Screen(manner.color, pager=manner.pager)
    texts, legend = (_text(each, manner, decode, screen) for each in chosen), _legend(manner, plain=screen.plain)
    return screen.show(texts, legend, always=manner.legend)


def _text(shown: RowConversation, manner: Manner, decode: Spelling | None, screen: Screen) -> Text:
    if manner.table:
        return render_table(shown, decode, only_trained=manner.only_trained)
    return render_row(shown, decode, brackets=screen.plain, only_trained=manner.only_trained)


def _legend(manner: Manner, *, plain: bool) -> Text:
    """What is meant by colours and marks."""
    if manner.table:
        said = "position counts in the row · mask 1: the target is trained · ↵ line's end · a dot in the middle: a blank · ⟨e2 98⟩ bytes of a character"
        return Text(f"{said}\n", "dim")
    read, trained = ("plain", f"{BRACKETS[0]}in brackets{BRACKETS[1]}") if plain else ("dim", "bright")
    text = Text.assemble(
        (read, PROMPT_STYLES[0]), (" is read, ", "dim"), (trained, TRAINED_STYLES[0]), (" is trained", "dim")
    )
    shades = "" if plain else ", in two shades to tell tokens apart"
    return text.append(
        f"{shades} · ↵ line's end · a dot in the middle: a blank · \\x1b, reversed, what a terminal would obey\n", "dim"
    )


def _as_json(shown: RowConversation, decode: Spelling | None) -> str:
    """One line of JSON."""
    facts: dict[str, Any] = {
        "row": _row(shown),
        "start": shown.start,
        "source": shown.source,
        "line": shown.line,
        "truncated": shown.truncated,
        "ids": shown.ids.tolist(),
        "mask": (shown.trained.astype(int) if shown.weights is None else shown.weights).tolist(),
    }
    return json.dumps(facts if decode is None else facts | {"text": decode(facts["ids"])})


def _row(shown: RowConversation) -> int | None:
    """None where it was not counted."""
    return shown.row if shown.row >= 0 else None


def _decoder(manner: Manner, manifest: Manifest) -> Spelling | None:
    if manner.tokenizer is None:
        decode, word = find_decoder(manifest)
        if word:
            note(word)
        return decode
    decode, warning = open_decoder(manner.tokenizer, str(manifest.tokenizer.get("sha256")), force=manner.force)
    if warning:
        note(warning, "yellow")
    return decode


# --- one position -------------------------------------------------------------------------------------------------
def show_position(
    folder: Path, choice: Choice, position: int, inputs: tuple[str, ...], manner: Manner, of: str
) -> None:
    """Print what stands at a position of a row, and why its target is trained or not. inputs: where they lie now; none: where
    they lay. Raises as `show_rows`, and ConfigError for a position that is not there."""
    opened = OpenSet(folder, of)
    shown, at = _at(list(choose(opened, choice)), position)
    decode = _decoder(manner, opened.manifest)
    _show_position(shown, at, decode, manner, _asked(opened, shown, inputs, manner))


def _asked(opened: OpenSet, shown: RowConversation, inputs: tuple[str, ...], manner: Manner) -> Callable[[], Reasons]:
    """What tells why, once it is asked."""

    def reasons() -> Reasons:
        from sftprep.remaking.maker import maker_of, record_of
        from sftprep.remaking.reasons import Reasons

        manifest = opened.manifest
        tokenizer = manner.tokenizer or remembered_places(manifest.fingerprint).get("tokenizer")
        if tokenizer is None:
            raise ConfigError("where the tokenizer lies is not known on this machine; -t NAME says it")
        try:
            maker = maker_of(manifest, opened.folder, tokenizer, inputs)
        except (InputError, TokenizerError) as error:
            option = "--input FILE" if isinstance(error, InputError) else "-t NAME"
            raise InputError(f"{error}; {option} says where it lies now") from error
        home = next((each.set for each in manifest.inputs if each.name == shown.source), "train")
        return Reasons(maker, shown, record_of(maker, shown), home)

    return reasons


def _at(chosen: list[RowConversation], position: int) -> tuple[RowConversation, int]:
    """The conversation that has a position, or the last one before it; and the position from the start. Raises ConfigError."""
    if len({each.row for each in chosen}) != 1 or (chosen[0].row < 0 and len(chosen) > 1):
        raise ConfigError("--at is a position of one row: name one")
    width = chosen[0].width
    if not -width <= position < width:
        cut = ", and its conversation was cut there" if chosen[-1].truncated else ""
        raise ConfigError(f"--at {position}: the row has positions 0 to {width - 1}{cut}")
    at = position % width
    return [each for each in chosen if each.start <= at or each is chosen[0]][-1], at


def _show_position(
    shown: RowConversation, at: int, decode: Spelling | None, manner: Manner, reasons: Callable[[], Reasons]
) -> None:
    x, y, mask = (each[at].item() for each in shown.pairs)
    facts: dict[str, Any] = {"row": _row(shown), "position": at, "source": shown.source, "line": shown.line}
    facts |= {"x": x, "y": y, "mask": float(mask)}
    if shown.truncated and at == shown.stop - 1:
        facts["cut_off"] = shown.tokens_in_all - len(shown.ids)
    doubt = None
    try:
        if not shown.start <= at < shown.stop:
            pads = "padding: no conversation is here"
            facts |= {
                "rule": "padding",
                "why": f"{pads}, and yet it is trained, as the mask scans rows" if mask else pads,
            }
        else:
            why = reasons().of(at)
            facts |= {"message": why.message, "role": why.role, "rule": why.rule, "why": why.words}
            doubt = None if why.agrees else "the row's mask says otherwise: please report it"
    except SftprepError as error:
        doubt = f"the row alone does not say why: {error}"
    if manner.as_json:
        click.echo(json.dumps(facts | {"doubt": doubt}))
        return
    screen = Screen(manner.color, pager=False)
    screen.show([header(shown).append_text(_facts(facts, _cells(shown, at, decode), doubt))])


def _cells(shown: RowConversation, at: int, decode: Spelling | None) -> tuple[str, str]:
    """The text of the token at a position, and of its target."""
    if decode is None:
        return "", ""
    if shown.start <= at < shown.stop:
        cells = list(map(cell_of, spelled(shown.ids.tolist(), decode)))[at - shown.start :][:2]
        return cells[0], cells[1]
    x, y = (cell_of((decode([each[at].item()]), None)) for each in shown.pairs[:2])
    return x, y


def _facts(facts: dict[str, Any], cells: tuple[str, str], doubt: str | None) -> Text:
    """A line for each fact."""
    weight = facts["mask"]
    message = facts.get("message")
    lines = {
        "position": str(facts["position"]),
        "token (X)": f"{facts['x']}  {isolated(cells[0])}",
        "target (Y)": f"{facts['y']}  {isolated(cells[1])}",
        "trained": "no" if not weight else "yes" if weight == 1 else f"yes, with weight {weight:g}",
        "message": "" if message is None else f"{message}, of the {facts['role']} (counted from 0)",
        "why": visible(facts.get("why", "")),
        "cut": f"{facts['cut_off']:,} more tokens of it are not in the row" if "cut_off" in facts else "",
        "but" if "why" in facts else "why not": visible(doubt or ""),
    }
    text = Text()
    for name, value in lines.items():
        if value:
            style = (TRAINED_STYLES if weight else PROMPT_STYLES)[0] if name == "target (Y)" else ""
            text.append(f"{name:<12}", "dim").append(f"{value}\n", "yellow" if value == visible(doubt or "") else style)
    return text


# --- before a build -----------------------------------------------------------------------------------------------
def preview_rows(config: BuildConfig, choice: Choice, position: int | None, manner: Manner) -> None:
    """Print the rows that a build with these options would write. Reads inputs as far as needed, and writes nothing.

    position: print why the target there is trained or not, instead. Raises SftprepError of every kind.
    """
    from sftprep.containers.files import find_sources
    from sftprep.remaking.preview import Preview

    preview = Preview(config, find_sources(config.inputs).sources)
    decode = Spelling(preview.maker.toolbox.resolved)
    if position is None:
        show_conversations(preview.rows(choice, decode), manner, decode)
    else:
        chosen = list(preview.rows(choice, decode))
        if chosen:
            shown, at = _at(chosen, position)
            _show_position(shown, at, decode, manner, lambda: preview.reasons(shown))
    for reject in preview.rejects[:_MOST_REJECTS]:
        note(f"{preview.where(reject)} gives no row: {reject.kind}: {reject.reason}", "yellow")
    if len(preview.rejects) > _MOST_REJECTS:
        note(f"and {len(preview.rejects) - _MOST_REJECTS:,} more records give none", "yellow")
