"""Every form of record, golden; what is refused."""

from __future__ import annotations

import json
import pickle
import re
from typing import Any

import orjson
import pytest

from sftprep.containers.record import RECORD_KEYS, SAYING_KEYS
from sftprep.errors import ConfigError, ConversationError
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.records.forms import BESIDE, FORMS
from sftprep.records.messages import Reading

USER = {"role": "user", "content": "2 + 2?"}
ANSWER = {"role": "assistant", "content": "4"}
SYSTEM = {"role": "system", "content": "Be brief."}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
PLAIN_TOOL = {"name": "add", "parameters": {}}
CALL = {"name": "add", "arguments": {"a": 2, "b": 2}}
CALLING = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": CALL}]}
RESULT = {"role": "tool", "content": "4"}


def conversation(*messages: dict[str, Any], **rest: Any) -> Conversation:
    values: dict[str, Any] = {"tools": None, "template_kwargs": {}, "weights": None, **rest}
    return Conversation(list(messages), **values)


GOLDEN: list[tuple[str, dict[str, Any], Conversation]] = [
    ("messages", {"messages": [SYSTEM, USER, ANSWER], "id": 7, "source": None}, conversation(SYSTEM, USER, ANSWER)),
    (
        "messages",
        {"messages": [USER, CALLING, RESULT, ANSWER], "tools": [TOOL, PLAIN_TOOL]},
        conversation(USER, CALLING, RESULT, ANSWER, tools=[TOOL, PLAIN_TOOL]),
    ),
    ("messages", {"messages": [USER, ANSWER], "tools": json.dumps([TOOL])}, conversation(USER, ANSWER, tools=[TOOL])),
    ("messages", {"messages": [USER, ANSWER], "tools": "[]"}, conversation(USER, ANSWER)),
    ("conversation", {"conversation": [USER, ANSWER], "model": "m"}, conversation(USER, ANSWER)),
    ("messages", {"messages": [USER, ANSWER], "tools": None}, conversation(USER, ANSWER)),
    (
        "messages",
        {
            "messages": [USER, ANSWER],
            "chat_template_kwargs": {"enable_thinking": False},
            "documents": [{"title": "Sums", "text": "2 + 2 = 4"}],
        },
        conversation(
            USER,
            ANSWER,
            template_kwargs={"enable_thinking": False, "documents": [{"title": "Sums", "text": "2 + 2 = 4"}]},
        ),
    ),
    (
        "messages",
        {"messages": [{**SYSTEM, "tools": [TOOL]}, {**USER, "train": True}, ANSWER, {**ANSWER, "weight": 0.5}]},
        conversation(SYSTEM, USER, ANSWER, ANSWER, tools=[TOOL], weights=(None, 1.0, None, 0.5)),
    ),
    ("conversations", {"conversations": [USER, ANSWER]}, conversation(USER, ANSWER)),
    (
        "conversations",
        {
            "conversations": [
                {**SYSTEM, "tools": json.dumps([TOOL])},
                USER,
                {**CALLING, "tool_calls": json.dumps([CALL])},
            ]
        },
        conversation(SYSTEM, USER, {**CALLING, "tool_calls": [CALL]}, tools=[TOOL]),
    ),
    (
        "conversations",
        {"conversations": [{"functions": [PLAIN_TOOL], **SYSTEM, "tools": ""}, USER, {**ANSWER, "tool_calls": ""}]},
        conversation(SYSTEM, USER, ANSWER, tools=[PLAIN_TOOL]),
    ),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "human", "value": "2 + 2?"},
                {"from": "function_call", "value": json.dumps(CALL)},
                {"from": "observation", "value": "4"},
                {"from": "gpt", "value": "4", "weight": 0},
                {"from": "gpt", "value": "4"},
            ],
            "system": "Be brief.",
            "tools": json.dumps([PLAIN_TOOL]),
        },
        conversation(
            SYSTEM,
            USER,
            CALLING,
            RESULT,
            ANSWER,
            ANSWER,
            tools=[PLAIN_TOOL],
            weights=(None, None, None, None, 0.0, None),
        ),
    ),
    (
        "sharegpt",
        {
            "conversations": [
                {"from": "system", "value": "Be brief."},
                {"from": "user", "value": "2 + 2?"},
                {"from": "function_call", "value": json.dumps([CALL, CALL])},
                {"from": "tool", "value": "4"},
                {"from": "assistant", "value": "4"},
            ],
            "system": "",
            "tools": "",
        },
        conversation(SYSTEM, USER, {**CALLING, "tool_calls": CALLING["tool_calls"] * 2}, RESULT, ANSWER),
    ),
    ("alpaca", {"instruction": "2 + 2?", "input": "", "output": "4"}, conversation(USER, ANSWER)),
    ("alpaca", {"instruction": "2 + 2?", "output": "4"}, conversation(USER, ANSWER)),
    ("alpaca", {"instruction": "", "input": "2 + 2?", "output": "4"}, conversation(USER, ANSWER)),
    (
        "alpaca",
        {"instruction": "Add.", "input": "2 + 2", "output": "4", "system": "Be brief.", "history": [["2 + 2?", "4"]]},
        conversation(SYSTEM, USER, ANSWER, {"role": "user", "content": "Add.\n2 + 2"}, ANSWER),
    ),
    ("prompt-completion", {"prompt": "2 + 2?", "completion": "4"}, conversation(USER, ANSWER)),
    ("question-answer", {"question": "2 + 2?", "answer": "4"}, conversation(USER, ANSWER)),
    ("question-response", {"question": "2 + 2?", "response": "4"}, conversation(USER, ANSWER)),
    ("prompt-response", {"prompt": "2 + 2?", "response": "4"}, conversation(USER, ANSWER)),
    (
        "query-response",
        {"query": "2 + 2?", "response": "4", "history": [["2 + 2?", "4"]], "system_prompt": "Be brief."},
        conversation(SYSTEM, USER, ANSWER, USER, ANSWER),
    ),
    (
        "instruction-response",
        {"instruction": "Add.", "context": "2 + 2", "response": "4"},
        conversation({"role": "user", "content": "Add.\n2 + 2"}, ANSWER),
    ),
    ("data", {"data": ["2 + 2?", "4", "2 + 2?"]}, conversation(USER, ANSWER, USER)),
    ("data", {"data": [USER, ANSWER]}, conversation(USER, ANSWER)),
    ("prompt-completion", {"prompt": [SYSTEM, USER], "completion": [ANSWER]}, conversation(SYSTEM, USER, ANSWER)),
    (
        "prompt-completion",
        {"prompt": [USER, ANSWER, {**ANSWER, "train": True}, USER], "completion": [ANSWER], "tools": [TOOL]},
        conversation(USER, ANSWER, ANSWER, USER, ANSWER, tools=[TOOL], weights=(None, 0.0, 1.0, None, None)),
    ),
]


@pytest.mark.parametrize(("record_format", "record", "expected"), GOLDEN)
def test_every_format_named_or_detected(record_format: str, record: dict[str, Any], expected: Conversation) -> None:
    data = orjson.dumps(record)
    assert parse_conversation(data, Reading(record_format)) == expected
    assert parse_conversation(data) == expected
    assert parse_conversation(b" " + data + b" \r") == expected


def test_the_formats_are_those_of_the_configuration() -> None:
    assert {record_format for record_format, _, _ in GOLDEN} == set(FORMS)
    for record in ({}, {"messages": [USER]}):
        with pytest.raises(ConfigError, match="record format 'csv'; expected auto or one of messages, conversations"):
            parse_conversation(orjson.dumps(record), Reading("csv"))


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        (
            {},
            "has none of messages, conversations, conversation, prompt and completion, instruction and output, question and answer, ",
        ),
        ({"messages": []}, "no messages; expected at least one"),
        ({"messages": None}, "has none of messages"),
        ({"messages": "x"}, "messages is not JSON: "),
        ({"messages": "7"}, "messages is a number; expected a list of messages, or its JSON"),
        ({"messages": {"role": "user"}}, "messages is an object; expected a list"),
        (
            {"messages": {"role": ["user"], "content": []}},
            "messages is an object whose values are not all lists of one",
        ),
        (
            {"messages": {"role": ["user"], "content": "x"}},
            "messages is an object whose values are not all lists of one",
        ),
        ({"messages": [USER, "x"]}, "messages[1]: a string; expected an object"),
        ({"messages": [USER, {"role": "robot", "content": "x"}]}, "messages[1]: role 'robot'; expected one of system"),
        ({"messages": [USER, {"content": "x", "weight": 1}]}, "messages[1]: role is missing"),
        (
            {"messages": [USER], "tools": {"a": 1}},
            "tools is an object; expected a list of tools, a tool, or their JSON",
        ),
        ({"messages": [USER], "tools": "["}, "tools is not JSON: "),
        ({"messages": [USER], "tools": '{"a": 1}'}, "tools is an object; expected a list of tools"),
        ({"messages": [USER], "tools": ["x"]}, "tools[0] is not JSON: "),
        ({"messages": [USER], "tools": [None]}, "tools[0] is null; expected an object"),
        ({"messages": [USER], "chat_template_kwargs": []}, "chat_template_kwargs is a list; expected an object"),
        ({"messages": [USER], "chat_template_kwargs": {"tools": []}}, "chat_template_kwargs may not set tools"),
        ({"messages": [USER], "documents": "x"}, "documents is not a list of objects"),
        ({"messages": [USER], "documents": ["x"]}, "documents is not a list of objects"),
        (
            {"conversations": [{**SYSTEM, "tools": [TOOL], "functions": [PLAIN_TOOL, TOOL]}]},
            "tools are given more than once, and differ: system message: tools, system message: functions",
        ),
        (
            {"conversations": [{**SYSTEM, "tools": [TOOL]}], "tools": [TOOL, TOOL]},
            "tools are given more than once, and differ: tools, system message: tools",
        ),
        ({"conversations": [{**SYSTEM, "tools": {"a": 1}}]}, "system message: tools is an object; expected a list of"),
        (
            {"messages": [{**SYSTEM, "tools": [TOOL]}, {**SYSTEM, "role": "developer", "tools": [TOOL, TOOL]}]},
            "tools are given more than once, and differ: system message: tools, developer message: tools",
        ),
        (
            {"conversations": [{"from": "human", "value": "x"}, {"from": "robot", "value": "x"}]},
            "messages[1]: from 'robot'; expected one of system, developer, user, assistant, tool, or a name",
        ),
        ({"conversations": [{"from": "human", "value": "x"}, 7]}, "messages[1]: a number; expected an object"),
        ({"conversations": [{"from": "human"}]}, "messages[0]: content is missing"),
        ({"conversations": [{"from": "human", "content": 7}]}, "messages[0]: content is a number"),
        ({"conversations": [{"from": "function_call", "value": "add"}]}, "messages[0]: content is not JSON: "),
        (
            {"conversations": [{"from": "function_call", "value": json.dumps(CALL), "tool_calls": [CALL]}]},
            "messages[0]: tool_calls beside a turn of calls",
        ),
        (
            {"conversations": [{"from": "system", "value": "x"}], "system": "y"},
            "a system prompt is given both by system and by a message, and they differ",
        ),
        ({"conversations": [{"from": "human", "value": "x"}], "system": 7}, "system is a number; expected a string"),
        ({"messages": [USER], "system": "x", "system_prompt": "y"}, "system and system_prompt are two system prompts"),
        ({"messages": [USER], "loss_mask": [1, 0]}, "loss_mask has 2 entries for 1 messages"),
        ({"messages": [USER], "loss_mask": ["x"]}, "messages[0]: loss_mask is a string; expected true, false"),
        (
            {"messages": [{**USER, "train": 1}], "loss_mask": [0]},
            "messages[0]: train and loss_mask[0] disagree; expected",
        ),
        ({"data": ["x", 7]}, "messages[0]: a string; expected an object"),
        ({"instruction": "x", "output": 7}, "output is a number; expected a string"),
        ({"instruction": 7, "output": "x"}, "instruction is a number; expected a string"),
        ({"instruction": "", "input": "", "output": "x"}, "instruction and input are all empty"),
        ({"instruction": "x", "output": "y", "history": [["a"]]}, "history[0]: expected a pair of question and answer"),
        ({"instruction": "x", "output": "y", "history": "a"}, "history is a string; expected a list"),
        ({"instruction": "x", "output": "y", "history": [["a", 7]]}, "messages[1]: content is a number"),
        (
            {"prompt": "x", "completion": [ANSWER]},
            "prompt and completion are not both strings or both lists of messages",
        ),
        ({"prompt": [7], "completion": [ANSWER]}, "messages[0]: a number; expected an object"),
        ({"prompt": [], "completion": []}, "no messages; expected at least one"),
    ],
)
def test_what_is_wrong_is_named(record: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConversationError, match="^" + re.escape(complaint)) as caught:
        parse_conversation(orjson.dumps(record))
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize("record_format", sorted(set(FORMS)))
def test_a_named_format_is_not_guessed(record_format: str) -> None:
    for _, record, _ in GOLDEN:
        if any(key not in record for key in FORMS[record_format].keys):
            with pytest.raises(ConversationError, match=r"missing|not both|expected a string"):
                parse_conversation(orjson.dumps(record), Reading(record_format))


def test_errors_show_no_message_text() -> None:
    for _, record, _ in GOLDEN:
        secret = orjson.dumps(record).replace(b"2 + 2", b"S3CRET").replace(b"4", b"S3CRET")
        for length in range(len(secret)):
            with pytest.raises(ConversationError) as caught:
                parse_conversation(secret[:length])
            assert "S3CRET" not in str(caught.value)


def test_every_key_of_a_form_is_a_column_that_is_read() -> None:
    keys = {key for form in FORMS.values() for key in (*form.keys, *form.also)}
    assert keys | BESIDE == RECORD_KEYS
    assert {key for form in FORMS.values() for key in form.keys} - {"data"} == SAYING_KEYS  # data may be around records
