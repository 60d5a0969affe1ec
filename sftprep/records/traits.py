"""What can be said of a conversation in a word, without its text."""

from __future__ import annotations

from typing import NamedTuple

from sftprep.records.conversation import Conversation


class Traits(NamedTuple):
    """Of one conversation."""

    turns: int  # messages of the assistant
    tools: bool  # it has tools, or calls of tools
    reasoning: bool  # a message has reasoning beside its content


_OF_TALK = tuple(Traits(turns, tools=False, reasoning=False) for turns in range(64))  # made once: most are one of these


def traits_of(conversation: Conversation) -> Traits:
    """Looks at the messages, so it is to be asked before they are forgotten."""
    if conversation.plain_roles is not None:
        turns = conversation.plain_roles.count("assistant")
        return _OF_TALK[turns] if turns < len(_OF_TALK) else Traits(turns, tools=False, reasoning=False)
    messages = conversation.messages
    return Traits(
        sum(message["role"] == "assistant" for message in messages),
        bool(conversation.tools) or any(message.get("tool_calls") for message in messages),
        any(message.get("reasoning_content") for message in messages),
    )
