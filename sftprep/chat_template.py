"""Conversation -> text, and which of its characters belong to which message.

Jinja parses the template into a syntax tree; before it is compiled, every `for` loop in the tree is told to write down
each turn it takes. At run time a turn counts when the loop's value *is* one of the conversation's message objects, so
slices, reversed loops, filters and renamed lists all work and no template is known by name. What the template prints
is untouched: marks are kept as places in Jinja's stream of pieces. Only where that stream cannot be seen (a loop in a
macro or a `set` block) marks are noncharacters in the text itself, taken out again and checked against a run without.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context
from jinja2.utils import pass_context
from jinja2.visitor import NodeTransformer

from sftprep.errors import ConversationError, TemplateError
from sftprep.sandbox import TRAIL, LimitError, Sandbox, Trail

if TYPE_CHECKING:
    from sftprep.conversations import Conversation

_BEGIN, _ENTER, _END = " begin", " enter", " end"  # filter names a template cannot spell
_REASONING = ("reasoning_content", "thinking", "reasoning")
_RESERVED = frozenset({"messages", "tools", "add_generation_prompt"})


@dataclass(frozen=True, slots=True)
class Mark:
    """A stretch of text printed while the template was at one message."""

    message: int  # index of the message
    start: int  # code points
    stop: int


@dataclass(frozen=True, slots=True)
class MarkedText:
    """What a template printed, and whose it is."""

    text: str
    marks: tuple[Mark, ...]  # in text order, not empty, not overlapping; text outside all marks is nobody's
    generations: tuple[tuple[int, int], ...]  # (start, stop) of `{% generation %}` blocks, as Transformers counts them


class ChatTemplate:
    """A compiled chat template.

    special_tokens: bos_token, eos_token, ... as Transformers' `special_tokens_map` gives them.
    template_kwargs: variables for every conversation; a conversation's own go before them.
    now: what `strftime_now` prints.
    """

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str],
        *,
        template_kwargs: Mapping[str, Any] | None = None,
        now: datetime | None = None,
        max_chars: int = 1 << 26,
        max_seconds: float = 60.0,
    ) -> None:
        self.source = source
        self.constants = {**special_tokens, **(template_kwargs or {})}
        self.max_chars = max_chars
        self.max_seconds = max_seconds
        self.environment = Sandbox(now)
        self.environment.filters |= {_BEGIN: _begin, _ENTER: _enter, _END: _end}
        try:
            tree = self.environment.parse(source)
            _MarkLoops().visit(tree)
            self.compiled = self.environment.from_string(tree)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(f"the chat template does not compile: line {error.lineno}: {error.message}") from error

    def variables(self, conversation: Conversation, *, add_generation_prompt: bool = False) -> dict[str, Any]:
        """What the template sees of a conversation. Its message objects are new, so that each is told by identity."""
        clash = _RESERVED & conversation.template_kwargs.keys()
        if clash:
            raise ConversationError(f"template variables {sorted(clash)} cannot be set by a record")
        return {
            "documents": None,
            **self.constants,
            **conversation.template_kwargs,
            "messages": [_with_reasoning(message) for message in conversation.messages],
            "tools": conversation.tools,
            "add_generation_prompt": add_generation_prompt,
        }

    def trail(self, variables: dict[str, Any]) -> Trail:
        """Run the template. `Trail.pieces` joined is the text, `Trail.events` say where messages begin and end.

        The template may be given any objects for values: loops know messages as the items of `variables["messages"]`,
        by identity, and pieces are what the template printed, each as `str(value)` returned it.
        """
        trail = Trail(variables["messages"], self.max_chars, self.max_seconds)
        context = self.compiled.new_context({**variables, TRAIL: trail})
        size = 0
        try:
            for piece in self.compiled.root_render_func(context):
                trail.pieces.append(piece)
                size += len(piece)
                if size > self.max_chars:
                    raise LimitError(f"the chat template printed more than {self.max_chars} characters")
        except ConversationError:
            raise
        except Exception as error:
            raise ConversationError(self._refusal(error)) from error
        return trail

    def mark(self, variables: dict[str, Any]) -> MarkedText:
        """Run the template and say which characters were printed for which message."""
        trail = self.trail(variables)
        offsets = [0, *accumulate(map(len, trail.pieces))]
        return MarkedText("".join(trail.pieces), tuple(_marks(trail, offsets)), tuple(trail.generations))

    def _refusal(self, error: Exception) -> str:
        return f"the chat template refused the conversation ({type(error).__name__})"


def _marks(trail: Trail, offsets: list[int]) -> list[Mark]:
    """Events -> marks; inside a message's stretch an inner one takes its part out of the outer."""
    marks: list[Mark] = []
    open_: list[int] = []
    since = 0
    for piece, message in trail.events:
        here = offsets[piece]
        if open_ and here > since:
            if marks and marks[-1].message == open_[-1] and marks[-1].stop == since:
                since = marks.pop().start
            marks.append(Mark(open_[-1], since, here))
        since = here
        if message is None:
            open_.pop()
        else:
            open_.append(message)
    return marks


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """A copy of the message whose reasoning, under whichever name, is found under those that templates read."""
    reasoning = next((message[key] for key in _REASONING if message.get(key) is not None), None)
    if reasoning is None:
        return dict(message)
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}


class _MarkLoops(NodeTransformer):
    """Puts begin / enter / end around and into every loop. Loop control cannot skip them: a turn ends where the next
    begins or where the loop is left, and nothing is printed in between."""

    def __init__(self) -> None:
        self.loops = 0

    def visit_For(self, node: nodes.For) -> list[nodes.Node]:
        self.loops += 1
        loop = nodes.Const(self.loops)
        self.generic_visit(node)
        node.body.insert(0, _statement(_ENTER, _load(node.target), loop))
        return [_statement(_BEGIN, loop), node, _statement(_END, loop)]


def _statement(name: str, value: nodes.Expr, *args: nodes.Expr) -> nodes.ExprStmt:
    return nodes.ExprStmt(nodes.Filter(value, name, list(args), [], None, None))


def _load(target: nodes.Node) -> nodes.Expr:
    """The loop's target as an expression."""
    if isinstance(target, nodes.Tuple):
        return nodes.Tuple([_load(item) for item in target.items], "load")
    assert isinstance(target, nodes.Name)
    return nodes.Name(target.name, "load")


@pass_context
def _begin(context: Context, loop: int) -> None:
    context.parent[TRAIL].tick()


@pass_context
def _enter(context: Context, value: Any, loop: int) -> None:
    trail: Trail = context.parent[TRAIL]
    trail.tick()
    _leave(trail, loop)
    values = value if type(value) is tuple else (value,)
    for item in values:
        message = trail.message_of.get(id(item))
        if message is not None:
            trail.opened[loop] = message
            trail.events.append((len(trail.pieces), message))
            return


@pass_context
def _end(context: Context, loop: int) -> None:
    _leave(context.parent[TRAIL], loop)


def _leave(trail: Trail, loop: int) -> None:
    if trail.opened.pop(loop, None) is not None:
        trail.events.append((len(trail.pieces), None))
