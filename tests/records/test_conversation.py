"""Every record format, golden; what is refused; real files; random and hostile records."""

from __future__ import annotations

import json
import pickle
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import chat_records, damaged_bytes, damaged_records

from sftprep.errors import ConfigError, ConversationError
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.records.files import find_sources
from sftprep.records.forms import FORMS
from sftprep.records.messages import ROLES
from sftprep.records.splits import plan_splits, read_records

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
        conversation({**SYSTEM, "tools": [TOOL]}, USER, ANSWER, ANSWER, weights=(None, 1.0, None, 0.5)),
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
    assert parse_conversation(data, record_format) == expected
    assert parse_conversation(data) == expected
    assert parse_conversation(b" " + data + b" \r") == expected


def test_the_formats_are_those_of_the_configuration() -> None:
    assert {record_format for record_format, _, _ in GOLDEN} == set(FORMS)
    for record in ({}, {"messages": [USER]}):
        with pytest.raises(ConfigError, match="record format 'csv'; expected auto or one of messages, conversations"):
            parse_conversation(orjson.dumps(record), "csv")


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not JSON: "),
        (b'{"messages": [', "not JSON: "),
        (b"{} {}", "not JSON: "),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "not JSON: "),
        (
            b'{"messages": [{"role": "user", "content": "\xed\xa0\x80"}]}',
            "not UTF-8 at byte 43 of the record; expected",
        ),
        (b'{"messages": [{"role": "user", "content": "\xff"}]}', "not UTF-8 at byte 43 of the record; expected"),
        (
            b'{"messages": [{"role": "user", "content": "\xc3\xa9 \xe9"}]}',
            "not UTF-8 at byte 46 of the record; expected",
        ),
        ('{"messages": []}'.encode("utf-16"), "not UTF-8 at byte 0 of the record; expected"),
        (b'{"messages": [{"role": "user", "content": "x", "weight": NaN}]}', "not JSON: "),
        (b'{"messages": [{"role": "user", "content": "x", "weight": 1e999}]}', "not JSON: "),
        (b'{"messages": ' + b"[" * 2000 + b"]" * 2000 + b"}", "not JSON: "),
        (b'{"messages": ' + b"[" * 500 + b"]" * 500 + b"}", "nested deeper than 100 levels"),
        (b"[]", "the record is a list; expected an object"),
        (b"null", "the record is null; expected an object"),
    ],
)
def test_broken_lines_are_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(ConversationError, match="^" + re.escape(complaint)):
        parse_conversation(data)


@pytest.mark.parametrize(
    ("record", "complaint"),
    [
        ({}, "has none of messages, conversations, prompt and completion, instruction and output"),
        ({"messages": [USER], "conversations": [USER]}, "reads as messages and as conversations; name the format"),
        ({"messages": []}, "no messages; expected at least one"),
        ({"messages": None}, "messages is missing; expected a list"),
        ({"messages": "x"}, "messages is a string; expected a list"),
        ({"messages": {"role": "user"}}, "messages is an object; expected a list"),
        ({"messages": [USER, "x"]}, "messages[1]: a string; expected an object"),
        ({"messages": [USER, {"role": "bot", "content": "x"}]}, "messages[1]: role 'bot'; expected one of system"),
        ({"messages": [USER, {"content": "x", "weight": 1}]}, "messages[1]: role is missing"),
        ({"messages": [USER], "tools": {}}, "tools is an object; expected a list or its JSON"),
        ({"messages": [USER], "tools": "["}, "tools is not JSON: "),
        ({"messages": [USER], "tools": "{}"}, "tools is an object; expected a list or its JSON"),
        ({"messages": [USER], "tools": ["x"]}, "tools[0] is a string; expected an object"),
        ({"messages": [USER], "chat_template_kwargs": []}, "chat_template_kwargs is a list; expected an object"),
        ({"messages": [USER], "chat_template_kwargs": {"tools": []}}, "chat_template_kwargs may not set tools"),
        ({"messages": [USER], "documents": "x"}, "documents is not a list of objects"),
        ({"messages": [USER], "documents": ["x"]}, "documents is not a list of objects"),
        (
            {"conversations": [{**SYSTEM, "tools": [TOOL], "functions": [TOOL]}]},
            "tools are given more than once on system messages",
        ),
        (
            {"conversations": [{**SYSTEM, "tools": [TOOL]}], "tools": [TOOL]},
            "tools are given both by the record and by its system message",
        ),
        ({"conversations": [{**SYSTEM, "tools": {"a": 1}}]}, "tools is an object; expected a list or its JSON"),
        (
            {"conversations": [{"from": "human", "value": "x"}, {"from": "bot", "value": "x"}]},
            "conversations[1]: from 'bot'; expected one of system, human, user, gpt, assistant, function_call",
        ),
        ({"conversations": [{"from": "human", "value": "x"}, USER]}, "conversations[1]: from is missing"),
        ({"conversations": [{"from": "human", "value": "x"}, 7]}, "conversations[1]: from is missing"),
        ({"conversations": [{"from": "human"}]}, "conversations[0]: expected from and value"),
        (
            {"conversations": [{"from": "human", "value": "x", "content": "y"}]},
            "conversations[0]: expected from and value",
        ),
        ({"conversations": [{"from": "human", "value": 7}]}, "messages[0]: content is a number"),
        ({"conversations": [{"from": "function_call", "value": "add"}]}, "conversations[0] is not JSON: "),
        ({"conversations": [{"from": "function_call", "value": "{}"}]}, "conversations[0] has no function name"),
        (
            {"conversations": [{"from": "function_call", "value": json.dumps(CALL), "tool_calls": [CALL]}]},
            "conversations[0]: tool_calls beside a function_call",
        ),
        (
            {"conversations": [{"from": "system", "value": "x"}], "system": "y"},
            "a system prompt is given both by the record and by a message",
        ),
        ({"conversations": [{"from": "human", "value": "x"}], "system": 7}, "system is a number; expected a string"),
        ({"instruction": "x", "output": None}, "output is missing; expected a string"),
        ({"instruction": 7, "output": "x"}, "instruction is a number; expected a string"),
        ({"instruction": "", "input": "", "output": "x"}, "instruction and input are both empty"),
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
    for other, record, _ in GOLDEN:
        if other != record_format and {other, record_format} != {"conversations", "sharegpt"}:
            with pytest.raises(ConversationError, match=r"missing|not both"):
                parse_conversation(orjson.dumps(record), record_format)


def test_large_integers_reach_the_template_as_they_stand() -> None:
    data = b'{"messages": [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"id": 36893488147419103232}}]}]}'
    assert parse_conversation(data).messages[0]["tool_calls"][0]["arguments"] == {"id": 36893488147419103232}


def test_errors_show_no_message_text() -> None:
    for _, record, _ in GOLDEN:
        secret = orjson.dumps(record).replace(b"2 + 2", b"S3CRET").replace(b"4", b"S3CRET")
        for length in range(len(secret)):
            with pytest.raises(ConversationError) as caught:
                parse_conversation(secret[:length])
            assert "S3CRET" not in str(caught.value)


JSON = str | int | float | bool | list | dict | None


def assert_sound(found: Conversation) -> None:
    """What the rooms below rely on."""
    assert found.messages
    for message in found.messages:
        assert message["role"] in ROLES
        assert None not in message.values()
        assert type(message.get("content", "")) is str
        assert "content" in message or message["tool_calls"]
        assert type(message.get("tool_calls", [])) is list
        assert type(message.get("reasoning_content", "")) is str
    assert found.tools is None or (found.tools and all(type(tool) is dict for tool in found.tools))
    if found.weights is not None:
        assert len(found.weights) == len(found.messages)
        assert any(weight is not None for weight in found.weights)
        assert all(weight is None or (type(weight) is float and 0 <= weight < 3.5e38) for weight in found.weights)
    assert type(found.template_kwargs) is dict
    values: list[Any] = [found.messages, found.tools, found.template_kwargs]
    while values:
        value = values.pop()
        assert type(value) in get_args(JSON)
        values += value.values() if type(value) is dict else value if type(value) is list else []


@given(chat_records())
def test_valid_records_parse(record: dict[str, Any]) -> None:
    assert_sound(parse_conversation(json.dumps(record).encode()))


def plain_messages() -> st.SearchStrategy[dict[str, str]]:
    texts, roles = st.text(), st.sampled_from(ROLES)
    one_way = st.fixed_dictionaries({"role": roles, "content": texts})
    return one_way | st.fixed_dictionaries({"content": texts, "role": roles})


@given(st.lists(plain_messages(), min_size=1))
def test_plain_messages_come_out_as_they_went_in(messages: list[dict[str, str]]) -> None:
    in_order = all([*message] == ["role", "content"] for message in messages)
    for key in ("messages", "conversations"):
        for data in (orjson.dumps({key: messages}), json.dumps({key: messages}).encode()):
            parsed = parse_conversation(data)
            assert parsed == Conversation(messages, None, {}, None)
            assert parsed.plain_roles == (tuple(message["role"] for message in messages) if in_order else None)
    extended = [{**message, "name": "x", "weight": 1} for message in messages]
    again = parse_conversation(orjson.dumps({"messages": extended}))
    assert again.messages == [{**message, "name": "x"} for message in messages]
    assert again.weights == (1.0,) * len(messages)
    assert again.plain_roles is None


@given(damaged_records(), st.sampled_from(("auto", *FORMS)))
def test_damaged_records_parse_or_are_refused(record: Any, record_format: str) -> None:
    with suppress(ConversationError):
        assert_sound(parse_conversation(json.dumps(record).encode(), record_format))


@given(damaged_bytes(), st.sampled_from(("auto", *FORMS)))
def test_damaged_bytes_parse_or_are_refused(data: bytes, record_format: str) -> None:
    with suppress(ConversationError):
        assert_sound(parse_conversation(data, record_format))


def test_the_real_files_parse_without_an_error(shared_data: Path) -> None:
    infos, splits = plan_splits(find_sources([str(shared_data / "conversations" / "*.json*")]).sources)
    counts: Counter[str] = Counter()
    features: Counter[str] = Counter()
    for split in splits:
        for record in read_records(split, infos):
            found = parse_conversation(record.data)
            assert_sound(found)
            name = infos[record.source].name
            counts[name] += 1
            features[f"{name}: tools"] += found.tools is not None
            features[f"{name}: weights"] += found.weights is not None
            features[f"{name}: calls"] += sum("tool_calls" in message for message in found.messages)
            features[f"{name}: reasoning"] += sum("reasoning_content" in message for message in found.messages)
    assert counts == {
        "alpaca_en_demo.json": 999,
        "alpaca_zh_demo.json": 1000,
        "glaive_toolcall_en_demo.json": 300,
        "glaive_toolcall_zh_demo.json": 300,
        "identity.json": 91,
        "mixed-24k.jsonl.zst": 24_196,
        "reason_tool_use_demo_50.jsonl": 50,
        "v1_sft_demo.jsonl": 500,
    }
    assert +features == {
        "glaive_toolcall_en_demo.json: tools": 191,
        "glaive_toolcall_en_demo.json: calls": 211,
        "glaive_toolcall_zh_demo.json: tools": 200,
        "glaive_toolcall_zh_demo.json: calls": 216,
        "reason_tool_use_demo_50.jsonl: tools": 48,
        "reason_tool_use_demo_50.jsonl: calls": 53,
        "reason_tool_use_demo_50.jsonl: reasoning": 112,
        "v1_sft_demo.jsonl: weights": 500,
    }
