"""Why one target of a row is trained or not: which message it is of, and which rule decided.

The record is read again and printed again, exactly as the build did, and the rule is told from whose characters they are.
It is never taken from the mask: where the two differ, `Why.agrees` says so.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from sftprep.batches.exact_way import weights_of
from sftprep.containers.record import Record
from sftprep.errors import ConversationError
from sftprep.records.conversation import Conversation, read_record
from sftprep.remaking.maker import Maker
from sftprep.remaking.printed import Printed, Stretch, print_example
from sftprep.template.turns import NOT_BLANK, Span
from sftprep.views.conversations import RowConversation

_SAYS = {  # in words, by kind of what is said
    "reasoning": "reasoning",
    "tool_calls": "call of a tool",
    "names": "name",
    "tools": "list of tools",
}
TRAINED = frozenset({"content", "end", "first word", "block", "scan"})  # rules by which a target is trained


@dataclass(frozen=True, slots=True)
class Why:
    """Which rule decided on a target."""

    rule: str  # its name: one of TRAINED, or of those that leave a target out
    words: str  # the same for people
    message: int | None = None  # index among the messages as they are read
    role: str | None = None
    agrees: bool = True  # whether the row's mask says the same


class Reasons:
    """The reasons for all targets of one conversation of a row. shown: that one. printed: as its record is printed again.

    Raises ConversationError where its record does not give these tokens any more.
    """

    def __init__(self, maker: Maker, shown: RowConversation, record: Record, home: str = "train") -> None:
        self._config, self.shown = maker.config, shown
        self._whole, examples = maker.examples(record, home)
        self._example, self.printed = self._find(maker, examples)
        self._weights = weights_of(self._example, self._config)
        self._turns = [each.start for each in self.printed.turns]
        self._switches = _switches(record, maker, len(self._whole.messages))

    def _find(self, maker: Maker, examples: Sequence[Conversation]) -> tuple[Conversation, Printed]:
        """The example that the row holds: of those with its tokens, as cut ones may have, the one that trains the most like it."""
        alike = []
        for example in examples:
            printed = print_example(maker, example)
            ids = self.shown.ids
            if len(ids) <= len(printed.ids) and np.array_equal(ids, printed.ids[: len(ids)]):
                alike.append((example, printed))
        if not alike:
            raise ConversationError(
                f"{self.shown.source}:{self.shown.line} gives other tokens now than the row has: input, tokenizer or chat "
                "template are not those of the build any more"
            )
        trained = set(np.flatnonzero(self.shown.trained).tolist())
        return min(alike, key=lambda pair: len(trained ^ self._trained_tokens(*pair)))

    def _trained_tokens(self, example: Conversation, printed: Printed) -> set[int]:
        """Of those in the row, but for what headers do to the first of a turn."""
        weights, spans = weights_of(example, self._config), printed.rendering.spans
        inside = [
            np.flatnonzero((printed.starts >= s.start) & (printed.starts < s.stop)) for s in spans if weights[s.message]
        ]
        return {
            token for token in np.concatenate([np.zeros(0, np.int64), *inside]).tolist() if token < len(self.shown.ids)
        }

    def of(self, position: int) -> Why:
        """Why the target at a position of the row is trained or not."""
        if not self.shown.start <= position < self.shown.stop:
            return Why("padding", "padding: the conversation has ended")
        token = position - self.shown.start + 1
        at, stop = int(self.printed.starts[token]), int(self.printed.stops[token])
        kind = self._config.mask_kind
        trained = bool(self.shown.trained[token])
        if kind.spans == "turns":
            why = self._by_turns(at, stop)
        elif kind.spans == "blocks":
            inside = any(span.start < max(stop, at + 1) and at < span.stop for span in self.printed.rendering.spans)
            rule = "block" if inside else "outside"
            words = "inside a {% generation %} block" if inside else "outside of all {% generation %} blocks"
            why = self._at(at, rule, words)
        else:
            what = "between a header and the end" if trained else "not between a header and the end"
            why = self._at(at, "scan" if trained else "outside", f"{what} that --mask {self._config.mask} looks for")
        agrees = (why.rule in TRAINED) == trained
        return Why(why.rule, why.words, why.message, why.role, agrees)

    def _at(self, at: int, rule: str, words: str, message: int | None = None) -> Why:
        message = self._message_at(at) if message is None else message
        return Why(rule, words, message, None if message is None else self._role(message))

    def _role(self, message: int) -> str:
        return str(self._example.messages[message]["role"])

    def _message_at(self, at: int) -> int | None:
        """The message that says a character, or that it was printed for."""
        said = self._said_at(at)
        if said is not None and said.message >= 0:
            return said.message
        turn = bisect_right(self._turns, at) - 1
        if turn >= 0 and at < self.printed.turns[turn].stop:
            return self.printed.turns[turn].message
        return len(self._example.messages) - 1 if at in self.printed.prompted else None

    def _by_turns(self, at: int, stop: int) -> Why:
        spans = self.printed.rendering.spans
        inside = next((span for span in spans if span.start <= at < span.stop), None)
        if inside is not None:
            return self._inside(at, inside)
        following = next((span for span in spans if span.start > at), None)
        if following is not None and following.start < stop and self._weights[following.message]:
            return self._across(at, stop, following)
        header = following is not None and following.turn <= at
        message = following.message if header and following is not None else self._message_at(at)
        if message is None:
            return self._between(at)
        own = [span for span in spans if span.message == message]
        if not self._weights[message]:
            what = "header" if own and at < own[0].start else self._what(at)
            return self._at(at, "untrained", f"{what}; {self._untrained(message)}", message)
        if not own:
            said = message in self.printed.rendering.silent
            what = (
                "the chat template prints nothing of what the message says" if said else "nothing is left to be written"
            )
            return self._at(at, "silent", what, message)
        if at < own[0].start:
            return self._at(at, "header", "header of the turn: given by the generation prompt", message)
        if at >= own[-1].stop:
            return self._at(at, "after", "after the end of the turn", message)
        return self._at(
            at, "template", "the chat template's text inside the turn, where another message cuts in", message
        )

    def _inside(self, at: int, span: Span) -> Why:
        """Of a character that the message's author has to produce."""
        end = next((start for start, stop in self.printed.rendering.controls if stop == span.stop), None)
        is_end = end is not None and at >= max(end, span.start)
        what = "end-of-turn token" if is_end else self._what(at)
        weight = self._weights[span.message]
        if not weight:
            return self._at(at, "untrained", f"{what}; {self._untrained(span.message)}", span.message)
        if is_end and not self._config.train_end_of_turn:
            return self._at(at, "end left out", f"{what}, left out by --no-train-end-of-turn", span.message)
        if weight != 1:
            what += f", with weight {weight:g} by its switch {self._switches[span.message]}"
        return self._at(at, "end" if is_end else "content", what, span.message)

    def _across(self, at: int, stop: int, span: Span) -> Why:
        """Of a token that begins in a header and reaches into the answer."""
        text = self.printed.rendering.text
        if not NOT_BLANK.search(text, at, span.start) and NOT_BLANK.search(text, span.start, min(stop, span.stop)):
            words = "the answer's first word, in one token with the header's white space"
            return self._at(at, "first word", words, span.message)
        return self._at(at, "boundary", "one token holds both the end of the header and the answer", span.message)

    def _what(self, at: int) -> str:
        """What a character is, of a message."""
        said = self._said_at(at)
        return "text of the chat template" if said is None else _SAYS.get(said.kind, "content")

    def _said_at(self, at: int) -> Stretch | None:
        """What is said there."""
        said = self.printed.said
        part = bisect_right(said, at, key=_start) - 1
        return said[part] if part >= 0 and at < said[part].stop else None

    def _between(self, at: int) -> Why:
        said = self._said_at(at)
        if said is not None:
            return Why("tools", f"{_SAYS.get(said.kind, 'value')}, which is part of the prompt")
        if not self.printed.turns:
            return Why("template", "text of the chat template, or of a message that is not trained")
        if at < self.printed.turns[0].start:
            return Why("template", "text of the chat template before the first message")
        if at >= self.printed.turns[-1].stop:
            return Why("template", "text of the chat template behind the last message")
        return Why("template", "text of the chat template between messages")

    def _untrained(self, message: int) -> str:
        """Why a message is not trained."""
        if weights_of(self._whole, self._config)[message]:
            return "trained in another example of the record, behind what a server shows that asks for it"
        given = self._whole.weights
        if given is not None and given[message] is not None:
            switch = self._switches[message]
            return f"not trained by its switch {switch}" if switch else "not trained as it is part of the prompt"
        role, train_on = self._role(message), self._config.train_on
        if role in self._config.trained.roles:
            return f"only the assistant's last message is trained (--train-on {train_on})"
        return f"the role {role} is not trained (--train-on {train_on})"


def _start(stretch: Stretch) -> int:
    return stretch.start


def _switches(record: Record, maker: Maker, count: int) -> list[str]:
    """What gives each of so many messages its weight; "" where no switch does."""
    found = [", ".join(turn.switches) for turn in read_record(record.data, maker.config.reading).turns]
    return [""] * (count - len(found)) + found  # a build may have added a system prompt
