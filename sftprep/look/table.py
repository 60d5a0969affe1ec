"""A row of a dataset as a table: a line for each position, with what the model reads there, what it is to write, and the mask."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from rich.cells import cell_len, set_cell_size
from rich.text import Text

from sftprep.look.rows import HEADER_STYLE, PROMPT_STYLES, TRAINED_STYLES, header, isolated
from sftprep.views.conversations import RowConversation
from sftprep.views.pieces import Decode, spelled
from sftprep.visible import visible

_WIDEST, _NARROWEST = 28, 6  # cells of a column of text
_NAMES = ("position", "id", "token", "→ id", "target", "mask")
_BLANK = re.compile("⟨[0-9a-f ]+⟩| ")  # blanks inside of bytes are none


def render_table(shown: RowConversation, decode: Decode | None = None, *, only_trained: bool = False) -> Text:
    """A header line, the names of the columns, and a line for each (X, Y) pair. only_trained: leave the others out."""
    ids, targets = shown.ids.tolist(), shown.targets.tolist()
    texts = [""] * len(ids) if decode is None else list(map(cell_of, spelled(ids, decode)))
    width = min(max(map(cell_len, texts), default=0), _WIDEST)
    widths = [8, max(5, len(str(max(ids, default=0)))), max(width, _NARROWEST)]
    widths = [*widths, *widths[1:], 4]
    text = header(shown)
    text.append(_line(_NAMES, widths, with_text=decode is not None), HEADER_STYLE)
    for at in range(len(ids) - 1):
        weight = targets[at + 1]
        if weight or not only_trained:
            cells = (str(shown.start + at), str(ids[at]), texts[at], str(ids[at + 1]), texts[at + 1], f"{weight:g}")
            style = (TRAINED_STYLES if weight else PROMPT_STYLES)[at % 2]
            text.append(_line(cells, widths, with_text=decode is not None), style)
    return text


def _line(cells: Sequence[str], widths: Sequence[int], *, with_text: bool) -> str:
    """Numbers to the right, text to the left; a line's end."""
    right = (0, 1, 3, 5)
    shown = [
        " " * (width - cell_len(cell)) + cell if number in right else _fitted(cell, width)
        for number, (cell, width) in enumerate(zip(cells, widths, strict=True))
        if with_text or number in right
    ]
    return "  ".join(shown).rstrip(" ") + "\n"


def _fitted(cell: str, width: int) -> str:
    """A cell of exactly so many columns; what runs from right to left stays inside of it."""
    cut = cell if cell_len(cell) <= width else set_cell_size(cell, width - 1).rstrip(" ") + "…"
    return isolated(cut) + " " * (width - cell_len(cut))


def cell_of(token: tuple[str, bytes | None]) -> str:
    """The text of a token in one line, every character seen: ↵ ends a line, · is a blank, ⟨e2 98⟩ are bytes."""
    text, data = token
    said = _BLANK.sub(lambda found: "·" if found[0] == " " else found[0], visible(text.replace("\n", "↵")))
    if said and (unicodedata.category(said[0]) in ("Mn", "Me", "Mc", "Cf")):  # it would join what stands before it
        said = f"◌{said}"
    own = [] if data is None else [f"⟨{data.hex(' ')}⟩" if data else "⟨…⟩"]
    return " ".join([*filter(None, [said]), *own])
