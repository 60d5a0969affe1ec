"""How the first records of a file are read, by kind: before anything is built, and without a tokenizer."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import chain, islice

import orjson

from sftprep.config import BuildConfig
from sftprep.containers.files import find_sources
from sftprep.containers.record import Record
from sftprep.containers.splits import plan_splits, read_records
from sftprep.errors import ConversationError
from sftprep.masks.weights import message_weights
from sftprep.records.conversation import ReadRecord, Turn, read_record
from sftprep.records.messages import Reading, texts_of

MOST_RECORDS, MOST_KINDS = 10_000, 20  # that are looked at; that are shown
_NUMBER = re.compile(r"\d[\d,]*")


@dataclass(frozen=True, slots=True)
class ExplainedMessage:
    """What becomes of a message."""

    spelled: str  # who speaks, as the record says it; of turns that are one, with + between them
    role: str
    characters: int  # of its content
    calls: int  # of tools
    weight: float  # of the loss; 0: it is not trained
    why: str  # it has that weight


@dataclass(frozen=True, slots=True)
class KindOfRecord:
    """Records that are read alike, or not read for one reason; the facts are of the first."""

    first: str  # file:line
    count: int
    fault: str | None  # why they are not read; the rest but `keys` is empty then
    form: str = ""
    system_from: str | None = None  # the key of a system prompt beside the messages
    tools: int = 0
    tools_from: tuple[str, ...] = ()
    messages: tuple[ExplainedMessage, ...] = ()
    ignored: tuple[str, ...] = ()  # keys of the record
    passed_on: tuple[str, ...] = ()  # keys of messages that only the template may know
    keys: tuple[str, ...] = ()  # of a record that is not read


@dataclass(frozen=True, slots=True)
class Explanation:
    """What is found in the first records."""

    records: int  # that were looked at
    read: int  # of these
    kinds: tuple[KindOfRecord, ...]  # in the order of the first of each
    further_kinds: int


def explain(config: BuildConfig) -> Explanation:
    """Read the first MOST_RECORDS records of the inputs. Raises InputError where they cannot be read."""
    sources, splits = plan_splits(find_sources(config.inputs).sources, selection=config.selection)
    records = chain.from_iterable(read_records(split, sources, config.selection) for split in splits)
    kinds: dict[object, KindOfRecord] = {}
    for record in islice(records, MOST_RECORDS):
        key, kind = _look(record, f"{sources[record.source].name}:{record.line}", config)
        kinds[key] = replace(kinds[key], count=kinds[key].count + 1) if key in kinds else kind
    seen = sum(kind.count for kind in kinds.values())
    read = sum(kind.count for kind in kinds.values() if kind.fault is None)
    return Explanation(seen, read, tuple(islice(kinds.values(), MOST_KINDS)), max(len(kinds) - MOST_KINDS, 0))


def _look(record: Record, where: str, config: BuildConfig) -> tuple[object, KindOfRecord]:
    """What is found out about a record, and what it has in common with others of its kind."""
    read, fault = _read(record, config.reading)
    if read is None:
        keys = _keys(record)
        return (_NUMBER.sub("0", fault), frozenset(keys)), KindOfRecord(where, 1, fault, keys=keys)
    ignored, passed_on = tuple(read.ignored), tuple(dict.fromkeys(read.passed_on))
    kind = KindOfRecord(
        where,
        count=1,
        fault=None,
        form=read.form,
        system_from=read.system_from,
        tools=len(read.tools or ()),
        tools_from=read.tools_from,
        messages=tuple(_messages(read.turns, config)),
        ignored=ignored,
        passed_on=passed_on,
    )
    spelled = frozenset((turn.spelled, turn.message["role"]) for turn in read.turns)
    switches = frozenset(_NUMBER.sub("0", switch) for turn in read.turns for switch in turn.switches)
    names = frozenset(ignored), frozenset(passed_on)
    return (read.form, read.system_from, read.tools_from, spelled, switches, *names), kind


def _read(record: Record, reading: Reading) -> tuple[ReadRecord | None, str]:
    """What is read, or None and why nothing is."""
    if record.error is not None:
        return None, record.error
    try:
        return read_record(record.data, reading), ""
    except ConversationError as error:
        return None, str(error)


def _keys(record: Record) -> tuple[str, ...]:
    """What a record has, if it is an object."""
    with suppress(orjson.JSONDecodeError):
        value = orjson.loads(record.data)
        return tuple(value) if type(value) is dict else ()
    return ()


def _messages(turns: list[Turn], config: BuildConfig) -> Iterator[ExplainedMessage]:
    roles = [turn.message["role"] for turn in turns]
    weights = message_weights(roles, config.trained, [turn.weight for turn in turns])
    for turn, weight in zip(turns, weights.tolist(), strict=True):
        if turn.switches:
            why = ", ".join(turn.switches)
        elif turn.weight is not None:
            why = "part of the prompt"
        else:
            why = f"--train-on {config.train_on}"
        message = turn.message
        characters = sum(map(len, texts_of(message)))
        calls = len(message.get("tool_calls", ()))
        yield ExplainedMessage(" + ".join(turn.spelled), message["role"], characters, calls, weight, why)
