"""One conversation written in every form, spelling and container is read as that conversation."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.errors import ConversationError
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.records.forms import SYSTEM_KEYS
from sftprep.records.messages import CALLING, MASKED, SPELLINGS, SWITCHES, Reading

TEXTS = st.text('ab "\\{[é👍\n', min_size=1, max_size=6)
CALLS = st.builds(
    lambda name, arguments: {"type": "function", "function": {"name": name, "arguments": arguments}},
    TEXTS,
    st.dictionaries(TEXTS, TEXTS | st.integers() | st.none(), max_size=2),
)


@dataclass
class Said:
    """A message as all spellings mean it."""

    role: str
    text: str
    calls: list[Any] = field(default_factory=list)
    weight: float | None = None

    def message(self) -> dict[str, Any]:
        return {"role": self.role, "content": self.text} | ({"tool_calls": self.calls} if self.calls else {})


@st.composite
def talks(draw: st.DrawFn) -> list[Said]:
    talk = [Said("system", draw(TEXTS))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        talk.append(Said("user", draw(TEXTS)))
        if draw(st.booleans()):
            calls = draw(st.lists(CALLS, min_size=1, max_size=3))
            talk.append(Said("assistant", draw(TEXTS | st.just("")), calls))
            talk += [Said("tool", draw(TEXTS)) for _ in calls]
        talk.append(Said("assistant", draw(TEXTS)))
    if draw(st.booleans()):
        for said in talk:
            said.weight = draw(st.sampled_from([None, 0.0, 1.0, 0.5]))
    return talk


@dataclass
class Writer:
    """Writes a talk as a record, its ways drawn."""

    draw: st.DrawFn
    beside: dict[str, Any] = field(default_factory=dict)

    def record(self, talk: list[Said], tools: list[Any]) -> tuple[Any, Reading]:
        """A record, and how it has to be read."""
        talk = self.system(talk)
        messages = [each for said in talk for each in self.messages(said)]
        self.tools(tools, messages)
        self.listed(messages)
        for weight, message in messages:
            if weight is not None:
                self.switch(message, weight)
        return self.contained([message for _, message in messages])

    def system(self, talk: list[Said]) -> list[Said]:
        """A system prompt may stand beside the messages, or on both sides."""
        if talk[0].role != "system" or talk[0].weight is not None or self.draw(st.booleans()):
            return talk
        self.beside[self.draw(st.sampled_from(SYSTEM_KEYS))] = talk[0].text
        return talk if self.draw(st.booleans()) else talk[1:]

    def messages(self, said: Said) -> list[tuple[float | None, dict[str, Any]]]:
        """A message, or turns that are one."""
        wrapped = said.calls
        if not wrapped or self.draw(st.booleans()):
            message = self.spelled(said.role, said.text)
            if wrapped:
                message["tool_calls"] = self.draw(st.sampled_from([wrapped, json.dumps(wrapped)]))
            return [(said.weight, message)]
        turns = [self.spelled(said.role, said.text)] if said.text else []
        bare = [call["function"] for call in wrapped]
        for part in [bare] if self.draw(st.booleans()) else [[call] for call in bare]:
            value = part[0] if len(part) == 1 and self.draw(st.booleans()) else part
            turns.append(self.spelled(CALLING, json.dumps(value)))
        return [(said.weight, turn) for turn in turns]

    def spelled(self, role: str, text: str) -> dict[str, Any]:
        name = self.draw(st.sampled_from((role, *SPELLINGS.get(role, ()))))
        name = self.draw(st.sampled_from([name, name.title(), name.upper()]))
        pairs = [(self.draw(st.sampled_from(["role", "from"])), name)]
        pairs.append((self.draw(st.sampled_from(["content", "value"])), text))
        return dict(reversed(pairs) if self.draw(st.booleans()) else pairs)

    def tools(self, tools: list[Any], messages: list[tuple[float | None, dict[str, Any]]]) -> None:
        """Beside the messages or on the system message, as a list, its JSON, a list of JSON, or one."""
        ways = [tools, json.dumps(tools), [*map(json.dumps, tools)], *([tools[0]] if len(tools) == 1 else [])]
        for place in [self.beside, *([messages[0][1]] if is_system(messages[0][1]) else [])]:
            if tools and (place is not self.beside or self.draw(st.booleans())):
                place[self.draw(st.sampled_from(["tools", "functions"]))] = self.draw(st.sampled_from(ways))
        if tools and not any(key in place for place in (self.beside, messages[0][1]) for key in ("tools", "functions")):
            self.beside["tools"] = tools

    def listed(self, messages: list[tuple[float | None, dict[str, Any]]]) -> None:
        """Switches may stand in a list beside the messages."""
        weights = [weight for weight, _ in messages]
        if any(weight is not None for weight in weights) and self.draw(st.booleans()):
            self.beside[self.draw(st.sampled_from([key for key in SWITCHES if key != MASKED]))] = weights

    def switch(self, message: dict[str, Any], weight: float) -> None:
        name = self.draw(st.sampled_from(SWITCHES))
        if name == MASKED:
            weight = 1 - weight
        message[name] = bool(weight) if weight in (0, 1) and self.draw(st.booleans()) else weight

    def contained(self, messages: list[dict[str, Any]]) -> tuple[Any, Reading]:
        keys = dict.fromkeys(key for message in messages for key in message)
        columns = {key: [message.get(key) for message in messages] for key in keys}
        ways: list[Any] = [messages, json.dumps(messages)]
        if {"role", "from"} & keys.keys():
            ways += [columns, json.dumps(columns)]
        value = self.draw(st.sampled_from(ways))
        key = self.draw(st.sampled_from(["messages", "conversations", "data", "chat", None]))
        if key is None:
            return (messages, Reading()) if not self.beside else ({"messages": value, **self.beside}, Reading())
        named = Reading(messages_key=key) if key == "chat" else Reading()
        others = {
            name: "x" for name in ("chat", "prompt", "answer", "source") if name != key and self.draw(st.booleans())
        }
        return {**others, key: value, **self.beside}, named


def is_system(message: dict[str, Any]) -> bool:
    return (message.get("role") or message["from"]).lower() == "system"


@st.composite
def written(draw: st.DrawFn) -> tuple[Any, Reading, Conversation]:
    talk = draw(talks())
    names = draw(st.lists(TEXTS, max_size=2))
    tools = [{"type": "function", "function": {"name": name, "parameters": {"a": None}}} for name in names]
    record, reading = Writer(draw).record(talk, tools)
    weights = tuple(said.weight for said in talk)
    given = weights if any(weight is not None for weight in weights) else None
    return record, reading, Conversation([said.message() for said in talk], tools or None, {}, given)


@given(written())
def test_a_written_conversation_is_read_as_it_was_meant(case: tuple[Any, Reading, Conversation]) -> None:
    record, reading, expected = case
    assert parse_conversation(json.dumps(record).encode(), reading) == expected


@given(st.lists(TEXTS, min_size=2, max_size=6).filter(lambda texts: len(texts) % 2 == 0))
def test_texts_written_under_any_two_names_are_a_talk(texts: list[str]) -> None:
    said = [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]
    history = [texts[at : at + 2] for at in range(0, len(texts) - 2, 2)]
    records: list[dict[str, Any]] = [{"data": texts}]
    for question, answer in [
        ("instruction", "output"),
        ("question", "answer"),
        ("question", "response"),
        ("query", "response"),
        ("prompt", "response"),
        ("instruction", "response"),
    ]:
        records.append({question: texts[-2], answer: texts[-1], "history": history})
    if not history:
        records.append({"prompt": texts[0], "completion": texts[1]})
    for record in records:
        assert parse_conversation(json.dumps(record).encode()) == Conversation(said, None, {}, None)


TURNS: list[dict[str, Any]] = [
    {"from": "human", "value": "a?"},
    {"from": "gpt", "value": "Let me look."},
    {"from": "function_call", "value": '{"name": "f", "arguments": {}}'},
    {"from": "tool_call", "value": '{"name": "g", "arguments": {}}'},
    {"from": "observation", "value": "4"},
]


def read(*turns: dict[str, Any], reading: Reading | None = None, **beside: Any) -> Conversation:
    data = json.dumps({"conversations": turns, **beside}).encode()
    return parse_conversation(data, reading or Reading())


def test_calls_are_part_of_the_turn_that_they_follow() -> None:
    user, answer, tool = read(*TURNS).messages
    assert (answer["content"], [call["function"]["name"] for call in answer["tool_calls"]]) == (
        "Let me look.",
        ["f", "g"],
    )
    apart = read(*TURNS, reading=Reading(keep_calls_apart=True)).messages
    assert [len(message.get("tool_calls", ())) for message in apart] == [0, 0, 1, 1, 0]
    assert [message["role"] for message in apart] == ["user", "assistant", "assistant", "assistant", "tool"]
    assert (apart[0], apart[-1]) == (user, tool)


def test_what_does_not_follow_is_no_part() -> None:
    user, text, call, _, result = TURNS
    for turns in (
        [user, call, text],
        [user, text, text],
        [call, result, call],
        [user, text, {**call, "reasoning": "Hm."}],
    ):
        assert len(read(*turns).messages) == len(turns)
    prompt = {"prompt": [user, text], "completion": [call]}
    found = parse_conversation(json.dumps(prompt).encode())
    assert (len(found.messages), found.weights) == (3, (None, 0.0, None))


def test_turns_that_are_one_have_one_switch() -> None:
    _, text, call, *_ = TURNS
    assert read({**text, "train": True}, call).weights == (1.0,)
    assert read(text, call, call, loss_mask=[0, 0, 0]).weights == (0.0,)
    for turns, beside in (([{**text, "train": False}, call], {}), ([text, call], {"loss_mask": [0, 1]})):
        with pytest.raises(
            ConversationError, match=r"^messages\[1\] is one turn with .* --keep-calls-apart makes two of"
        ):
            read(*turns, **beside)
        assert read(*turns, reading=Reading(keep_calls_apart=True), **beside).weights in ((0.0, None), (0.0, 1.0))


def test_a_role_that_is_renamed_is_looked_at_everywhere() -> None:
    reading = Reading(role_map={"User": "assistant"})
    talk = {"messages": [{"role": "user", "content": "a"}, {"role": "agent", "content": "b"}]}
    with pytest.raises(ConversationError, match="role 'agent'"):
        parse_conversation(json.dumps(talk).encode(), reading)
    assert [each["role"] for each in read({"role": "user", "content": "a"}, reading=reading).messages] == ["assistant"]


@pytest.mark.parametrize("key", SYSTEM_KEYS)
def test_a_system_prompt_twice_is_once_if_it_is_equal(key: str) -> None:
    parts = [{"type": "text", "text": "Be "}, {"type": "text", "text": "brief."}]
    for content in ("Be brief.", parts):
        found = read({"role": "system", "content": content}, *TURNS, **{key: "Be brief."})
        assert [each["content"] for each in found.messages if each["role"] == "system"] == [content]
        with pytest.raises(ConversationError, match="and they differ"):
            read({"role": "system", "content": content}, *TURNS, **{key: "Be long."})
