"""A key is that of what a conversation says, however that was written down."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given, reject
from hypothesis import strategies as st
from strategies import chat_records

from sftprep.errors import ConversationError
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.sets.contents import content_key, near_key, training_key


def reordered(value: Any) -> Any:
    """The same with the keys of all objects the other way round."""
    if isinstance(value, dict):
        return {key: reordered(each) for key, each in reversed(value.items())}
    return list(map(reordered, value)) if isinstance(value, list) else value


def read(record: dict[str, Any]) -> Conversation:
    try:
        return parse_conversation(json.dumps(record).encode(), place=(0, 1, 0))
    except ConversationError:  # turns that are one and differ in their switches
        reject()


def said_by(conversation: Conversation) -> Any:
    return conversation.messages, conversation.tools, conversation.template_kwargs


@given(chat_records(), st.integers(0, 99))
def test_the_same_whatever_its_place_and_the_order_of_its_keys(record: dict[str, Any], line: int) -> None:
    first = read(record)
    other = {**record, "unread": line}
    second = parse_conversation(json.dumps(reordered(other), indent=1).encode(), place=(3, line, 7))
    assert first == second
    assert content_key(first) == content_key(second)
    assert training_key(first) == training_key(second)
    assert near_key(first) == near_key(second)


@given(chat_records(), chat_records())
def test_another_for_whoever_says_something_else(one: dict[str, Any], other: dict[str, Any]) -> None:
    first, second = read(one), read(other)
    same = json.dumps(said_by(first), sort_keys=True) == json.dumps(
        said_by(second), sort_keys=True
    )  # 1 is not 1.0 here
    assert (content_key(first) == content_key(second)) == same


def talk(*texts: str, **more: Any) -> Conversation:
    roles = ("user", "assistant")
    messages = [{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)]
    return replace(Conversation(messages, None, {}, None), **more)


FORMS = [
    {"messages": [{"role": "user", "content": "Who?"}, {"role": "assistant", "content": "Me."}]},
    {"conversations": [{"content": "Who?", "role": "user"}, {"role": "assistant", "content": "Me."}], "tools": []},
    {"conversations": [{"from": "human", "value": "Who?"}, {"from": "gpt", "value": "Me."}], "system": ""},
    {"instruction": "Who?", "output": "Me.", "input": ""},
    {"prompt": "Who?", "completion": "Me."},
]


@pytest.mark.parametrize("record", FORMS)
def test_the_same_in_every_form(record: dict[str, Any]) -> None:
    found = parse_conversation(json.dumps(record).encode())
    assert content_key(found) == content_key(talk("Who?", "Me."))
    assert training_key(found) == training_key(talk("Who?", "Me."))


def test_tools_and_variables_are_said_too() -> None:
    tools = [{"name": "add"}]
    said = [talk("a", "b"), talk("a", "b", tools=tools), talk("a", "b", template_kwargs={"x": 1}), talk("b", "a")]
    assert len(set(map(content_key, said))) == 4
    assert content_key(talk("a", "b", tools=[])) == content_key(said[0])


def test_weights_are_no_part_of_what_is_said_but_of_what_is_trained() -> None:
    plain, weighted = talk("a", "b"), talk("a", "b", weights=(None, 0.0))
    assert content_key(plain) == content_key(weighted)
    assert near_key(plain) == near_key(weighted)
    assert training_key(plain) != training_key(weighted)


@pytest.mark.parametrize(
    ("one", "other"),
    [(2**64, 2**64 + 1), (None, float("inf")), (float("inf"), -float("inf")), (1, 1.0), ("null", None), (True, "true")],
)
def test_values_that_are_not_the_same(one: Any, other: Any) -> None:
    """orjson would write null for what is infinite, and refuses integers of more than 64 bits."""
    first, second = (talk("émigré", "null", template_kwargs={"x": each}) for each in (one, other))
    assert content_key(first) != content_key(second)
    assert content_key(first) == content_key(talk("émigré", "null", template_kwargs={"x": one}))


@given(st.lists(st.text(max_size=9), min_size=2, max_size=2), st.sampled_from([" ", "\n", "\t ", "\u3000", "\xa0\r\n"]))
def test_near_is_the_same_but_for_white_space_and_case(texts: list[str], blank: str) -> None:
    changed = [blank + text.upper().replace(" ", blank) + blank for text in texts]
    assume(
        [text.upper().casefold() for text in texts] == [text.casefold() for text in texts]
    )  # not so for a few letters
    assert near_key(talk(*changed)) == near_key(talk(*texts))


def test_near_is_not_the_same_without_a_blank() -> None:
    assert near_key(talk("in to", "Straße")) == near_key(talk("In  to", "STRASSE"))
    assert near_key(talk("into", "x")) != near_key(talk("in to", "x"))
