"""The Jinja environment chat templates run in: what Transformers gives them, in a sandbox with limits.

A chat template is a program from a stranger. Jinja's sandbox keeps it away from Python's internals; it does not
keep it from asking for a terabyte. So every way to make something long out of something short is checked before it
runs, and every turn of a loop and every call of a macro looks at the clock (`Trail.tick`).
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context

from sftprep.errors import ConversationError

TRAIL = " trail"  # the run's record among the template's variables: the blank keeps it out of the template's reach


class LimitError(ConversationError):
    """The template asked for more characters or more time than one conversation may have."""


class Trail:
    """What is written down while a template runs over one conversation.

    pieces: what the template printed so far, in order
    events: (index into pieces, message or None) where a message's text begins (its index) or ends (None)
    generations: (start, stop) in code points of every `{% generation %}` block, counted as Transformers does
    """

    __slots__ = ("deadline", "events", "generations", "max_chars", "message_of", "opened", "pieces")

    def __init__(self, messages: list[dict[str, Any]], max_chars: int, max_seconds: float) -> None:
        self.pieces: list[str] = []
        self.events: list[tuple[int, int | None]] = []
        self.opened: dict[int, int] = {}
        self.generations: list[tuple[int, int]] = []
        self.message_of = {id(message): index for index, message in enumerate(messages)}
        self.max_chars = max_chars
        self.deadline = time.monotonic() + max_seconds

    def tick(self) -> None:
        """Raise LimitError when the run has had its time."""
        if time.monotonic() > self.deadline:
            raise LimitError("the chat template ran out of time on this conversation")


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja as chat templates expect it (Transformers 5), within limits."""

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(self, now: datetime | None = None) -> None:
        super().__init__(trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _Generation])
        self.filters["tojson"] = _tojson
        self.globals |= {
            "raise_exception": _raise_exception,
            "dict": _Dict(),
            "namespace": _Namespace,
            "strftime_now": lambda form: _strftime(now, form),
        }


class _Generation(Extension):
    """`{% generation %} ... {% endgeneration %}`: prints its body and writes down where it lies."""

    tags = {"generation"}  # noqa: RUF012 - jinja2's own spelling

    def parse(self, parser: Parser) -> nodes.CallBlock:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("block"), [], [], body).set_lineno(line)

    @pass_context
    def block(self, context: Context, caller: Macro) -> str:
        text: str = caller()
        trail: Trail = context.parent[TRAIL]
        start = sum(map(len, trail.pieces))
        trail.generations.append((start, start + len(text)))
        return text


class _Dict:
    """`dict(...)` without dict's attributes."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """Jinja's namespace, refusing names that start with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # noqa: N805 - so that a template may say namespace(self=...)
        attributes = dict(*args[1:], **kwargs)
        for name in attributes:
            _public(name)
        Namespace.__init__(args[0], attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _public(name)
        super().__setitem__(name, value)


def _public(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError("a chat template may not store names that start with an underscore")


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _raise_exception(message: str) -> None:
    raise jinja2.exceptions.TemplateError(message)


def _strftime(now: datetime | None, form: str) -> str:
    if now is None:
        raise ConversationError("the chat template prints today's date; give the date to print")
    return now.strftime(form)
