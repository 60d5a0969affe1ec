"""What the oracle tells of a conversation, and what of its tokens is trained by that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

Place = tuple[int, int]  # (start, stop) in characters of the text


@dataclass(frozen=True, slots=True)
class Turn:
    """Trained characters of one message: text[start:stop]. White space in text[start:free], where the prompt has other
    white space than the turn, and in text[blank:stop], where no token ends the turn, may be trained or not."""

    message: int
    start: int
    free: int
    blank: int
    stop: int
    how: str  # by prefix, by search


@dataclass(frozen=True, slots=True)
class Told:
    """What the oracle knows of a conversation."""

    text: str
    form: str  # what was changed of the messages so that the template takes them; "" for nothing
    turns: tuple[Turn, ...]  # of the assistant's messages, in order
    silent: tuple[Turn, ...]  # those in which nothing stands of what their message says: they are not trained
    unknown: dict[int, str]  # message of the assistant -> why its turn cannot be told
    places: dict[int, list[Place]]  # message -> where its words stand in the text, as far as that can be told
    ends: dict[int, Place]  # message of the assistant -> the token that ends its turn, by its words
    assistants: frozenset[int]

    def expected(self, offsets: Sequence[Place]) -> list[bool | None]:
        """For each token, given its (start, stop) in the text, whether it is trained; None for either."""
        return [self._token(begin, end) for begin, end in offsets]

    def _token(self, begin: int, end: int) -> bool | None:
        for turn in self.turns:
            if begin < turn.start < end and begin < turn.stop:
                within = self.text[begin:end]
                header = self.text[begin : turn.start]
                return header.isspace() and bool(within[len(header) :].strip())
            either = turn.start <= begin < turn.free or turn.blank <= begin < turn.stop
            if either and not self.text[begin:end].strip():
                return None
            if turn.start <= begin < turn.stop:
                return True
        return False

    def faults(self, offsets: Sequence[Place], mask: Sequence[bool]) -> list[str]:
        """The weaker rule: no word of another is trained; of turns that cannot be told, the words and the end are."""
        on = {at for (begin, end), trained in zip(offsets, mask, strict=True) if trained for at in range(begin, end)}
        found = []
        for message, places in self.places.items():
            if message not in self.assistants and any(on.intersection(range(*place)) for place in places):
                found.append(f"words of message {message} are trained")
            if message in self.unknown and any(not on.issuperset(range(*place)) for place in places):
                found.append(f"words of message {message} are not trained")
        unended = [m for m in self.unknown.keys() & self.ends.keys() if not on.issuperset(range(*self.ends[m]))]
        return found + [f"the end of message {message} is not trained" for message in unended]
