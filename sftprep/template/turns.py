"""Text with message marks -> what of each turn is trained.

A turn is `header, body, end-of-turn token, rest`. The header is what the inference prompt already gives at that place;
the rest is what templates print to separate turns. The model has to produce what is between: body and end-of-turn
token. All functions here are pure and know no template.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache

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
    silent: tuple[
        int, ...
    ] = ()  # messages, by index, that have something to say of which nothing is printed: no span is theirs


@dataclass(frozen=True, slots=True, eq=False)
class SpanPlaces:
    """Where the trained spans of a rendering lie, counted in control tokens (K spans, C control tokens)."""

    controls: tuple[str, ...]  # (C,) the control tokens the template writes, in order
    message: tuple[int, ...]  # (K,) message index of each span
    first: tuple[int, ...]  # (K,) index into controls of the last control token at or before the span's start
    header: tuple[str, ...]  # (K,) text between the end of that control token and the span's start
    last: tuple[int, ...]  # (K,) index of the control token that the span ends with
    exact: bool  # True: some span does not lie between control tokens in this way (its entries are -1, "", -1)
    silent: tuple[int, ...] = ()  # as in the rendering


def marks_of(rendering: Rendering) -> SpanPlaces:
    """The spans of a rendering, counted in control tokens.

    A span begins at a control token, or after one in its own turn's header, and ends with one; where it does not, as
    in Llama 2's ` answer </s>` after `[/INST]`, `exact` is set.
    """
    text, controls = rendering.text, rendering.controls
    stops = [stop for _, stop in controls]
    first, header, last = [], [], []
    for span in rendering.spans:
        before = bisect_right(stops, span.start) - 1
        end = bisect_left(stops, span.stop)
        ends = end < len(stops) and stops[end] == span.stop and end > before
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
        exact=-1 in first,
        silent=rendering.silent,
    )


def rendering_of(text: str, marks: SpanPlaces, controls: re.Pattern[str]) -> Rendering | None:
    """The rendering that has this text and these marks; None if they do not tell.

    They do where no span is `exact` and the control tokens found in the text are the template's, so that none is forged.
    A span's turn is given as the control token that its header is counted from.
    """
    places = stretches(controls, text)
    if marks.exact or tuple(text[start:stop] for start, stop in places) != marks.controls:
        return None
    spans = []
    for message, first, header, last in zip(marks.message, marks.first, marks.header, marks.last, strict=True):
        turn, begin = places[first]
        if not text.startswith(header, begin):
            return None
        spans.append(Span(message, begin + len(header), places[last][1], turn))
    return Rendering(text, tuple(spans), tuple(places), silent=marks.silent)


def token_pattern(tokens: Collection[str]) -> re.Pattern[str]:
    """A pattern that finds any of the tokens, the longest where several begin."""
    longest_first = sorted(filter(None, tokens), key=lambda token: (-len(token), token))
    return re.compile("|".join(map(re.escape, longest_first)) or "(?!)")


def stretches(pattern: re.Pattern[str], text: str) -> list[Stretch]:
    """Where the pattern is found."""
    return [found.span() for found in pattern.finditer(text)]


def header_of(text: str, start: int, stop: int, prompt: str, tokens: re.Pattern[str]) -> Stretch:
    """The header of the turn text[start:stop], (where it begins, where it ends).

    prompt: what the template prints after the messages before this one when it asks for an answer. The header is what
    prompt and turn have in common; where they part before the prompt's end, it is cut back to a boundary in the prompt:
    the end of a newline or of a token. The prompt may begin with what the turn does not: characters that stand before
    the turn (a separator, the end of the turn before), or that it has in place of them.
    """
    if prompt and text.startswith(prompt, start, stop):
        return start, start + len(prompt)
    bounds, best = _bounds(prompt, tokens), (start, start)
    for skipped in range(len(prompt) if start < stop else 0):
        if prompt[skipped] != text[start]:
            continue
        before = text.endswith(prompt[:skipped], 0, start)
        reached = skipped + shared_length(prompt[skipped:], text[start : min(stop, start + len(prompt))])
        if before or (reached == len(prompt) and skipped in bounds):
            end = start + max(bound for bound in bounds if bound <= reached) - skipped
            if end > best[1]:
                best = (start - skipped if before else start, end)
    said = NOT_BLANK.search(text, start, stop)
    blank = said.start() if said else stop
    if start < blank < stop:  # the turn before ended without the white space that this one begins with
        end = header_of(text, blank, stop, prompt.lstrip(), tokens)[1]
        best = (start, end) if end > max(blank, best[1]) else best
    return best


@lru_cache(maxsize=256)
def _bounds(prompt: str, tokens: re.Pattern[str]) -> tuple[int, ...]:
    """Where a header may end inside a prompt: before and after tokens, and after newlines."""
    lines = (at + 1 for at, character in enumerate(prompt) if character == "\n")
    return tuple(sorted({0, len(prompt), *lines, *(end for pair in stretches(tokens, prompt) for end in pair)}))


def end_of_turn(text: str, start: int, stop: int, controls: Sequence[Stretch], token: str | None = None) -> int:
    """Where training ends in a turn whose header ends at start and whose text ends at stop.

    After the last control token of the turn that only white space follows. A turn without one is trained whole, and
    where the next text begins with a control token (GLM 4 ends a turn by the next one's first token) that is trained
    too. With `token`, the last such token of the turn, whatever follows.
    """
    low = bisect_left(controls, (start, start))
    high = bisect_left(controls, (stop, stop))
    for begin, end in reversed(controls[low:high]):
        if token is None and end <= stop and not NOT_BLANK.search(text, end, stop):
            return end
        if token is not None and text[begin:end] == token:
            return end
        if token is None:
            break
    if high < len(controls) and controls[high][0] == stop and token in (None, text[slice(*controls[high])]):
        return controls[high][1]
    return stop


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
