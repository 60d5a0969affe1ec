"""Chat templates with their tokens, opened, and what Transformers makes of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from types import ModuleType
from typing import Any

from transformers.utils.chat_template_utils import render_jinja_template

from sftprep.errors import ConversationError
from sftprep.records.conversation import Conversation
from sftprep.records.messages import read_message
from sftprep.template.chat_template import ChatTemplate, open_template

DAY = datetime(2025, 6, 28)  # that templates print as today's


@dataclass(frozen=True, slots=True)
class Breed:
    """A template with the tokens of its tokenizer."""

    source: str
    special: dict[str, str] = field(default_factory=dict)  # bos_token, eos_token
    controls: tuple[str, ...] = ()  # added tokens with special=True
    plain: tuple[str, ...] = ()  # added tokens with special=False


def as_read(messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Messages as a record gives them: reasoning under every name that templates read."""
    return [
        read_message(each)[0] if {"thinking", "reasoning", "reasoning_content"} & each.keys() else each
        for each in messages
    ]


def template_of(source: str | Breed, **options: Any) -> ChatTemplate:
    breed = source if isinstance(source, Breed) else Breed(source)
    given = {"added_tokens": (*breed.controls, *breed.plain), "now": DAY, **options}
    return open_template(breed.source, breed.special, control_tokens=breed.controls, **given)


def conversation(messages: list[dict[str, Any]], tools: Any = None, **kwargs: Any) -> Conversation:
    return Conversation(as_read(messages), tools, kwargs, None)


def talk(*texts: str) -> list[dict[str, Any]]:
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def theirs(breed: Breed, given: Conversation) -> str | None:
    """Transformers' text, None if the template refuses."""
    kwargs = {**breed.special, **given.template_kwargs}
    try:
        texts, _ = render_jinja_template([given.messages], given.tools, chat_template=breed.source, **kwargs)
    except Exception:
        return None
    text: str = texts[0]
    return text


def ours(template: ChatTemplate, given: Conversation) -> str | None:
    try:
        return template.render(given).text
    except ConversationError:
        return None


def breeds_of(*rooms: ModuleType) -> dict[str, Breed]:
    """By name."""
    return {name: breed for room in rooms for name, breed in vars(room).items() if isinstance(breed, Breed)}
