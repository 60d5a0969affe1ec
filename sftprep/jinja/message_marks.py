"""What is written down while a chat template runs over a conversation: where each message's text begins and ends.

A mark is a place in Jinja's stream of pieces, so the template prints exactly what it printed before. Only where that
stream cannot be seen, because a macro or a `set` block holds the loop's text back, a mark is a noncharacter in the text
itself; whoever reads such a run takes the marks out and compares the rest with a run that had none (`RunLog.textual`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import accumulate
from typing import Any

# A mark in the text is made of noncharacters: open and the decimal digits of the message, or close.
_OPEN, _CLOSE, *_DIGITS = (chr(plane << 16 | last) for plane in range(1, 7) for last in (0xFFFE, 0xFFFF))
_TEXT_MARK = re.compile(f"{_OPEN}([{''.join(_DIGITS)}]+)|{_CLOSE}")
_MADE_OF = (_OPEN, _CLOSE, *_DIGITS)


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of text printed while the template was at one message."""

    message: int  # index of the message
    start: int  # code points
    stop: int
    run: int = field(
        default=-1, compare=False
    )  # one number for what is printed at one time that the message is come to
    around: tuple[int, int] | None = field(default=None, compare=False)  # message and run that this one is inside of


@dataclass(frozen=True, slots=True)
class Region:
    """A stretch of text printed by one pass through a branch of an `if` or the body of a loop."""

    place: int  # number of the branch in the template
    line: int
    start: int  # code points
    stop: int


class RunLog:
    """What is written down while a template runs over one conversation.

    pieces: what the template printed so far, in order; whoever runs the template appends to it
    events: (len(pieces), message) where a message's text begins and (len(pieces), None) where it ends, properly nested
    over: len(pieces) where the statements begin in which no message has a part, where that is known
    blocks: (start, stop) in code points of `{% generation %}` blocks, counted as Transformers counts them
    regions: (place, line, first piece, piece after) of the branches that were left
    textual: whether loops that are held back write their marks into the text; `texts` counts the marks so written
    """

    def __init__(self, messages: list[Any], *, textual: bool) -> None:
        self.pieces: list[str] = []
        self.events: list[tuple[int, int | None]] = []
        self.over: int | None = None
        self.blocks: list[tuple[int, int]] = []
        self.regions: list[tuple[int, int, int, int]] = []
        self.textual, self.texts = textual, 0
        self.message_of = {id(message): index for index, message in enumerate(messages)}
        self.frames: list[int | None] = []  # loops under way: the message each is at, None if it is at no message
        self.branches: list[tuple[int, int, int, int]] = []  # under way: place, line, first piece, loops around
        self.acts = 0  # branches taken of loops that ask nothing but the kind of an item

    def each(self, value: Any) -> Any:
        """The items of a loop that asks nothing but the kind of an item."""
        return self._characters(value) if isinstance(value, str) else value

    def _characters(self, text: str) -> Iterator[str]:
        """The characters of a text, but where nothing is done at the first, the others are not looked at."""
        acts = self.acts
        if text:
            yield text[:1]
        if self.acts != acts:
            yield from text[1:]

    def act(self, _: None = None) -> None:
        """Something is done at an item."""
        self.acts += 1

    def begin(self, _: None = None) -> None:
        """A loop begins."""
        self.frames.append(None)

    def enter(self, value: Any, *lists: Any) -> None:
        """A loop begins a turn over value, which may be an index into the lists."""
        self._leave()
        self._enter(value, lists)
        if self.frames[-1] is not None:
            self.events.append((len(self.pieces), self.frames[-1]))

    def end(self, _: None = None) -> None:
        """A loop ends."""
        self._leave()
        self.frames.pop()

    def enter_text(self, value: Any, *lists: Any) -> str:
        """`enter` where text is held back: the mark to put into it."""
        close = self._leave_text()
        self._enter(value, lists)
        if self.frames[-1] is None or not self.textual:
            return close
        self.texts += 1
        return close + _opening(self.frames[-1])

    def end_text(self, _: None = None) -> str:
        """`end` where text is held back: the mark to put into it."""
        close = self._leave_text()
        self.frames.pop()
        return close

    def open_text(self, _: None = None) -> str:
        """A text that is gathered grows: the mark to put before what is added, and after it `close_text`."""
        message = next((each for each in reversed(self.frames) if each is not None), None)
        if message is None or not self.textual:
            return ""
        self.texts += 1
        return _opening(message)

    def close_text(self, _: None = None) -> str:
        """The mark to put behind what is added."""
        return _CLOSE if self.textual and any(each is not None for each in self.frames) else ""

    def end_messages(self, _: None = None) -> None:
        """From here on no message has a part in what is printed."""
        self.over = len(self.pieces)

    def _enter(self, value: Any, lists: tuple[Any, ...]) -> None:
        found = value if type(value) is tuple else (value,)
        if type(value) is int:
            found = tuple(items[value] for items in lists if type(items) is list and 0 <= value < len(items))
        for item in found:
            message = self.message_of.get(id(item))
            if message is not None:
                self.frames[-1] = message

    def _leave(self) -> None:
        while self.branches and self.branches[-1][3] >= len(self.frames):
            self._pop_branch()
        if self.frames[-1] is not None:
            self.events.append((len(self.pieces), None))
            self.frames[-1] = None

    def _leave_text(self) -> str:
        was, self.frames[-1] = self.frames[-1], None
        return _CLOSE if was is not None and self.textual else ""

    def branch(self, place: int, line: int) -> None:
        """A branch is taken."""
        self.branches.append((place, line, len(self.pieces), len(self.frames)))

    def leave_branch(self, place: int) -> None:
        """The branch `place` ends, and with it all inside."""
        while self.branches and self._pop_branch() != place:
            pass

    def _pop_branch(self) -> int:
        place, line, first, _ = self.branches.pop()
        self.regions.append((place, line, first, len(self.pieces)))
        return place


def marked_text(trail: RunLog) -> tuple[str, list[Mark], int | None]:
    """The text without marks in it; the marks in text order; where the messages end, None if they never began.

    Inside a message's stretch another message's stretch takes its part out. Marks are not empty. Raises IndexError if
    marks in the text do not nest.
    """
    offsets = [0, *accumulate(map(len, trail.pieces))]
    text, events = "".join(trail.pieces), [(offsets[piece], message) for piece, message in trail.events]
    over = None if trail.over is None else offsets[trail.over]
    if trail.texts:
        text, events = _taken_out(trail)
        over = None
    marks = _marks(events)
    return text, marks, over if over is not None or not events else events[-1][0]


def regions_of(trail: RunLog) -> list[Region]:
    """The branches taken that printed something."""
    offsets = [0, *accumulate(map(len, trail.pieces))]
    found = [Region(place, line, offsets[first], offsets[stop]) for place, line, first, stop in trail.regions]
    return [region for region in found if region.stop > region.start]


def _taken_out(trail: RunLog) -> tuple[str, list[tuple[int, int | None]]]:
    """The text and the marks that are in it, with those beside it in their places."""
    pieces: list[str] = []
    done = 0
    for piece, message in trail.events:
        pieces += trail.pieces[done:piece]
        pieces.append(_CLOSE if message is None else _opening(message))
        done = piece
    marked = "".join([*pieces, *trail.pieces[done:]])
    texts: list[str] = []
    events: list[tuple[int, int | None]] = []
    at = 0
    for text, mark in split_at_marks(marked):
        texts.append(text)
        at += len(text)
        events += [(at, message) for message in mark]
    return "".join(texts), events


def split_at_marks(text: str) -> Iterator[tuple[str, list[int | None]]]:
    """The stretches of a text, and the mark behind each: the message that it opens, or None where it closes; none is behind
    the last one."""
    at = 0
    for found in _TEXT_MARK.finditer(text):
        digits = found.group(1)
        message = None if digits is None else int("".join(str(_DIGITS.index(digit)) for digit in digits))
        yield text[at : found.start()], [message]
        at = found.end()
    yield text[at:], []


def is_unmarked(text: str) -> bool:
    """Whether a text holds none of the noncharacters that marks are made of. Fast where it has none of such planes."""
    return not any(character in text for character in _MADE_OF)


def _opening(message: int) -> str:
    return _OPEN + "".join(_DIGITS[int(digit)] for digit in str(message))


def _marks(events: list[tuple[int, int | None]]) -> list[Mark]:
    marks: list[Mark] = []
    inside: list[tuple[int, int]] = []  # message and run
    since = 0
    for run, (here, message) in enumerate(events):
        if inside and here > since:
            message_here, began = inside[-1]
            append_mark(marks, Mark(message_here, since, here, began, next(_others(inside), None)))
        since = here
        if message is None:
            inside.pop()
        else:
            inside.append((message, run))
    return marks


def _others(inside: list[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """The other messages around the innermost, from the inside out."""
    return (other for other in reversed(inside) if other[0] != inside[-1][0])


def append_mark(marks: list[Mark], mark: Mark) -> None:
    """Add a mark, or make the last one longer if that is of the same message and ends where this one begins."""
    if marks and (marks[-1].message, marks[-1].stop) == (mark.message, mark.start):
        mark = replace(marks.pop(), stop=mark.stop)
    marks.append(mark)
