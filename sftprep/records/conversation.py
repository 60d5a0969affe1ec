"""Record -> Conversation: one schema, whatever form the record has (`forms`).

Beside its messages every record may carry a system prompt, tools, switches of its messages in a list, `chat_template_kwargs`
and `documents`. Other keys of a record are ignored, and counted; other keys of a message are kept, and counted. What is
given twice has to be equal. No tools, an empty list and an empty string are the same, and so are no system prompt and an
empty one.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import orjson

from sftprep.containers.record import Record, group_of
from sftprep.errors import ConversationError
from sftprep.exact_json import decode_exactly, decode_odd, has_huge_numbers, refuse_odd
from sftprep.records.forms import (
    BESIDE,
    TOOL_KEYS,
    Form,
    form_of,
    listed_switches,
    read_tools,
    system_prompts,
    template_kwargs,
    wrapped,
)
from sftprep.records.messages import (
    CALLING,
    KNOWN_KEYS,
    READING,
    ROLES,
    SWITCHES,
    Reading,
    kind_of,
    one_weight,
    read_message,
    role_of,
    spelled_role,
    switches_of,
    texts_of,
    weight_of,
)
from sftprep.unread import Unread, count

PLAIN = ("role", "content")  # keys of most messages
_ROLES = frozenset(ROLES)


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
    group: str = field(default="", compare=False)  # of the record it was read from, by `Reading.by`

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


class Turn(NamedTuple):
    """A message, and how the record says it."""

    message: dict[str, Any]
    weight: float | None
    spelled: tuple[Any, ...]  # who speaks: a role as the record spells it, or several of turns that are one
    switches: tuple[str, ...]  # that give the weight
    calls: bool = False  # a turn of calls, and nothing else


class ReadRecord(NamedTuple):
    """What is read of a record, and from where."""

    form: str
    turns: list[Turn]
    system_from: str | None  # the key beside the messages that gives the system prompt
    tools: list[dict[str, Any]] | None
    tools_from: tuple[str, ...]  # keys beside the messages, or on a system message: "system message: tools"
    template_kwargs: dict[str, Any]
    ignored: list[str]  # keys of the record
    passed_on: list[str]  # keys of messages that only the template may know; those of several several times
    group: str  # by `Reading.by`


def parse_conversation(
    data: bytes, reading: Reading = READING, place: tuple[int, ...] = (), unread: Unread | None = None
) -> Conversation:
    """Decode a record and bring it into the one schema.

    place: `Record.place`, to be kept. unread: counts the keys that are not read. Raises ConversationError, whose message
    shows no text of the record, and ConfigError for an unknown format.
    """
    try:
        record = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        read = _read(decode_odd(data, error), reading)
    else:
        plain = _plain(record, reading, place, unread) if type(record) is dict else None
        if plain is not None:
            return plain
        read = _read(record, reading, data)
    if unread is not None:
        count(unread.records, read.ignored)
        count(unread.messages, read.passed_on)
    weights = tuple(turn.weight for turn in read.turns)
    given = weights if any(weight is not None for weight in weights) else None
    messages = [turn.message for turn in read.turns]
    return Conversation(messages, read.tools, read.template_kwargs, given, place, group=read.group)


def _plain(
    record: dict[str, Any], reading: Reading, place: tuple[int, ...], unread: Unread | None
) -> Conversation | None:
    """A record in which nothing is left to do: role and text only. None for any other."""
    for key in reading.plain_keys:
        if key in record:
            break
    else:
        return None
    messages = record[key]
    if type(messages) is not list or not messages or not BESIDE.isdisjoint(record):
        return None
    roles = []
    in_order = True
    try:
        for message in messages:
            role = message["role"]
            if type(message["content"]) is not str or role not in _ROLES or len(message) != 2:
                return None
            roles.append(role)
            for first in message:  # noqa: B007 - in half the time of next(iter(...))
                break
            if first != "role":
                in_order = False
    except (KeyError, TypeError):  # not an object, or not with these keys
        return None
    if unread is not None and len(record) > 1:
        counts = unread.records
        for name, value in record.items():  # as `count` does, in half the time
            if value is not None and name != key:
                counts[name] = counts.get(name, 0) + 1
    group = ""
    if reading.by is not None:
        group = group_of(record.get(reading.by))
        if unread is not None:
            unread.records.pop(reading.by, None)  # which is read
    return Conversation(messages, None, {}, None, place, tuple(roles) if in_order else None, group=group)


def group_in(record: Record, by: str | None) -> str | None:
    """The group of a record that gives no conversation; None where that is not known, or not asked for."""
    if by is None or record.group is not None:
        return record.group
    try:
        read = orjson.loads(record.data)
    except orjson.JSONDecodeError:
        return None
    return group_of(read.get(by)) if type(read) is dict else None


def read_record(data: bytes, reading: Reading) -> ReadRecord:
    """Read a record of any form, with a word on where everything came from. Raises as `parse_conversation`."""
    try:
        return _read(orjson.loads(data), reading, data)
    except orjson.JSONDecodeError as error:
        return _read(decode_odd(data, error), reading)


def _read(record: Any, reading: Reading, data: bytes | None = None) -> ReadRecord:
    """Read what was decoded. data: what orjson decoded it from; None: Python did, so it may hold what is no JSON."""
    if type(record) is list:
        record = {reading.list_key: record}
    if type(record) is not dict:
        raise ConversationError(f"the record is {kind_of(record)}; expected an object, or a list of messages")
    name, form = form_of(record, reading)
    keys = _keys_read(record, form)
    record = _sound(record, keys, data)
    raw, seen = form.read(record)
    if not raw:
        raise ConversationError("no messages; expected at least one")
    listed = listed_switches(record, len(raw))
    turns = [_read_turn(number, each, listed, reading, seen) for number, each in enumerate(raw)]
    tools, tools_from = _tools(record, turns)
    if not reading.keep_calls_apart and any(turn.calls for turn in turns):
        turns = _joined(turns, seen)
    turns, system_from = _with_system(record, turns)
    ignored = [key for key, value in record.items() if value is not None and key not in keys and key != reading.by]
    passed_on = [key for turn in turns for key in turn.message if key not in KNOWN_KEYS]
    return ReadRecord(
        name,
        turns,
        system_from,
        tools,
        tools_from,
        template_kwargs(record),
        ignored,
        passed_on,
        group_of(record.get(reading.by)),
    )


def _keys_read(record: dict[str, Any], form: Form) -> set[str]:
    """The keys of a record that are looked at. A switch beside the messages is one if it is a list; else it is a name that
    anything may have."""
    beside = {key for key in BESIDE.intersection(record) if key not in SWITCHES or type(record[key]) is list}
    return beside.union(form.keys, form.also)


def _sound(record: dict[str, Any], keys: set[str], data: bytes | None) -> dict[str, Any]:
    """The record with exact numbers where it is read, and there neither too deep nor with what is no JSON."""
    read = {key: record[key] for key in keys if key in record}
    if has_huge_numbers(read) and data is not None:
        exact = decode_exactly(data.decode())
        record = exact if type(exact) is dict else dict.fromkeys(record, exact)
        read, data = {key: record[key] for key in read}, None
    if data is None:
        for key, value in read.items():
            for number, each in enumerate(value if type(value) is list else ()):
                refuse_odd(each, f"{key}[{number}]")
            refuse_odd(value, key)
    return record


def _read_turn(number: int, raw: Any, listed: dict[str, list[Any]], reading: Reading, seen: int) -> Turn:
    try:
        message, weight = read_message(raw, reading)
        switches = {} if weight is None else switches_of(raw)
        if listed:
            for switch, values in listed.items():
                if values[number] is not None:
                    switches[f"{switch}[{number}]"] = weight_of(switch, values[number])
            weight = one_weight(switches)
        if weight is None and number < seen and message["role"] == "assistant":
            weight = 0.0
        calls = "tool_calls" in message and role_of(raw, reading) == CALLING
        return Turn(message, weight, (spelled_role(raw),), tuple(switches), calls)
    except ConversationError as error:
        raise ConversationError(f"messages[{number}]: {error}") from error


def _joined(turns: list[Turn], seen: int) -> list[Turn]:
    """Turns of calls are part of the assistant's turn that they follow: one message has text and calls. Not so where what
    they say could not stand behind it, which is reasoning; nor at the end of what is only seen."""
    joined: list[Turn] = []
    for number, turn in enumerate(turns):
        before = joined[-1] if joined else None
        follows = turn.calls and before is not None and before.message["role"] == "assistant" and number != seen
        if before is None or not follows or "reasoning_content" in turn.message:
            joined.append(turn)
            continue
        weights = {1.0 if each.weight is None else each.weight for each in (before, turn)}
        if len(weights) > 1:
            raise ConversationError(
                f"messages[{number}] is one turn with the message before it, and their switches differ; "
                "--keep-calls-apart makes two of them"
            )
        calls = [*before.message.get("tool_calls", ()), *turn.message["tool_calls"]]
        message = {**turn.message, **before.message, "tool_calls": calls}
        weight = turn.weight if before.weight is None else before.weight
        switches = tuple(dict.fromkeys(before.switches + turn.switches))
        joined[-1] = Turn(message, weight, before.spelled + turn.spelled, switches, before.calls)
    return joined


def _with_system(record: dict[str, Any], turns: list[Turn]) -> tuple[list[Turn], str | None]:
    """The turns, with the system prompt that stands beside them as the first; and the key of that."""
    given = system_prompts(record)
    if not given:
        return turns, None
    said = ["".join(texts_of(turn.message)) for turn in turns if turn.message["role"] == "system"]
    if len(given) > 1:
        raise ConversationError(f"{' and '.join(given.values())} are two system prompts that differ")
    [(text, key)] = given.items()
    if not said:
        return [Turn({"role": "system", "content": text}, None, ("system",), ()), *turns], key
    if text not in said:
        raise ConversationError(f"a system prompt is given both by {key} and by a message, and they differ")
    return turns, key


def _tools(record: dict[str, Any], turns: list[Turn]) -> tuple[list[dict[str, Any]] | None, tuple[str, ...]]:
    """The tools, and where they stand: beside the messages, or on a system message, which loses them and, as in MiniMind,
    has functions that are tools as they stand."""
    given = [(key, record.get(key)) for key in TOOL_KEYS]
    for turn in turns:
        role = turn.message["role"]
        if role in ("system", "developer") and len(turn.message) > 2:
            given += [(f"{role} message: {key}", turn.message.pop(key, None)) for key in TOOL_KEYS]
    found = [(where, tools) for where, value in given if value is not None and (tools := read_tools(value, where))]
    if not found:
        return None, ()
    where, tools = found[0]
    if any(wrapped(other) != wrapped(tools) for _, other in found[1:]):
        raise ConversationError(f"tools are given more than once, and differ: {', '.join(each for each, _ in found)}")
    return wrapped(tools) if where == "functions" else tools, tuple(each for each, _ in found)
