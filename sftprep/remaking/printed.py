"""An example as it is printed: its text, and of every character whose it is and what it says."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sftprep.records.conversation import Conversation
from sftprep.remaking.maker import Maker
from sftprep.template.served import last_turn, without
from sftprep.template.turns import Rendering, Span, shared_length


@dataclass(frozen=True, slots=True)
class Stretch:
    """Characters that are one message's, or that it says."""

    start: int  # code points
    stop: int
    message: int
    kind: str = ""  # of said.KINDS, of what is said


@dataclass(frozen=True, slots=True)
class Printed:
    """An example's text, and its tokens (T of them)."""

    rendering: Rendering  # as it is trained
    ids: npt.NDArray[np.int64]  # (T,)
    starts: npt.NDArray[np.int32]  # (T,) code points that each token covers
    stops: npt.NDArray[np.int32]
    turns: tuple[Stretch, ...]  # which message the text was printed for; () where that cannot be told
    said: tuple[Stretch, ...]  # what is said in it, white space around it too
    prompted: range  # what the template printed when it asked for the last turn, behind all messages


def print_example(maker: Maker, example: Conversation) -> Printed:
    """Raises ConversationError where the template refuses it."""
    rendering, placed = maker.exact.place(example)
    turns, said, prompted = _authors(maker, example, rendering)
    return Printed(
        rendering,
        placed.tokens.ids.astype(np.int64),
        placed.starts,
        placed.stops,
        turns,
        said,
        prompted,
    )


_Told = tuple[tuple[Stretch, ...], tuple[Stretch, ...], range]


def _authors(maker: Maker, example: Conversation, rendering: Rendering) -> _Told:
    """Turns and what is said, in the text as it is trained; nothing where the text is another than they add up to."""
    templates = maker.toolbox.templates
    plain = replace(example, served=None, left_out="")
    authors = templates.authors(plain)
    text, prompted = authors.text, range(0)
    turns = [Stretch(mark.start, mark.stop, mark.message) for mark in authors.marks]
    said = [Stretch(*part) for part in authors.parts]
    if example.served is not None:
        own = last_turn(templates.render_exactly(plain))
        start, stop = own[0].start, own[-1].stop
        if example.served.asked:
            asked = templates.authors(plain.until(len(plain.messages) - 1), asking=True)
            by = len(asked.text) - start
            same = min(own[0].turn, shared_length(text[:start], asked.text))
            behind = max((mark.stop for mark in asked.marks), default=0)
            prompted = range(max(behind, min(same, len(asked.text))), len(asked.text))
            moved = [_moved(each, start, stop, by) for each in (turns, said)]
            turns = [Stretch(mark.start, mark.stop, mark.message) for mark in asked.marks] + moved[0]
            said = [Stretch(*part) for part in asked.parts] + moved[1]
            text = asked.text + text[start:stop]
            stop += by
        if end := example.served.end:
            text = text[:stop] + end + text[stop:]
            turns, said = (list(_made_room(each, stop, len(end))) for each in (turns, said))
    if example.left_out and example.left_out in text:
        whole = text
        turns, said = (_without(whole, each, example.left_out) for each in (turns, said))
        [prompt] = _without(whole, [Stretch(prompted.start, prompted.stop, 0)], example.left_out) or [Stretch(0, 0, 0)]
        text, prompted = whole.replace(example.left_out, ""), range(prompt.start, prompt.stop)
    return (tuple(turns), tuple(said), prompted) if text == rendering.text else ((), (), range(0))


def _moved(stretches: Iterable[Stretch], start: int, stop: int, by: int) -> list[Stretch]:
    """What of stretches is in text[start:stop], moved by so many characters."""
    cut = (replace(each, start=max(each.start, start) + by, stop=min(each.stop, stop) + by) for each in stretches)
    return [each for each in cut if each.start < each.stop]


def _made_room(stretches: Iterable[Stretch], at: int, size: int) -> Iterable[Stretch]:
    """Stretches around so many characters that are put in; the turn that ends there has them."""
    for each in stretches:
        begin = each.start + size * (each.start >= at)
        yield replace(each, start=begin, stop=each.stop + size * (each.stop > at))


def _without(text: str, stretches: Iterable[Stretch], words: str) -> list[Stretch]:
    """Stretches of the text that does not have these words."""
    given = list(stretches)
    spans = tuple(Span(number, each.start, each.stop, each.start) for number, each in enumerate(given))
    kept = without(Rendering(text, spans, ()), words).spans
    return [replace(given[span.message], start=span.start, stop=span.stop) for span in kept]
