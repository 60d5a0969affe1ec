"""Rows of a dataset as coloured text: what the model reads is dim, what it is trained to write is bright.

Message text is not trusted: whatever could move the cursor, change colours or reorder a line is shown as an escape. What runs
from right to left is isolated, line by line and apart from control tokens, so that it reorders nothing around it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import NamedTuple

from rich.text import Text

from sftprep.views.conversations import RowConversation
from sftprep.views.pieces import Decode, pieces
from sftprep.views.spelling import Spelling
from sftprep.visible import is_hostile, visible

# Two shades of each, taken in turns, so that one sees where tokens end; legible on a light and on a dark ground.
PROMPT_STYLES = ("color(245)", "color(241)")
TRAINED_STYLES = ("bold color(34)", "bold color(28)")
HEADER_STYLE = "bold color(67)"
BRACKETS = ("⟦", "⟧")
LEFT_OUT = " ⋯\n"  # in place of what is not trained
_RIGHT_TO_LEFT = re.compile("[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001efff]")
_ISOLATE = ("\u2068", "\u2069")


class _Part(NamedTuple):
    """Text of one style, with no line's end inside."""

    text: str
    style: str
    apart: bool = False  # it is no one's words, such as a control token


def render_row(
    shown: RowConversation, decode: Decode | None = None, *, brackets: bool = False, only_trained: bool = False
) -> Text:
    """A conversation: a header line and the tokens, ending with a line's end.

    `decode` turns ids into text and keeps special tokens; without it the ids themselves are shown. `brackets` marks
    trained text where there are no colours. only_trained: leave the rest out.
    """
    text = header(shown)
    ids, trained = shown.ids.tolist(), shown.trained.tolist()
    text.append_text(render_tokens(ids, trained, decode, brackets=brackets, only_trained=only_trained))
    return text if text.plain.endswith("\n") else text.append("\n")


def render_tokens(
    ids: Sequence[int],
    trained: Sequence[bool],
    decode: Decode | None = None,
    *,
    brackets: bool = False,
    only_trained: bool = False,
) -> Text:
    """Colour (T,) ids by (T,) `trained`. Tokens that share a character are one, trained if the first of them is."""
    return _joined(_parts(ids, trained, decode, brackets=brackets, only_trained=only_trained))


def header(shown: RowConversation) -> Text:
    """Where a conversation lies and came from, how long it is and how much of it is trained."""
    trained, tokens = int(shown.trained.sum()), len(shown.ids)
    parts = [
        *([f"row {shown.row}"] if shown.row >= 0 else []),
        *([f"conversation {shown.number + 1} of {shown.of}, from position {shown.start}"] if shown.of > 1 else []),
        *([shown.shard] if shown.shard else []),
        isolated(visible(f"{shown.source}:{shown.line}")),
        f"{tokens} of {shown.tokens_in_all} tokens (truncated)" if shown.truncated else f"{tokens} tokens",
        f"{trained} trained ({trained / max(tokens, 1):.0%})",
    ]
    if shown.trained_pads:
        parts.append(f"and {shown.trained_pads} pads")
    return Text().append(f"{' · '.join(parts)}\n", HEADER_STYLE)


def isolated(text: str) -> str:
    """Visible text, so that a terminal that knows right-to-left scripts reorders nothing around it."""
    return text.join(_ISOLATE) if _RIGHT_TO_LEFT.search(text) else text


def _parts(
    ids: Sequence[int], trained: Sequence[bool], decode: Decode | None, *, brackets: bool, only_trained: bool
) -> Iterator[_Part]:
    inside = False
    for number, (start, piece) in enumerate(pieces(ids, decode)):
        begins, inside = trained[start] != inside, trained[start]
        if begins and brackets:
            yield _Part(BRACKETS[not inside], "", apart=True)
        if begins and only_trained and not inside:
            yield _Part(LEFT_OUT, PROMPT_STYLES[0], apart=True)
        if inside or not only_trained:
            style = (TRAINED_STYLES if inside else PROMPT_STYLES)[number % 2]
            apart = isinstance(decode, Spelling) and decode.is_added(ids[start])
            marked = piece.replace(" ", "·") if piece.isspace() else piece
            yield from (_Part(each, style, apart=apart) for each in re.split("(\n)", marked) if each)
    if inside and brackets:
        yield _Part(BRACKETS[1], "", apart=True)


def _joined(parts: Iterable[_Part]) -> Text:
    text = Text()
    for cut, stretch in groupby(parts, lambda part: part.apart or part.text == "\n"):
        some = list(stretch)
        isolate = not cut and any(_RIGHT_TO_LEFT.search(visible(part.text)) for part in some)
        text.append(_ISOLATE[0] if isolate else "")
        for part in some:
            if part.text == LEFT_OUT:
                text.append(*part[:2])
            else:
                append_visibly(text, part.text, part.style)
        text.append(_ISOLATE[1] if isolate else "")
    return text


def append_visibly(text: Text, piece: str, style: str) -> None:
    """Append `piece` so that it cannot harm a terminal: escapes reversed, newlines marked."""
    for hostile, run in groupby(piece, lambda each: each != "\n" and is_hostile(each)):
        part = "".join(run)
        if hostile:
            text.append(visible(part), f"{style} reverse")
        else:
            text.append(part.replace("\n", "↵\n"), style)
