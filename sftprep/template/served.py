"""Renderings that are trained otherwise than printed: a turn as a server has it, behind just what the template prints when it
asks for it, with the token that ends it; a text without some words."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import replace

from sftprep.template.turns import Rendering, Span, Stretch, shared_length


def is_answer(rendering: Rendering, asked: str, tokens: re.Pattern[str]) -> bool:
    """Whether the last turn may be put behind what is asked: no token with which the prompt ends is in what is trained of it, as
    where a prompt has ended all thinking and the turn thinks."""
    own, text = last_turn(rendering), rendering.text
    start = own[0].start
    header = text[own[0].turn : start]
    _, found, rest = asked.rpartition(header) if header else (asked, "", "")
    if header and not found:  # other white space
        rest = asked[shared_length(text[:start], asked) :]
    return {*tokens.findall(rest)}.isdisjoint(tokens.findall(text, start, own[-1].stop))


def behind(asked: Rendering, rendering: Rendering) -> Rendering:
    """The last turn of a rendering, as far as it is trained, behind what is asked."""
    own = last_turn(rendering)
    start, stop, by = own[0].start, own[-1].stop, len(asked.text) - own[0].start
    same = shared_length(rendering.text[:start], asked.text)

    def moved(places: Iterable[Stretch]) -> list[Stretch]:
        return [(begin + by, after + by) for begin, after in places if start <= begin and after <= stop]

    spans = [span for span in rendering.spans[: -len(own)] if span.stop <= same]
    spans += [replace(span, start=span.start + by, stop=span.stop + by, turn=span.turn + by) for span in own]
    spans[-len(own)] = replace(spans[-len(own)], turn=min(own[0].turn, same))
    return replace(
        rendering,
        text=asked.text + rendering.text[start:stop],
        spans=tuple(spans),
        controls=(*asked.controls, *moved(rendering.controls)),
        forged=(*asked.forged, *moved(rendering.forged)),
        unprinted=(*asked.unprinted, *(each for each in rendering.unprinted if each[1] == own[0].message)),
    )


def ended(rendering: Rendering, end: str) -> Rendering:
    """A rendering whose last turn is followed by a control token, which is trained."""
    *spans, last = rendering.spans
    stop = last.stop

    def moved(places: Sequence[Stretch]) -> list[Stretch]:
        return [(begin + len(end) * (begin >= stop), after + len(end) * (after > stop)) for begin, after in places]

    return replace(
        rendering,
        text=f"{rendering.text[:stop]}{end}{rendering.text[stop:]}",
        spans=(*spans, replace(last, stop=stop + len(end))),
        controls=tuple(sorted([*moved(rendering.controls), (stop, stop + len(end))])),
        forged=tuple(moved(rendering.forged)),
    )


def without(rendering: Rendering, words: str) -> Rendering:
    """A rendering that does not have these words, wherever they stood, and the control tokens in them."""
    text = rendering.text
    starts = [found.start() for found in re.finditer(re.escape(words), text)]

    def moved(at: int) -> int:
        before = bisect_left(starts, at)
        return at - sum(min(len(words), at - start) for start in starts[:before][-1:]) - len(words) * max(before - 1, 0)

    def kept(places: Sequence[Stretch]) -> tuple[Stretch, ...]:
        return tuple((moved(begin), moved(after)) for begin, after in places if moved(begin) < moved(after))

    spans = (
        replace(span, start=moved(span.start), stop=moved(span.stop), turn=moved(span.turn)) for span in rendering.spans
    )
    controls, forged = kept(rendering.controls), kept(rendering.forged)
    return replace(rendering, text=text.replace(words, ""), spans=tuple(spans), controls=controls, forged=forged)


def last_turn(rendering: Rendering) -> list[Span]:
    """The spans of the last message that has any, in text order."""
    return [span for span in rendering.spans if span.message == rendering.spans[-1].message]
