"""A conversation as the page's script takes it: pieces of text with their ids, and which of them are trained."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Any

import numpy as np

from sftprep.views.conversations import RowConversation
from sftprep.views.pieces import Decode, pieces
from sftprep.visible import is_hostile, visible

MOST_PIECES = 1200  # of a conversation; of a longer one the start and the end are shown
_LAST_PIECES = 400
Piece = tuple[str, list[int] | int, bool]  # text; its ids, or how many tokens it stands for; whether they are trained


def shown_conversation(found: RowConversation, decode: Decode | None, *, text: bool) -> dict[str, Any]:
    """What report.js says of its conversations. text: whether what was said may be shown."""
    shown = _shortened([*_pieces(found, decode)]) if text else [*_runs(found)]
    runs = [(trained, len([*some])) for trained, some in groupby(shown, key=lambda piece: piece[2])]
    lengths = [length for _, length in runs]
    tokens, trained = len(found.ids), int(found.trained.sum())
    return {
        "place": visible(f"{found.source}:{found.line}"),
        "row": found.row,
        "tokens": f"{tokens:,} tokens" + (", truncated" if found.truncated else ""),
        "share": f"{trained / max(tokens, 1):.0%}",
        "pieces": [piece for piece, _, _ in shown],
        "ids": [ids for _, ids, _ in shown],
        "trained": [0, *lengths] if runs and runs[0][0] else lengths,
    }


def _pieces(found: RowConversation, decode: Decode | None) -> Iterator[Piece]:
    ids = found.ids.tolist()
    parts = [*pieces(ids, decode)]
    stops = [start for start, _ in parts[1:]] + [len(ids)]
    for (start, part), stop in zip(parts, stops, strict=False):
        yield _legible(part), ids[start:stop], bool(found.trained[start])


def _shortened(shown: list[Piece]) -> list[Piece]:
    """Start and end of a long conversation, and between them how much is left out."""
    if len(shown) <= MOST_PIECES:
        return shown
    start, middle, end = np.split(np.arange(len(shown)), [MOST_PIECES - _LAST_PIECES, len(shown) - _LAST_PIECES])
    left_out = sum(_count(shown[at][1]) for at in middle.tolist())
    gap: Piece = (f" … {left_out:,} tokens are left out … ", left_out, False)
    return [*(shown[at] for at in start.tolist()), gap, *(shown[at] for at in end.tolist())]


def _count(ids: Sequence[int] | int) -> int:
    return ids if isinstance(ids, int) else len(ids)


def _runs(found: RowConversation) -> Iterator[Piece]:
    """Only how long each stretch is."""
    for trained, run in groupby(found.trained.tolist()):
        length = len([*run])
        yield f"[{length:,} {'trained' if trained else 'other'} tokens] ", length, bool(trained)


def _legible(piece: str) -> str:
    """White space that is seen, and nothing that is not: as on a terminal."""
    if piece.isspace():
        piece = piece.replace(" ", "·")
    parts = (visible(each) if each != "\n" and is_hostile(each) else each for each in piece)
    return "".join(parts).replace("\n", "↵\n")
