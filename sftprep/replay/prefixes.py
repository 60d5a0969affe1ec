"""Which turns stand in another context than they are asked for in, in every conversation that takes one way?

What the template prints when it asks for a turn, and what it prints while a turn comes last, are ways of shorter shapes. They
are looked up, or recorded, for the conversation at hand; what they depend on is observed here too, so they are taken by all
that take this way. Then texts are compared step by step; what steps do not tell is observed: whether the texts are equal.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Protocol

import jinja2

from sftprep.jinja.sandbox import Refusal
from sftprep.records.conversation import Conversation
from sftprep.template.chat_template import ChatTemplate
from sftprep.template.probes import QUESTION
from sftprep.template.turns import shared_length, stretches
from sftprep.tracing.decision_tree import Program, Tree
from sftprep.tracing.recorder import Printed, RecordingTemplate, concatenation
from sftprep.tracing.stand_ins import Traced, TracedNumber
from sftprep.tracing.steps import Recording, Untraceable

_MOST_TURNS = 16  # the time to record a conversation grows with their square
Item = str | int  # literal text, or a step
Items = list[Item]
Edge = tuple[int, int]  # a place in a text: so many code points of literal text, and so many steps, are before it
Spans = list[tuple[int, Edge, Edge]]  # message, and where its span begins and ends
_BEGINNING: Edge = (0, 0)


class Ways(Protocol):
    """A template with what is known of its ways."""

    template: ChatTemplate

    @property
    def asking(self) -> Ways:
        """The same template, asking for an answer behind a conversation."""

    def way(self, conversation: Conversation) -> tuple[Tree[Any], dict[int, Any], Program[Any] | None]:
        """The way that a conversation takes: its shape's tree, what is observed there, and what prints it, or a reason why the
        template refuses; None if it is not replayed. Raises Untraceable."""


class Prefixes:
    """The shorter conversations that one begins with, while it is recorded.

    template: by which it is recorded. program: what prints it.
    """

    def __init__(
        self,
        template: Ways,
        conversation: Conversation,
        recording: Recording,
        program: Program[Any],
    ) -> None:
        self._template, self._conversation, self._recording = template, conversation, recording
        self._items, self._spans = self._read(program.pieces), _spans_of(program)

    def others(self) -> tuple[int, ...] | None:
        """The turns of the assistant that are trained in another context, or as another text; None where that cannot be seen."""
        messages = self._conversation.messages
        turns = [at for at, message in enumerate(messages) if at and message["role"] == "assistant"]
        if len(turns) > _MOST_TURNS:
            return None
        try:
            return tuple(turn for turn in turns if not self._is_served(turn))
        except Untraceable:
            return None

    def _is_served(self, turn: int) -> bool:
        """As `batches.contexts` has it, for all conversations. Raises Untraceable."""
        asked = self._printed(self._template.asking, turn)
        spans = _of(turn, self._spans)
        if asked is None or not asked[0]:
            return True  # nobody is asked so
        if spans and not self._is_equal(asked[0], self._cut(self._items, _BEGINNING, spans[0][0])):
            return False
        if turn == len(self._conversation.messages) - 1:
            return True
        then = self._printed(self._template, turn + 1)
        if then is None:
            return True
        spans_then = _of(turn, then[1])
        if len(spans) != len(spans_then):
            return False
        pairs = [
            _rests(self._cut(self._items, *now), self._cut(then[0], *before))
            for now, before in zip(spans, spans_then, strict=True)
        ]
        if pairs and not pairs[-1][1] and pairs[-1][0] in [[token] for token in self._template.template.control_tokens]:
            pairs.pop()  # a template may end a turn by the next message's first token
        return all(self._is_equal(now, before) for now, before in pairs)

    def _printed(self, template: Ways, count: int) -> tuple[Items, Spans] | None:
        """What a template prints of the first messages, and its spans; None where it refuses them."""
        tree, observed, program = template.way(self._conversation.until(count))
        for step, value in observed.items():
            if self._recording.observe(self._recording.adopt(tree.steps, step)) != value:
                raise Untraceable
        if program is None:
            raise Untraceable  # in all that agree on what was observed
        if isinstance(program.result, str):
            return None
        return self._read(self._recording.adopt(tree.steps, piece) for piece in program.pieces), _spans_of(program)

    def _read(self, pieces: Iterable[int]) -> Items:
        """Steps as items, neighbouring literals as one."""
        items: Items = []
        for piece in pieces:
            item = self._recording.steps.constants.get(piece, piece)
            if isinstance(item, str) and items and isinstance(items[-1], str):
                items[-1] += item
            else:
                items.append(item)
        return items

    def _cut(self, items: Items, start: Edge, stop: Edge) -> Items:
        """The items between two edges."""
        return self._split(self._split(items, stop)[0], start)[1]

    def _split(self, items: Items, edge: Edge) -> tuple[Items, Items]:
        """What is before an edge, and what is behind it. Raises Untraceable where that is not the same in all."""
        left, steps = edge
        for number, item in enumerate(items):
            if isinstance(item, str) and (steps or left > len(item)):
                left -= len(item)
            elif not isinstance(item, str) and steps:
                steps -= 1
            else:
                before, behind = self._halves(item, left)
                return [*items[:number], *before], [*behind, *items[number + 1 :]]
        if left or steps:
            raise Untraceable
        return list(items), []

    def _halves(self, item: Item, left: int) -> tuple[Items, Items]:
        """An item cut in two behind so many code points; no half is empty literal text."""
        if isinstance(item, str):
            return [item[:left]] if left else [], [item[left:]] if item[left:] else []
        if not left:
            return [], [item]
        recording, cut, nothing = self._recording, self._recording.constant(left), self._recording.constant(None)
        if not recording.observe(recording.step("len({0}) >= {1}", item, cut)):
            raise Untraceable
        form = "{0}[{1}:{2}:{3}]"
        return [recording.step(form, item, nothing, cut, nothing)], [recording.step(form, item, cut, nothing, nothing)]

    def _is_equal(self, one: Items, other: Items) -> bool:
        """Whether both are the same text; what that depends on is observed."""
        one, other = _rests(one, other)
        if not one or not other:
            left = one or other
            if not left or any(isinstance(item, str) for item in left):
                return not left
        elif isinstance(one[0], str) and isinstance(other[0], str):
            return False
        recording = self._recording
        texts = [
            concatenation(
                recording, tuple(recording.constant(item) if isinstance(item, str) else item for item in items)
            )
            for items in (one, other)
        ]
        return bool(recording.observe(recording.step("{0} == {1}", *texts)))


def _rests(one: Sequence[Item], other: Sequence[Item]) -> tuple[Items, Items]:
    """What is left of both behind what they begin with alike; no two literals begin alike."""
    one, other = list(one), list(other)
    while one and other:
        first, second = one[0], other[0]
        if isinstance(first, str) and isinstance(second, str):
            shared = shared_length(first, second)
            one[0], other[0] = first[shared:], second[shared:]
            one, other = one[one[0] == "" :], other[other[0] == "" :]
            if shared == 0:
                break
        elif first == second:
            one, other = one[1:], other[1:]
        else:
            break
    return one, other


def _spans_of(program: Program[Any]) -> Spans:
    """Where the spans of what is printed begin and end."""
    edges, literal, steps = [], 0, 0
    for fixed, counted in program.distances:
        literal, steps = literal + fixed, steps + len(counted)
        edges.append((literal, steps))
    return list(zip(program.result.message, edges[::2], edges[1::2], strict=True))


def _of(message: int, spans: Spans) -> list[tuple[Edge, Edge]]:
    return [(start, stop) for each, start, stop in spans if each == message]


@dataclass(frozen=True, slots=True)
class Prompts:
    """The prompts of a conversation that is being recorded.

    variables, traced: what the template sees, and the same in stand-ins.
    """

    template: ChatTemplate
    recorder: RecordingTemplate
    recording: Recording
    variables: Mapping[str, Any]
    traced: Mapping[str, Any]

    def before(self, message: int) -> str:
        """The prompt that a message answers. What it depends on is observed. Raises Untraceable."""
        template = self.template
        if template.header is not None:
            return template.header
        if template.compiled.epilogue is None:
            return self._ask_after(message)
        for name in template.compiled.epilogue.names:
            value = self.traced.get(name)
            if isinstance(value, TracedNumber):
                value.settle()
            elif isinstance(value, Traced):
                raise Untraceable
        return template.prompts.after(self.variables, message)

    def _ask_after(self, message: int) -> str:
        """As `GenerationPrompts` asks after `messages[:message]`, over stand-ins. Raises Untraceable where the prompt is not
        literal."""
        for messages in (self.traced["messages"][:message], [dict(said) for said in QUESTION]):
            variables = {**self.traced, "messages": messages}
            try:
                asked = self._printed({**variables, "add_generation_prompt": True})
                over = len(asked.parts) if asked.over is None else asked.over
                if self.template.misplaced.has_strays:  # the last message may have been printed after it
                    over = len(asked.parts)
                prompt = asked.literal(over, len(asked.parts))
                if not prompt.strip():
                    prompt = self._from_the_difference(asked.merged, self._printed(variables).merged, len(prompt))
            except (Refusal, jinja2.UndefinedError):  # it refuses to begin so, and would in every such conversation
                continue
            if prompt:
                return prompt
        return ""

    def _from_the_difference(self, asked: Sequence[int], told: Sequence[int], least: int) -> str:
        """What is printed from where a text that asks for an answer differs from one that does not, no token cut in two.

        least: it is no less than so many of the last code points. Raises Untraceable where it is not literal, or may begin
        elsewhere in another conversation.
        """
        pairs = enumerate(zip(asked, told, strict=False))
        same = next((at for at, (one, other) in pairs if one != other), min(len(asked), len(told)))
        begun = self._literal(asked[same : same + 1])
        other = self._literal(told[same : same + 1]) if begun else ""
        shared = shared_length(begun, other)
        if len(asked) > same + 1 or (begun and shared == len(other) and len(told) > same + 1):
            raise Untraceable
        text = begun or (self._literal(asked[-1:]) if least else "")
        cut = len(text) - max(least, len(begun) - shared)
        inside = [start for start, stop in stretches(self.template.tokens, text) if start < cut < stop]
        cut = min([cut, *inside])
        if cut < len(text) and len(asked) > 1:
            tails = _tails(self.template.added_tokens)  # of tokens that a message may have begun
            if any(text[:length] in tails for length in range(cut + 1, len(text) + 1)):
                raise Untraceable
        return text[cut:]

    def _literal(self, steps: Sequence[int]) -> str:
        """The text of these literals. Raises Untraceable."""
        constants = self.recording.steps.constants
        if not all(step in constants for step in steps):
            raise Untraceable
        return "".join(constants[step] for step in steps)

    def _printed(self, variables: Mapping[str, Any]) -> Printed:
        return self.recorder.printed(variables, self.recording)


@lru_cache(maxsize=8)
def _tails(tokens: frozenset[str]) -> frozenset[str]:
    """What tokens end with."""
    return frozenset(token[length:] for token in tokens for length in range(1, len(token)))
