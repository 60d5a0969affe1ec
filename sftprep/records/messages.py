"""One message of a record -> the message that a chat template sees, and its loss weight.

The message keeps its own keys in their order, and no key of any other message; content parts and arguments of calls stay
as the record has them. Changed are: keys with a null value (dropped, as Transformers does), content with parts that no
template knows (joined), JSON-string tool calls (decoded), a legacy `function_call` and role `function` (a tool call, and
the role of its result), older names for reasoning (aliased, as Transformers does), and loss weights (taken out).
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from sftprep.errors import ConversationError

ROLES = ("system", "developer", "user", "assistant", "tool")
WEIGHT_KEYS = ("train", "weight", "loss_weight", "trainable", "loss")
MAX_DEPTH = 100  # levels of lists and objects; templates walk them recursively
_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,24}")
_LARGEST_WEIGHT = 3.4028234e38  # float32
_KINDS = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}


def read_message(raw: Any) -> tuple[dict[str, Any], float | None]:
    """Check a message in role/content form and bring it into the form that templates see.

    Returns the message and its loss weight, None if it gives none. Raises ConversationError.
    """
    if type(raw) is not dict:
        raise ConversationError(f"{kind_of(raw)}; expected an object with role and content")
    message = {key: value for key, value in raw.items() if value is not None}
    if message.get("role") == "function":
        message["role"] = "tool"
    role = message.get("role")
    if role not in ROLES:
        raise ConversationError(f"{shown('role', role)}; expected one of {', '.join(ROLES)}")
    weight = _take_weight(message)
    if type(message.get("content")) is list:
        _read_parts(message)
    if "function_call" in message:
        _read_function_call(message)
    if "tool_calls" in message:
        _read_tool_calls(message)
    content = message.get("content")
    if content is None and not (role == "assistant" and message.get("tool_calls")):
        raise ConversationError("content is missing; only an assistant message with tool_calls may do without")
    if content is not None and type(content) not in (str, list):
        raise ConversationError(f"content is {kind_of(content)}; expected a string or a list of parts")
    return _alias_reasoning(message), weight


def kind_of(value: Any) -> str:
    """What a JSON value is, in words that show nothing of it."""
    return _KINDS.get(type(value), "null")


def decode_json(text: str, what: str) -> Any:
    """Decode a JSON string found inside a record. Raises ConversationError naming `what` is broken."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConversationError(f"{what} is not JSON: {error.msg} at character {error.pos}") from error
    return exact_numbers(value, text)


def exact_numbers(value: Any, text: str | bytes) -> Any:
    """`value`, which orjson decoded from `text`, with integers of any size as Python's own decoder gives them.

    orjson makes floats of integers that do not fit 64 bits; a template would print them differently. Raises
    ConversationError for a value nested deeper than MAX_DEPTH.
    """
    level = [value]
    huge = False
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for each in level:
            if type(each) is dict:
                below.extend(each.values())
            elif type(each) is list:
                below.extend(each)
            elif type(each) is float and abs(each) >= 2.0**63:
                huge = True
        if not below:
            return json.loads(text) if huge else value
        level = below
    raise ConversationError(f"nested deeper than {MAX_DEPTH} levels")


def function_calls(value: Any, what: str) -> list[dict[str, Any]]:
    """A call or a list of calls, as {name, arguments} or its JSON -> tool_calls as templates expect them."""
    if type(value) is str:
        value = decode_json(value, what)
    calls = value if type(value) is list else [value]
    if not calls:
        raise ConversationError(f"{what} holds no call")
    for call in calls:
        _check_function(call, what)
        if "arguments" not in call:
            raise ConversationError(f"{what} has no arguments")
    return [{"type": "function", "function": call} for call in calls]


def texts_of(message: dict[str, Any]) -> list[str]:
    """The texts of a message's content: one, one for each part, or none."""
    content = message.get("content")
    if type(content) is str:
        return [content]
    return [part["text"] for part in content or ()]


def function_of(call: dict[str, Any]) -> dict[str, Any]:
    """Name and arguments of a call, which may stand in it or be it."""
    function: dict[str, Any] = call.get("function", call)
    return function


def shown(what: str, value: Any) -> str:
    """A value from a closed vocabulary, for a message: itself where it is one short word, else its kind and length."""
    if value is None:
        return f"{what} is missing"
    if type(value) is not str:
        return f"{what} is {kind_of(value)}"
    return f"{what} {value!r}" if _WORD.fullmatch(value) else f"{what} is a string of {len(value)} characters"


def _take_weight(message: dict[str, Any]) -> float | None:
    given = {key: message.pop(key) for key in WEIGHT_KEYS if key in message}
    for key, value in given.items():
        if type(value) not in (bool, int, float) or not 0 <= value <= _LARGEST_WEIGHT:
            kind = f"{value:g}" if type(value) in (int, float) else kind_of(value)
            raise ConversationError(f"{key} is {kind}; expected true, false, or a weight of 0 or more")
    weights = set(map(float, given.values()))
    if len(weights) > 1:
        raise ConversationError(f"{' and '.join(given)} disagree; expected one weight")
    return weights.pop() if weights else None


def _read_parts(message: dict[str, Any]) -> None:
    """Content given as parts: OpenAI's ({"type": "text", "text": ...}), which templates may know, stay as they are.

    LLaMA-Factory's ({"type": "text" | "reasoning" | "tool_call", "value": ...}) become content, reasoning_content and
    tool_calls, text parts without anything between them.
    """
    text: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    for number, part in enumerate(message["content"]):
        what = f"content[{number}]"
        if type(part) is not dict:
            raise ConversationError(f"{what} is {kind_of(part)}; expected an object with type and text")
        kind = part.get("type")
        value = part.get("text", part.get("value"))
        if kind == "tool_call" and message["role"] == "assistant":
            calls += function_calls(value, what)
        elif kind == "text" or (kind == "reasoning" and message["role"] == "assistant"):
            if type(value) is not str:
                raise ConversationError(f"{what} is {kind_of(value)}; expected a string")
            (text if kind == "text" else reasoning).append(value)
        else:
            raise ConversationError(
                f"{what}: {shown('type', kind)}; expected text, or the assistant's reasoning or tool_call"
            )
    for key, found in (("reasoning_content", reasoning), ("tool_calls", calls)):
        if found and message.get(key):
            raise ConversationError(f"{key} is given in the content's parts and beside them")
    if not text or not all(part["type"] == "text" and "text" in part for part in message["content"]):
        message["content"] = "".join(text)
    if reasoning:
        message["reasoning_content"] = "".join(reasoning)
    if calls:
        message["tool_calls"] = calls


def _read_function_call(message: dict[str, Any]) -> None:
    """A call as it was written before there were tool_calls."""
    if message.get("tool_calls"):
        raise ConversationError("function_call beside tool_calls; expected one of them")
    call = message.pop("function_call")
    _check_function(call, "function_call")
    message["tool_calls"] = [{"type": "function", "function": call}]


def _read_tool_calls(message: dict[str, Any]) -> None:
    """Decode tool_calls given as a JSON string, and check their form. Arguments stay an object or a JSON string."""
    calls = message["tool_calls"]
    if type(calls) is str:
        calls = decode_json(calls, "tool_calls") if calls else []
    if not calls:
        del message["tool_calls"]
        return
    if type(calls) is not list:
        raise ConversationError(f"tool_calls is {kind_of(calls)}; expected a list")
    for number, call in enumerate(calls):
        what = f"tool_calls[{number}]"
        _check_function(function_of(call) if type(call) is dict else call, what)
    message["tool_calls"] = calls


def _check_function(function: Any, what: str) -> None:
    if type(function) is not dict or type(function.get("name")) is not str:
        raise ConversationError(f"{what} has no function name; expected an object with name and arguments")
    arguments = function.get("arguments", {})
    if type(arguments) is str:
        if not arguments.strip():
            raise ConversationError(f"{what}: arguments is an empty string; expected an object or its JSON")
        arguments = decode_json(arguments, f"{what}: arguments")
    if type(arguments) is not dict:
        raise ConversationError(f"{what}: arguments is {kind_of(arguments)}; expected an object or its JSON")


def _alias_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """Give reasoning the names that templates read, as Transformers' `apply_chat_template` does."""
    for key in _REASONING_KEYS:
        if key in message:
            reasoning = message[key]
            if type(reasoning) is not str:
                raise ConversationError(f"{key} is {kind_of(reasoning)}; expected a string")
            return {"thinking": reasoning, **message, "reasoning_content": reasoning}
    return message
