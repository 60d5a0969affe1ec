"""Record -> Conversation: one schema, whatever form the record has (`forms`).

Every record may carry `tools` (a list or its JSON), `chat_template_kwargs` and `documents`; other keys of a record are
ignored, other keys of a message are kept. No tools, an empty list and an empty string are the same.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import orjson

from sftprep.errors import ConfigError, ConversationError
from sftprep.records.forms import FORMS, detect
from sftprep.records.messages import ROLES, decode_json, exact_numbers, kind_of, read_message

_TEMPLATE_NAMES = frozenset({"messages", "tools", "documents", "add_generation_prompt"})  # set from elsewhere
PLAIN = ("role", "content")  # keys of most messages
_RECORD_EXTRAS = frozenset({"tools", "functions", "chat_template_kwargs", "documents"})


class Served(NamedTuple):
    """How an example's text is other than the template prints it, so that its last turn is trained as it is served."""

    asked: bool  # True: what comes before the turn's answer is what the template prints when it asks for one
    end: str  # the token that ends the turn, and is trained, where that is the next message's first one; else ""


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
    served: Served | None = None  # of an example, whose last turn is trained as it is served
    left_out: str = ""  # words that are taken out of its text

    def until(self, count: int) -> Conversation:
        """Its first messages."""
        return replace(
            self,
            messages=self.messages[:count],
            weights=self.weights and self.weights[:count],
            plain_roles=self.plain_roles and self.plain_roles[:count],
        )

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
    return _plain(record, record_format, place) or _read(exact_numbers(record, data), record_format, place)


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
    name = detect(record) if record_format == "auto" else record_format
    if name not in FORMS:
        raise ConfigError(f"record format {name!r}; expected auto or one of {', '.join(FORMS)}")
    raw, system_tools = FORMS[name].read(record)
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
    tools = _read_tools(record.get("tools")) or _read_functions(record.get("functions"))
    if system_tools is not None:
        if tools is not None:
            raise ConversationError("tools are given both by the record and by its system message")
        tools = _read_tools(system_tools)
    given = any(weight is not None for weight in weights)
    return Conversation(messages, tools, _template_kwargs(record), tuple(weights) if given else None, place)


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


def _read_functions(value: Any) -> list[dict[str, Any]] | None:
    """Tools as they were written before there were `tools`."""
    functions = _read_tools(value)
    return functions and [each if "function" in each else {"type": "function", "function": each} for each in functions]


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
