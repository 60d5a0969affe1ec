"""Record -> Conversation: one schema for every format that chat data comes in.

`messages`            {"messages": [{"role", "content", ...}], "tools": [...]}, as OpenAI and Transformers have it
`conversations`       the same under "conversations", with tools or functions on the system message, as MiniMind has it
`sharegpt`            {"conversations": [{"from", "value"}], "system": ..., "tools": ...}
`alpaca`              {"instruction", "input", "output", "system", "history": [[question, answer], ...]}
`prompt-completion`   {"prompt", "completion"}, both strings or both lists of messages, as TRL has it

Every record may carry `tools` (a list or its JSON), `chat_template_kwargs` and `documents`; other keys of a record are
ignored, other keys of a message are kept. No tools, an empty list and an empty string are the same.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import orjson

from sftprep.errors import ConfigError, ConversationError
from sftprep.messages import ROLES, WEIGHT_KEYS, decode_json, exact, function_calls, kind_of, read_message, shown

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
_TEMPLATE_NAMES = frozenset({"messages", "tools", "documents", "add_generation_prompt"})  # set from elsewhere
PLAIN = ("role", "content")  # keys of most messages
_RECORD_EXTRAS = frozenset({"tools", "chat_template_kwargs", "documents"})


@dataclass(frozen=True, slots=True)
class Conversation:
    """What a chat template is rendered over: plain JSON values, nothing null at the top of a message."""

    messages: list[dict[str, Any]]
    tools: list[dict[str, Any]] | None
    template_kwargs: dict[str, Any]  # this record's template variables, its documents among them
    weights: tuple[float | None, ...] | None  # loss weight of each message, None where it gives none; None if none does
    place: tuple[int, ...] = field(default=(), compare=False)  # `Record.place` of the record it was read from
    # Roles, where messages have nothing but PLAIN, in that order, and text; None where that is not so, or was not looked at.
    plain_roles: tuple[str, ...] | None = field(default=None, compare=False, repr=False)

    def forget(self) -> None:
        """Give back the memory of what the messages say; roles and weights stay."""
        for message in self.messages:
            for key in message.keys() - {"role"}:
                del message[key]


@contextmanager
def set_aside(*conversations: list[dict[str, Any]]) -> Iterator[None]:
    """Messages, of which nothing but the roles is to be looked at meanwhile, in as little memory as can be."""
    packed = zlib.compress(pickle.dumps(conversations), 1)  # as UTF-8, and what is in two of them once
    for messages in conversations:
        messages[:] = [{"role": message["role"]} for message in messages]
    try:
        yield
    finally:
        for messages, said in zip(conversations, _unpacked(packed), strict=True):
            messages[:] = said


def _unpacked(packed: bytes) -> Any:
    return pickle.loads(zlib.decompress(packed))  # noqa: S301 - of our own making


def parse_conversation(data: bytes, record_format: str = "auto", place: tuple[int, ...] = ()) -> Conversation:
    """Decode a record and bring it into the one schema.

    place: `Record.place`, to be kept. `auto` finds the format from the record's keys. Raises ConversationError, whose message shows no text of the record,
    and ConfigError for an unknown format.
    """
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        try:
            data.decode()
        except UnicodeDecodeError as wrong:
            raise ConversationError(f"not UTF-8 at byte {wrong.start} of the record; expected JSON in UTF-8") from error
        raise ConversationError(f"not JSON: {error.msg} at character {error.pos}") from error
    if type(record) is not dict:
        raise ConversationError(f"the record is {kind_of(record)}; expected an object")
    return _plain(record, record_format, place) or _read(exact(record, data), record_format, place)


def _plain(record: dict[str, Any], record_format: str, place: tuple[int, ...]) -> Conversation | None:
    """A record in which nothing is left to do: role and text only. None for any other."""
    if record_format == "auto":
        key = "messages" if "messages" in record else "conversations"
        if key == "messages" and "conversations" in record:
            return None
    elif record_format in ("messages", "conversations"):
        key = record_format
    else:
        return None
    messages = record.get(key)
    if type(messages) is not list or not messages or not _RECORD_EXTRAS.isdisjoint(record):
        return None
    roles = []
    try:
        for message in messages:
            if type(message["content"]) is not str or message["role"] not in ROLES or len(message) != 2:
                return None
            if tuple(message) == PLAIN:
                roles.append(message["role"])
    except (KeyError, TypeError):  # not an object, or not with these keys
        return None
    return Conversation(messages, None, {}, None, place, tuple(roles) if len(roles) == len(messages) else None)


def _read(record: dict[str, Any], record_format: str, place: tuple[int, ...]) -> Conversation:
    name = _detect(record) if record_format == "auto" else record_format
    if name not in _READERS:
        raise ConfigError(f"record format {name!r}; expected auto or one of {', '.join(_READERS)}")
    raw, system_tools = _READERS[name](record)
    if not raw:
        raise ConversationError("no messages; expected at least one")
    messages: list[dict[str, Any]] = []
    weights: list[float | None] = []
    for number, each in enumerate(raw):
        try:
            message, weight = read_message(each)
        except ConversationError as error:
            raise ConversationError(f"messages[{number}]: {error}") from error
        messages.append(message)
        weights.append(weight)
    tools = _read_tools(record.get("tools"))
    if system_tools is not None:
        if tools is not None:
            raise ConversationError("tools are given both by the record and by its system message")
        tools = _read_tools(system_tools)
    given = any(weight is not None for weight in weights)
    return Conversation(messages, tools, _template_kwargs(record), tuple(weights) if given else None, place)


def _detect(record: dict[str, Any]) -> str:
    """The one format whose keys the record has."""
    found = []
    if "messages" in record:
        found.append("messages")
    if "conversations" in record:
        turns = record["conversations"]
        first = turns[0] if type(turns) is list and turns else None
        found.append("sharegpt" if type(first) is dict and "from" in first else "conversations")
    if "prompt" in record and "completion" in record:
        found.append("prompt-completion")
    if "instruction" in record and "output" in record:
        found.append("alpaca")
    if len(found) == 1:
        return found[0]
    if found:
        raise ConversationError(f"reads as {' and as '.join(found)}; name the format")
    raise ConversationError("has none of messages, conversations, prompt and completion, instruction and output")


def _read_tools(value: Any) -> list[dict[str, Any]] | None:
    if type(value) is str and value:
        value = decode_json(value, "tools")
    if value in (None, "", []):
        return None
    if type(value) is not list:
        raise ConversationError(f"tools is {kind_of(value)}; expected a list or its JSON")
    for number, tool in enumerate(value):
        if type(tool) is not dict:
            raise ConversationError(f"tools[{number}] is {kind_of(tool)}; expected an object")
    return value


def _template_kwargs(record: dict[str, Any]) -> dict[str, Any]:
    given = record.get("chat_template_kwargs")
    if given is not None and type(given) is not dict:
        raise ConversationError(f"chat_template_kwargs is {kind_of(given)}; expected an object")
    kwargs = dict(given or {})
    if not _TEMPLATE_NAMES.isdisjoint(kwargs):
        raise ConversationError(
            f"chat_template_kwargs may not set {', '.join(sorted(_TEMPLATE_NAMES & kwargs.keys()))}"
        )
    documents = record.get("documents")
    if documents is not None:
        if type(documents) is not list or any(type(document) is not dict for document in documents):
            raise ConversationError("documents is not a list of objects")
        kwargs["documents"] = documents
    return kwargs


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


_READERS: dict[str, Callable[[dict[str, Any]], tuple[list[Any], Any]]] = {
    "messages": _from_messages,
    "conversations": _from_conversations,
    "sharegpt": _from_sharegpt,
    "alpaca": _from_alpaca,
    "prompt-completion": _from_prompt,
}
