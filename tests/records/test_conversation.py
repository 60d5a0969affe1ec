"""Records that are broken; real files; random and hostile records."""

from __future__ import annotations

import json
import re
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any, get_args

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import chat_records, damaged_bytes, damaged_records, odd_records

from sftprep.containers.files import find_sources
from sftprep.containers.splits import plan_splits, read_records
from sftprep.errors import ConversationError
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.records.forms import BESIDE, FORMS
from sftprep.records.messages import CALLING, KNOWN_KEYS, ROLES, SPELLINGS, Reading
from sftprep.unread import Unread


@pytest.mark.parametrize(
    ("data", "complaint"),
    [
        (b"", "not JSON: "),
        (b'{"messages": [', "not JSON: "),
        (b"{} {}", "not JSON: "),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', "messages[0] holds a lone surrogate"),
        (
            b'{"messages": [{"role": "user", "content": "x"}], "tools": [{"name": "f", "\\udfff": 1}]}',
            "tools[0] holds a lone",
        ),
        (b'{"messages": [{"role": "user", "content": "x"}], "tools": "[{\\"x\\": NaN}]"}', "tools is not JSON: "),
        (
            b'{"messages": [{"role": "user", "content": "x"}], "documents": [{"x": Infinity}]}',
            "documents[0] holds NaN, ",
        ),
        (b'{"messages": [{"role": "user", "content": "x"}], "loss_mask": [NaN]}', "loss_mask[0] holds NaN, "),
        (b'{"messages": [{"role": "user", "content": "x"}], "chat_template_kwargs": {"x": -1e999}}', "chat_template_k"),
        (b'[{"role": "user", "content": "x", "score": NaN}]', "messages[0] holds NaN, "),
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
        (b'{"messages": [{"role": "user", "content": "x", "weight": NaN}]}', "messages[0] holds NaN, "),
        (b'{"messages": [{"role": "user", "content": "x", "weight": 1e999}]}', "messages[0] holds NaN, "),
        (b'{"messages": ' + b"[" * 2000 + b"]" * 2000 + b"}", "nested deeper than 100 levels"),
        (b'{"messages": ' + b"[" * 500 + b"]" * 500 + b"}", "nested deeper than 100 levels"),
        (b"[]", "no messages; expected at least one"),
        (b"null", "the record is null; expected an object, or a list of messages"),
    ],
)
def test_broken_lines_are_refused(data: bytes, complaint: str) -> None:
    with pytest.raises(ConversationError, match="^" + re.escape(complaint)):
        parse_conversation(data)


@pytest.mark.parametrize(
    "odd",
    ["NaN", "[-Infinity]", '{"a": 1e999}', '"\\ud800"', "9" * 5000, "2" * 30, "[" * 90 + "]" * 90, '{"\\ud800": 1}'],
)
def test_what_nobody_reads_is_no_fault(odd: str) -> None:
    talk = [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]
    for data in ({"messages": talk}, {"question": "x", "answer": "y"}, {"conversations": [{**talk[0], "name": "z"}]}):
        plain = json.dumps(data)
        unread = Unread()
        assert parse_conversation(f'{{"score": {odd}, {plain[1:]}'.encode(), unread=unread) == parse_conversation(
            plain.encode()
        )
        assert unread == Unread({"score": 1})


def test_keys_that_are_not_read_are_counted() -> None:
    unread = Unread()
    plain = [{"role": "user", "content": "x"}]
    odd = [
        {"from": "human", "value": "x", "id": 1, "name": "y", "score": None},
        {"role": "gpt", "content": "y", "id": 2, "from": "z"},
    ]
    for record in (
        {"messages": plain, "source": "a", "id": None},
        {"messages": plain, "source": "a", "conversations": odd, "tools": "", "weight": 3},
        {"conversations": odd, "lost": None, "weight": [1, 0], "system_prompt": "", "loss": 0.5, "input": "x"},
        {"instruction": "x", "input": "y", "output": "z", "text": "xyz"},
        [*odd, *plain],
    ):
        parse_conversation(json.dumps(record).encode(), unread=unread)
    with pytest.raises(ConversationError):
        parse_conversation(b'{"messages": [], "lost": 1}', unread=unread)
    assert unread.records == {"source": 2, "conversations": 1, "weight": 1, "loss": 1, "input": 1, "text": 1}
    assert unread.messages == {"id": 4, "from": 2}


def test_large_integers_reach_the_template_as_they_stand() -> None:
    data = b'{"messages": [{"role": "assistant", "tool_calls": [{"name": "f", "arguments": {"id": 36893488147419103233}}]}]}'
    for record in (data, data[len(b'{"messages": ') : -1]):
        assert parse_conversation(record).messages[0]["tool_calls"][0]["arguments"] == {"id": 36893488147419103233}


def test_functions_of_a_legacy_record_are_tools() -> None:
    """Beside the messages, as they were written before there were tools."""
    messages = [{"role": "user", "content": "x"}, {"role": "function", "name": "f", "content": "y"}]
    functions = [{"name": "f", "parameters": {}}, {"type": "function", "function": {"name": "g"}}]
    tools = [{"type": "function", "function": functions[0]}, functions[1]]
    for stated in (functions, json.dumps(functions)):
        found = parse_conversation(json.dumps({"messages": messages, "functions": stated}).encode())
        assert found.tools == tools
        assert found.messages == [messages[0], {"role": "tool", "name": "f", "content": "y"}]
    both = {"messages": messages[:1], "functions": functions, "tools": functions}
    assert parse_conversation(json.dumps(both).encode()).tools == functions
    with pytest.raises(ConversationError, match="tools are given more than once, and differ: tools, functions"):
        parse_conversation(json.dumps({**both, "tools": [{"name": "h"}]}).encode())


JSON = str | int | float | bool | list | dict | None


def assert_sound(found: Conversation) -> None:
    """What the rooms below rely on."""
    assert found.messages
    for message in found.messages:
        assert message["role"] in ROLES
        assert None not in message.values()
        content = message.get("content", "")
        assert type(content) is str or (content and all(type(part["text"]) is str for part in content))
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
        assert_sound(parse_conversation(json.dumps(record).encode(), Reading(record_format)))


@given(damaged_bytes(), st.sampled_from(("auto", *FORMS)))
def test_damaged_bytes_parse_or_are_refused(data: bytes, record_format: str) -> None:
    with suppress(ConversationError):
        assert_sound(parse_conversation(data, Reading(record_format)))


NAMES = {
    *BESIDE,
    *KNOWN_KEYS,
    "from",
    "value",
    "odd",
    *(key for form in FORMS.values() for key in (*form.keys, *form.also)),
}
ROLE_NAMES = {*ROLES, CALLING, *(name for names in SPELLINGS.values() for name in names)}


@given(odd_records(NAMES, ROLE_NAMES), st.sampled_from(("auto", *FORMS)), st.sampled_from([None, "odd"]), st.booleans())
def test_odd_records_parse_or_are_refused(record: Any, record_format: str, key: str | None, apart: bool) -> None:
    reading, unread = Reading(record_format, key, {"odd": "user"}, apart), Unread()
    with suppress(ConversationError):
        assert_sound(parse_conversation(json.dumps(record).encode(), reading, unread=unread))
        assert all(type(name) is str for name in (*unread.records, *unread.messages))


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
