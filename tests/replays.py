"""Replayed templates beside Jinja."""

from __future__ import annotations

from typing import Any

from breeds import Breed

from sftprep.errors import SftprepError
from sftprep.records.conversation import Conversation
from sftprep.replay.replay_template import ReplayTemplate
from sftprep.template.chat_template import open_template
from sftprep.template.turns import Told, told_of

FIELDS = ("controls", "message", "first", "header", "last", "unplaced", "silent", "unprinted")


def breed_template(breed: Breed, **options: Any) -> ReplayTemplate:
    tokens = (*breed.controls, *breed.plain)
    template = open_template(breed.source, breed.special, control_tokens=breed.controls, added_tokens=tokens, **options)
    return ReplayTemplate(template)


def flat(text: str, told: Told) -> tuple[Any, ...]:
    marks, reach = told
    return (text, *(getattr(marks, field) for field in FIELDS), list(reach))


def replayed(template: ReplayTemplate, given: Conversation) -> Any:
    try:
        return flat(*template.render(given))
    except SftprepError as error:
        return type(error), str(error)


def rendered(template: ReplayTemplate, given: Conversation) -> Any:
    try:
        rendering = template.template.render(given)
    except SftprepError as error:
        return type(error), str(error)
    return flat(rendering.text, told_of(rendering))


def talk(*texts: Any, **more: Any) -> Conversation:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text, **more} for i, text in enumerate(texts)]
    return Conversation(messages, None, {}, None)


def same(source: str, *conversations: Conversation, **options: Any) -> ReplayTemplate:
    """A template that gives for each of the conversations, after having seen the first, what Jinja does."""
    template = ReplayTemplate(open_template(source, {}, control_tokens=["<s>", "<e>"], added_tokens=["<s>", "<e>", "<h>"], **options))  # fmt: skip
    for _ in range(3):
        replayed(template, conversations[0])
    assert template.recorded >= 1
    for conversation in conversations * 3:
        assert replayed(template, conversation) == rendered(template, conversation)
    return template


LOOP = "{% for m in messages %}"
ASK = "{% if add_generation_prompt %}"
