"""What a conversation says, by kind, and what of it a text leaves out.

A conversation says its list of tools, and each of its messages content, reasoning, calls of tools and a name; lists of parts
or of calls are said item by item. A text leaves out what has words, that is more than white space, of which no character but
white space stands in it: wherever that would stand, whatever the template does to it, and whoever else says the same words.
So half of the content is enough, and of a call its name. Not said are roles, ids, and the name of a tool's result, which
its call has.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

SAID = frozenset({"content", "reasoning_content", "thinking", "reasoning", "arguments"})  # keys of a message's own text
TOOLS, OF_NO_MESSAGE = "tools", -1
KINDS = {  # of what is said, in words
    "reasoning": "reasoning",
    "tool_calls": "call of a tool",
    "tool_results": "result of a tool",
    TOOLS: "list of tools",
    "system": "system message",
    "developer": "developer message",
    "user": "user message",
    "assistant": "assistant message",
    "names": "name",
}
LeftOut = tuple[str, int]  # of KINDS, and the index of the message; OF_NO_MESSAGE for the list of tools
_WORD = re.compile(r"\S")
_BY_KEY = {"tool_calls": "tool_calls", **dict.fromkeys(("reasoning_content", "thinking", "reasoning"), "reasoning")}


@dataclass(slots=True, eq=False)
class Saying:
    """What is in a text or left out of it as one."""

    kind: str  # of KINDS; "": it does not count
    message: int  # index; OF_NO_MESSAGE
    has_words: bool
    printed: bool = False  # whether any of it is in the text


def in_words(left: LeftOut) -> str:
    """Why a record is rejected of which this is left out."""
    kind, message = left
    where = "" if message == OF_NO_MESSAGE else f": messages[{message}]"
    return f"{KINDS[kind]} that the chat template does not print{where}"


def left_out(sayings: Iterable[Saying]) -> tuple[LeftOut, ...]:
    """What has words and is not printed, in the order of messages."""
    found = {(each.message, each.kind) for each in sayings if each.has_words and not each.printed}
    return tuple((kind, message) for message, kind in sorted(found))


def kind_of(role: str, key: str) -> str | None:
    """The kind of what a message of this role has under a key; None if nothing is said there."""
    if key == "content":
        return "tool_results" if role == "tool" else role
    if key == "name":
        return None if role == "tool" else "names"
    return _BY_KEY.get(key)


def says(message: Mapping[str, Any]) -> bool:
    """Whether a message has something to say: more than white space, or a call of a tool."""
    return bool(message.get("tool_calls")) or any(has_words(message[key]) for key in SAID if key in message)


def has_words(value: Any) -> bool:
    """Whether text, or text in parts, is more than white space."""
    if isinstance(value, str):
        return _WORD.search(value) is not None
    if isinstance(value, dict):
        for key, item in value.items():  # noqa: SIM110 - a third of the time, and replays ask often
            if key != "type" and has_words(item):
                return True
        return False
    return isinstance(value, list) and any(map(has_words, value))
