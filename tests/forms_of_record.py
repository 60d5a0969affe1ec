"""A record as Transformers gives it to a chat template, and as one may help it; the words that its messages say."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

from transformers.utils import chat_template_utils

Message = dict[str, Any]
_REASONING = ("reasoning_content", "thinking", "reasoning")


def forms_of(messages: list[Message]) -> Iterator[tuple[str, list[Message]]]:
    """The messages as Transformers gives them to the template, then as one may help it: arguments decoded (objects as
    JSON), missing content null or empty, parts joined, texts made parts."""
    plain = chat_template_utils._normalize_chat_messages(messages)
    arguments = [("", plain)]
    if (decoded := [_with_arguments(message, json.loads, str) for message in plain]) != plain:
        arguments.append(("arguments decoded", decoded))
    elif (
        encoded := [_with_arguments(message, partial(json.dumps, ensure_ascii=False), dict) for message in plain]
    ) != plain:
        arguments.append(("arguments as JSON", encoded))
    contents: list[tuple[str, Any]] = [("", ...)]
    if any("content" not in message for message in plain):
        contents += [("null content", None), ("empty content", "")]
    joins = [("", False)] + [("parts joined", True)] * any(isinstance(m.get("content"), list) for m in plain)
    for (said, join), (filled, content), (read, form) in product(joins, contents, arguments):
        changed = []
        for message in form:
            given = dict(message)
            if content is not ... and "content" not in given:
                given["content"] = content
            if join and isinstance(given.get("content"), list):
                given["content"] = "".join(part["text"] for part in given["content"])
            changed.append(given)
        yield ", ".join(filter(None, (read, filled, said))), changed
    yield "texts as parts", [_in_parts(message) for message in plain]


def _with_arguments(message: Message, change: Callable[[Any], Any], kind: type) -> Message:
    """The message with arguments of that kind changed."""

    def changed(call: Any) -> Any:
        arguments = call["function"]["arguments"]
        value = change(arguments) if isinstance(arguments, kind) else arguments
        return {**call, "function": {**call["function"], "arguments": value}}

    return {**message, "tool_calls": [*map(changed, message["tool_calls"])]} if "tool_calls" in message else message


def _in_parts(message: Message) -> Message:
    content = message.get("content")
    return {**message, "content": [{"type": "text", "text": content}]} if isinstance(content, str) else message


def is_proper(text: str, messages: list[Message]) -> bool:
    """Whether no arguments are quoted a second time, and parts are neither shown as code nor left out."""
    for message in messages:
        for call in message.get("tool_calls") or []:
            arguments = call["function"]["arguments"]
            if isinstance(arguments, str) and json.dumps(arguments) in text:
                return False
        if isinstance(message.get("content"), list):
            if "{'type': 'text'" in text or '{"type": "text"' in text:
                return False
            if not all(part["text"] in text for part in message["content"]):
                return False
    return True


def shows_null(form: str, text: str) -> bool:
    """Whether content that was made null stands there as a word of its own."""
    return "null content" in form and bool(re.search(r"(?:^|[>\n])(?:null|None)(?:$|[<\n])", text))


def words_of(message: Message) -> list[str]:
    """What a message says, in pieces that a template prints whole if at all: lines of text, values of arguments."""
    content = message.get("content") or ""
    texts = [part["text"] for part in content] if isinstance(content, list) else [content]
    texts += [next((message[key] for key in _REASONING if message.get(key)), "")]
    lines = [line.strip() for text in texts for line in re.split(r"\n|</?think>", text)]
    for call in message.get("tool_calls") or []:
        arguments = call["function"]["arguments"]
        lines.append(call["function"]["name"])
        lines += _leaves(json.loads(arguments) if isinstance(arguments, str) else arguments)
    return [line for line in dict.fromkeys(lines) if line]


def _leaves(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [leaf for each in value.values() for leaf in _leaves(each)]
    if isinstance(value, list):
        return [leaf for each in value for leaf in _leaves(each)]
    return [value] if isinstance(value, str) and value.isalnum() else []
