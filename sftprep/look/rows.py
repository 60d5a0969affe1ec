"""Rows of a dataset as coloured text: what the model reads is dim, what it is trained to write is bright.

Message text is not trusted: whatever could move the cursor, change colours or reorder a line is shown as an escape.
"""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from rich.console import Console
from rich.text import Text

from sftprep.dataset.manifest import load_manifest
from sftprep.views.conversations import RowConversation, check_rows, load_rows
from sftprep.views.pieces import Decode, open_decoder, pieces
from sftprep.visible import is_hostile, visible

# Two shades of each, taken in turns, so that one sees where tokens end; legible on a light and on a dark ground.
PROMPT_STYLES = ("color(245)", "color(241)")
TRAINED_STYLES = ("bold color(34)", "bold color(28)")
HEADER_STYLE = "bold color(67)"
BRACKETS = ("⟦", "⟧")
FIRST_ROWS = 3


def render_rows(
    dataset: Path, rows: Sequence[int], decode: Decode | None = None, *, brackets: bool = False, of: str = "train"
) -> Iterator[Text]:
    """Yield one text per conversation in `rows`, in their order: a header line and the tokens.

    `decode` turns ids into text and keeps special tokens; without it the ids themselves are shown. `brackets` marks
    trained text where there are no colours. of: the set. Raises ConfigError for a row or set that is not there, DatasetError
    for damage.
    """
    for shown in load_rows(dataset, rows, of):
        text = _header(shown)
        text.append_text(render_tokens(shown.ids.tolist(), shown.trained.tolist(), decode, brackets=brackets))
        yield text if text.plain.endswith("\n") else text.append("\n")


def render_tokens(
    ids: Sequence[int], trained: Sequence[bool], decode: Decode | None = None, *, brackets: bool = False
) -> Text:
    """Colour (T,) ids by (T,) `trained`. Tokens that share a character are one, trained if the first of them is."""
    text = Text()
    inside = False
    for number, (start, piece) in enumerate(pieces(ids, decode)):
        if brackets and trained[start] != inside:
            inside = not inside
            text.append(BRACKETS[0] if inside else BRACKETS[1])
        style = (TRAINED_STYLES if trained[start] else PROMPT_STYLES)[number % 2]
        append_visibly(text, piece, style)
    return text.append(BRACKETS[1]) if inside else text


def show_rows(
    folder: Path,
    rows: Sequence[int],
    tokenizer: str | None,
    color: bool | None,
    *,
    force: bool = False,
    of: str = "train",
) -> None:
    """Print rows, the first few unless some are named, to standard output. `color` None: only on a terminal.

    `tokenizer` is a folder or hub name; one that did not build the dataset is used, with a warning, only by `force`. of: the set.
    Raises TokenizerError where it cannot be loaded or is another one, and what `render_rows` raises.
    """
    manifest = load_manifest(folder)
    total = sum(shard.rows for shard in manifest.shards_of(of, folder))
    check_rows(folder, total, rows)
    decode = None if tokenizer is None else _decoder(tokenizer, str(manifest.tokenizer.get("sha256")), force=force)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal without Unicode is no reason to stop
    console = Console(force_terminal=color, no_color=color is False or None)
    plain = console.color_system is None or console.no_color
    for text in render_rows(folder, rows or range(min(FIRST_ROWS, total)), decode, brackets=plain, of=of):
        console.print(text, soft_wrap=True)


def _decoder(name: str, expected_sha256: str, *, force: bool) -> Decode:
    decode, warning = open_decoder(name, expected_sha256, force=force)
    if warning:
        Console(stderr=True).print(visible(warning), style="yellow", markup=False, highlight=False, soft_wrap=True)
    return decode


def _header(shown: RowConversation) -> Text:
    trained, tokens = int(shown.trained.sum()), len(shown.ids)
    parts = [
        f"row {shown.row}",
        shown.shard,
        f"{shown.source}:{shown.line}",
        f"{tokens} tokens" + (" (truncated)" if shown.truncated else ""),
        f"{trained} trained ({trained / tokens:.0%})",
    ]
    if shown.trained_pads:
        parts.append(f"and {shown.trained_pads} pads")
    return Text().append(f"{visible(' · '.join(parts))}\n", HEADER_STYLE)


def append_visibly(text: Text, piece: str, style: str) -> None:
    """Append `piece` so that it cannot harm a terminal and its white space is seen: escapes reversed, newlines marked."""
    if piece.isspace():
        piece = piece.replace(" ", "·")
    for hostile, run in groupby(piece, lambda each: each != "\n" and is_hostile(each)):
        part = "".join(run)
        if hostile:
            text.append(visible(part), f"{style} reverse")
        else:
            text.append(part.replace("\n", "↵\n"), style)
