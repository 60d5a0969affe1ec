"""Small conversations, and what a template trains of them."""

from __future__ import annotations

from typing import Any

from breeds import conversation

from sftprep.template.chat_template import ChatTemplate
from sftprep.template.turns import (
    Rendering,
)

Messages = list[dict[str, Any]]


def trained(template: ChatTemplate, messages: Messages, **kwargs: Any) -> list[str]:
    rendering = template.render(conversation(messages, **kwargs))
    return [rendering.text[span.start : span.stop] for span in rendering.spans]


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def call(text: str = "", **arguments: Any) -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments or {"city": "Rome"}}
    return assistant(text, tool_calls=[{"type": "function", "id": "abcdefghi", "function": function}])


def result(text: str) -> dict[str, Any]:
    return {"role": "tool", "name": "weather", "tool_call_id": "abcdefghi", "content": text}


PLAIN = [user("Hi"), assistant("Hello."), user("Bye"), assistant(" Ciao. ")]
SYSTEM = [system("Be kind."), *PLAIN]
TOOL = [user("Weather?"), call(), result("hot"), assistant("It is hot.")]

THINK = [
    user("Hi"),
    assistant("Hello.", reasoning_content="Greets."),
    user("Bye"),
    assistant("Ciao.", reasoning_content="Leaves."),
]

EMPTY = [user("Hi"), assistant(""), user("Bye"), assistant("Ciao.")]
DROPPED = [user("Hi"), assistant("<think>\nGreets.\n</think>\n\nHello.")]


def words_at(rendering: Rendering, places: tuple[tuple[int, int], ...]) -> list[str]:
    return [rendering.text[start:stop] for start, stop in places]
