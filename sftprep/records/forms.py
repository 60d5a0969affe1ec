"""The forms that chat data comes in, each with a function from a record to its messages. A new one is a line
of FORMS.

`messages`            {"messages": [{"role", "content", ...}], "tools": [...]}, as OpenAI and Transformers have it
`conversations`       the same under "conversations", with tools or functions on the system message, as MiniMind has it
`sharegpt`            {"conversations": [{"from", "value"}], "system": ..., "tools": ...}
`alpaca`              {"instruction", "input", "output", "system", "history": [[question, answer], ...]}
`prompt-completion`   {"prompt", "completion"}, both strings or both lists of messages, as TRL has it
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sftprep.errors import ConversationError
from sftprep.records.messages import WEIGHT_KEYS, function_calls, kind_of, shown

_SHAREGPT_ROLES = {
    "system": "system",
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "function_call": "assistant",
    "observation": "tool",
    "tool": "tool",
}


@dataclass(frozen=True, slots=True)
class Form:
    """How records of one form are told, and read."""

    fits: Callable[[dict[str, Any]], bool]  # whether a record has its keys
    read: Callable[[dict[str, Any]], tuple[list[Any], Any]]  # its messages, and tools that stood on the system message


def detect(record: dict[str, Any]) -> str:
    """The one form whose keys the record has. Raises ConversationError where it is none, or several."""
    found = [name for name, form in FORMS.items() if form.fits(record)]
    if len(found) == 1:
        return found[0]
    if found:
        raise ConversationError(f"reads as {' and as '.join(found)}; name the format")
    raise ConversationError("has none of messages, conversations, prompt and completion, instruction and output")


def _has_speakers(record: dict[str, Any]) -> bool:
    """Whether turns say who speaks by `from`."""
    turns = record.get("conversations")
    first = turns[0] if type(turns) is list and turns else None
    return type(first) is dict and "from" in first


def _list_of(record: dict[str, Any], key: str) -> list[Any]:
    value = record.get(key)
    if type(value) is not list:
        raise ConversationError(f"{key} is {'missing' if value is None else kind_of(value)}; expected a list")
    return value


def _text_of(record: dict[str, Any], key: str, default: str | None = None) -> str:
    value = record.get(key)
    if value is None and default is not None:
        return default
    if type(value) is not str:
        raise ConversationError(f"{key} is {'missing' if value is None else kind_of(value)}; expected a string")
    return value


def _from_messages(record: dict[str, Any]) -> tuple[list[Any], Any]:
    return _list_of(record, "messages"), None


def _from_conversations(record: dict[str, Any]) -> tuple[list[Any], Any]:
    """MiniMind's form: what the template gets as tools stands on the system message, and leaves it."""
    messages = []
    found = []
    for message in _list_of(record, "conversations"):
        if type(message) is dict and message.get("role") == "system":
            found += [message[key] for key in ("tools", "functions") if message.get(key)]
            messages.append({key: value for key, value in message.items() if key not in ("tools", "functions")})
        else:
            messages.append(message)
    if len(found) > 1:
        raise ConversationError("tools are given more than once on system messages")
    return messages, found[0] if found else None


def _from_sharegpt(record: dict[str, Any]) -> tuple[list[Any], Any]:
    messages = []
    for number, turn in enumerate(_list_of(record, "conversations")):
        speaker = turn.get("from") if type(turn) is dict else None
        role = _SHAREGPT_ROLES.get(speaker) if type(speaker) is str else None
        if role is None:
            raise ConversationError(
                f"conversations[{number}]: {shown('from', speaker)}; expected one of {', '.join(_SHAREGPT_ROLES)}"
            )
        if "value" not in turn or "role" in turn or "content" in turn:
            raise ConversationError(f"conversations[{number}]: expected from and value, and neither role nor content")
        message = {"role": role, "content": turn["value"]}
        message.update((key, value) for key, value in turn.items() if key not in ("from", "value"))
        if speaker == "function_call":
            if message.get("tool_calls"):
                raise ConversationError(f"conversations[{number}]: tool_calls beside a function_call")
            message["tool_calls"] = function_calls(turn["value"], f"conversations[{number}]")
            message["content"] = ""
        messages.append(message)
    return _with_system(record, messages), None


def _from_alpaca(record: dict[str, Any]) -> tuple[list[Any], Any]:
    """The question is the instruction, then the input on a line of its own, as LLaMA-Factory joins them."""
    question = "\n".join(filter(None, (_text_of(record, "instruction"), _text_of(record, "input", ""))))
    if not question:
        raise ConversationError("instruction and input are both empty")
    history = _list_of(record, "history") if record.get("history") is not None else []
    messages = []
    for number, pair in enumerate([*history, [question, _text_of(record, "output")]]):
        if type(pair) is not list or len(pair) != 2:
            raise ConversationError(f"history[{number}]: expected a pair of question and answer")
        messages += [{"role": "user", "content": pair[0]}, {"role": "assistant", "content": pair[1]}]
    return _with_system(record, messages), None


def _with_system(record: dict[str, Any], messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
    system = _text_of(record, "system", "")
    if not system:
        return messages
    if any(message["role"] == "system" for message in messages):
        raise ConversationError("a system prompt is given both by the record and by a message")
    return [{"role": "system", "content": system}, *messages]


def _from_prompt(record: dict[str, Any]) -> tuple[list[Any], Any]:
    """Strings are a user's and an assistant's message. In lists, assistant messages of the prompt are not trained."""
    prompt, completion = record.get("prompt"), record.get("completion")
    if type(prompt) is str and type(completion) is str:
        return [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}], None
    if type(prompt) is not list or type(completion) is not list:
        raise ConversationError("prompt and completion are not both strings or both lists of messages")
    seen = [_untrained(message) for message in prompt]
    return [*seen, *completion], None


def _untrained(message: Any) -> Any:
    if type(message) is not dict or message.get("role") != "assistant" or any(key in message for key in WEIGHT_KEYS):
        return message
    return {**message, "weight": 0.0}


FORMS = {
    "messages": Form(lambda record: "messages" in record, _from_messages),
    "conversations": Form(lambda record: "conversations" in record and not _has_speakers(record), _from_conversations),
    "sharegpt": Form(_has_speakers, _from_sharegpt),
    "prompt-completion": Form(lambda record: "prompt" in record and "completion" in record, _from_prompt),
    "alpaca": Form(lambda record: "instruction" in record and "output" in record, _from_alpaca),
}
