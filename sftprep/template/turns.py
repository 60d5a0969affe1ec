"""Text with message marks -> what of each turn is trained.

A turn is `header, body, end-of-turn token, rest`. The header is what the inference prompt already gives at that place;
the rest is what templates print to separate turns. The model has to produce what is between: body and end-of-turn
token. All functions here are pure and know no template.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain, pairwise
from typing import Protocol

from sftprep.records.said import LeftOut

Stretch = tuple[int, int]  # (start, stop) in code points
NOT_BLANK = re.compile(r"\S")  # finds whether there is more than white space in a stretch without copying it


@dataclass(frozen=True, slots=True)
class Span:
    """What a message's author has to produce of a text: its header, and text after its end-of-turn token, excluded."""

    message: int  # index of the message
    start: int  # code points
    stop: int
    turn: int  # where the header begins; the same as start if there is none


@dataclass(frozen=True, slots=True)
class Rendering:
    """A conversation as text."""

    text: str
    spans: tuple[Span, ...]  # in text order
    controls: tuple[Stretch, ...]  # every control token that the template itself wrote, in text order
    forged: tuple[Stretch, ...] = ()  # text of messages, tools or variables that spells a control token, in text order
    adapted: bool = False  # whether the template took the conversation in another variant than its own only
    silent: tuple[int, ...] = ()  # indices of messages that have something to say, of which nothing is printed: no span
    unprinted: tuple[LeftOut, ...] = ()  # what the conversation says of which nothing is printed, by message
    # Indices of the assistant's messages that stand behind another text than a model sees which is asked for them, or are
    # another text than they are while they come last. None: not known.
    others: tuple[int, ...] | None = None


@dataclass(frozen=True, slots=True, eq=False)
class SpanPlaces:
    """Where the trained spans of a rendering lie, counted in control tokens (K spans, C control tokens; the text's end is one more)."""

    controls: tuple[str, ...]  # (C,) the control tokens the template writes, in order
    message: tuple[int, ...]  # (K,) message index of each span
    first: tuple[int, ...]  # (K,) index into controls of the last control token at or before the span's start
    header: tuple[str, ...]  # (K,) text between the end of that control token and the span's start
    last: tuple[int, ...]  # (K,) index of the control token that the span ends with; C: it ends where the text does
    unplaced: bool  # True: some span does not lie between control tokens in this way (its entries are -1, "", -1)
    silent: tuple[int, ...] = ()  # as in the rendering
    unprinted: tuple[LeftOut, ...] = ()
    others: tuple[int, ...] | None = None  # as in the rendering

    @property
    def is_open(self) -> bool:
        """Whether there may be a span that does not end with a control token."""
        return self.unplaced or len(self.controls) in self.last


# What is told of a text: where its spans lie, counted in control tokens, which many texts share; (start, stop) of each.
Told = tuple[SpanPlaces, Sequence[Stretch]]
NOTHING_TOLD: Told = SpanPlaces((), (), (), (), (), unplaced=False, others=()), ()


def places_of(rendering: Rendering) -> SpanPlaces:
    """The spans of a rendering, counted in control tokens.

    A span begins at a control token, or after one in its own turn's header, and ends with one or where the text ends;
    where it does not, as in Llama 2's ` answer </s>` after `[/INST]`, `unplaced` is set.
    """
    text, controls = rendering.text, rendering.controls
    stops = [stop for _, stop in controls]
    first, header, last = [], [], []
    for span in rendering.spans:
        before = bisect_right(stops, span.start) - 1
        end = bisect_left(stops, span.stop)
        ends = (stops[end] == span.stop and end > before) if end < len(stops) else span.stop == len(text)
        begins = before >= 0 and (stops[before] == span.start or controls[before][0] >= span.turn)
        placed = begins and ends
        first.append(before if placed else -1)
        header.append(text[stops[before] : span.start] if placed else "")
        last.append(end if placed else -1)
    return SpanPlaces(
        controls=tuple(text[start:stop] for start, stop in controls),
        message=tuple(span.message for span in rendering.spans),
        first=tuple(first),
        header=tuple(header),
        last=tuple(last),
        unplaced=-1 in first,
        silent=rendering.silent,
        unprinted=rendering.unprinted,
        others=rendering.others,
    )


def told_of(rendering: Rendering) -> Told:
    """What a rendering tells of its text."""
    return places_of(rendering), [(span.start, span.stop) for span in rendering.spans]


def rendering_of(text: str, told: Told, controls: re.Pattern[str]) -> Rendering | None:
    """The rendering that has this text and of which this is told; None if that is not enough.

    It is where the control tokens found in the text are the template's, so that none is forged. A span's turn is given as
    its start.
    """
    marks, reach = told
    places = stretches(controls, text)
    if tuple(text[start:stop] for start, stop in places) != marks.controls:
        return None
    spans = (Span(message, start, stop, start) for message, (start, stop) in zip(marks.message, reach, strict=True))
    return Rendering(
        text, tuple(spans), tuple(places), silent=marks.silent, unprinted=marks.unprinted, others=marks.others
    )


def token_pattern(tokens: Collection[str]) -> re.Pattern[str]:
    """A pattern that finds any of the tokens, the longest where several begin."""
    longest_first = sorted(filter(None, tokens), key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def stretches(pattern: re.Pattern[str], text: str) -> list[Stretch]:
    """Where the pattern is found."""
    return [found.span() for found in pattern.finditer(text)]


@dataclass(frozen=True, slots=True)
class Piece:
    """A prompt's words up to the next place where a header may end: a token's edge, a line's end, the prompt's end."""

    words: re.Pattern[str]  # with any white space between them
    blanks: tuple[str, ...]  # what a header may hold of the white space behind them, the longest first


@lru_cache(maxsize=256)
def pieces_of(prompt: str, tokens: re.Pattern[str]) -> tuple[Piece, ...]:
    """The prompt in pieces. A word that white space follows is not the beginning of a longer one."""
    lines = (at + 1 for at, character in enumerate(prompt) if character == "\n")
    last = range(len(prompt.rstrip()), len(prompt))  # any part of the white space that it ends with
    bounds = sorted({0, len(prompt), *last, *lines, *(end for pair in stretches(tokens, prompt) for end in pair)})
    pieces = []
    for start, stop in pairwise(bounds):
        if words := prompt[start:stop].split():
            end = start + len(prompt[start:stop].rstrip())
            following = NOT_BLANK.search(prompt, end)
            blanks = [prompt[end:at] for at in bounds if end < at <= (following.start() if following else len(prompt))]
            edge = r"\b" if blanks and words[-1][-1].isalnum() else ""
            pieces.append(Piece(re.compile(r"\s*".join(map(re.escape, words)) + edge), (*blanks[::-1], "")))
    return tuple(pieces)


def header_of(
    text: str, start: int, stop: int, prompt: str, tokens: re.Pattern[str], own: Iterable[Stretch] = ()
) -> Stretch:
    """The header of the turn text[start:stop], (where it begins, where it ends).

    prompt: what the template prints after the messages before this one when it asks for an answer. The header is what
    prompt and turn have in common, whatever white space is between its words; where they part, it ends with the last
    piece of the prompt that both have, and goes on where the prompt's last pieces follow at once: the turn need not have
    all that the prompt has.
    It stands where the turn begins, or begins with what stands before the turn, or is behind what the template prints
    first. own: stretches of the turn where it may be so: of all places the one with the most of the prompt, the last of
    equals.
    """
    if prompt and text.startswith(prompt, start, stop):
        return start, start + len(prompt)
    pieces = pieces_of(prompt, tokens)
    if not pieces:
        return start, start
    words, reach = pieces[0].words, len(prompt)
    before = (at.start() for at in words.finditer(text, max(start - reach, 0), min(start + reach, stop)))
    inside = (at.start() for stretch in own for at in words.finditer(text, *stretch))
    found, most = (start, start), 0
    for begin in chain((start,), (at for at in before if at < start), inside):
        count, end = _agreement(text, begin, stop, pieces)
        if end > start and (count > most or (count == most and begin > start)):
            found, most = (begin, end), count
    begin, end = found
    return (begin if NOT_BLANK.search(text, start, begin) else min(start, begin)), end


def _agreement(text: str, start: int, stop: int, pieces: Sequence[Piece]) -> tuple[int, int]:
    """(how many of a prompt's pieces stand at start, where the last of them ends): the first ones, then the last ones."""
    count, end = _row(text, start, stop, pieces)
    for skipped in range(count + 1, len(pieces)):
        more, reached = _row(text, end, stop, pieces[skipped:])
        if more == len(pieces) - skipped:
            return count + more, reached
    return count, end


def _row(text: str, start: int, stop: int, pieces: Sequence[Piece]) -> tuple[int, int]:
    """(how many of the pieces stand at start one after another, where the last of them ends with its white space)."""
    count, end, reached = 0, start, start
    for piece in pieces:
        said = NOT_BLANK.search(text, reached, stop)
        found = piece.words.match(text, said.start(), stop) if said else None
        if found is None:
            break
        reached = found.end()
        end = reached + len(next(blank for blank in piece.blanks if text.startswith(blank, reached, stop)))
        count += 1
    return count, end


@dataclass(frozen=True, slots=True)
class Ends:
    """Control tokens with which turns of a template end."""

    given: str | None = None  # overrides the others
    eos: str | None = None  # where generation stops
    known: Collection[str] = ()  # by what the template prints


def end_of_turn(
    text: str,
    start: int,
    stop: int,
    controls: Sequence[Stretch],
    ends: Ends,
) -> int:
    """Where training ends in a turn whose header ends at start and whose text ends at stop (`ending_control`)."""
    low, high = bisect_left(controls, (start, start)), bisect_left(controls, (stop, stop))
    inside, behind = [control for control in controls[low:high] if control[1] <= stop], controls[high : high + 1]

    def following(*, blank: bool) -> str:
        met = behind and (behind[0][0] == stop or (blank and not NOT_BLANK.search(text, stop, behind[0][0])))
        return text[slice(*behind[0])] if met else ""

    texts = [text[slice(*control)] for control in inside]
    found = ending_control(texts, following, lambda: not NOT_BLANK.search(text, inside[-1][1], stop), ends)
    return stop if found is None else [*inside, *behind][found][1]


class Following(Protocol):
    """Tells what stands behind a turn."""

    def __call__(self, *, blank: bool) -> str:
        """The control token with which that begins, behind white space if `blank`; "" if it begins with none."""


def ending_control(inside: Sequence[str], following: Following, is_last: Callable[[], bool], ends: Ends) -> int | None:
    """The control token with which training ends: the index of one of a turn's, or their number for the one that follows; None:
    it ends where the turn's text does.

    inside: control tokens of the turn, behind its header. is_last: whether nothing but white space is behind the last of
    them. It and `following` are asked only where it matters.
    It is the first EOS, where generation stops; else the last control token of the turn, if only white space follows. A
    turn without one is trained whole, and where the next text begins with a control token, behind white space or not (GLM 4
    ends a turn by the next one's first token), up to that token's end; so it is where the turn ends with a control token
    that is none of those known to end turns, and one of them follows at once (Gemma 4 ends a call by the first token of
    its result).
    With `ends.given`, the last such token of the turn, whatever follows.
    """
    if ends.given is not None:
        found = [index for index, each in enumerate(inside) if each == ends.given]
        if not found and following(blank=False) == ends.given != "":
            return len(inside)
        return found[-1] if found else None
    if ends.eos in inside:
        return inside.index(ends.eos)
    if inside and is_last() and (inside[-1] in ends.known or following(blank=False) not in ends.known):
        return len(inside) - 1
    return len(inside) if following(blank=True) else None


def shared_length(one: str, other: str) -> int:
    """Length of what both texts begin with."""
    low, high = 0, min(len(one), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
