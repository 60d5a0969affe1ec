"""One message at a time: content parts, tool calls, reasoning, weights, and what is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from tokenizers import Tokenizer
from tokenizers.models import BPE
from transformers import PreTrainedTokenizerFast

from sftprep.errors import ConversationError
from sftprep.records.messages import CALLING, ROLES, SPELLINGS, SWITCHES, Reading, read_message, texts_of

CALL = {"name": "add", "arguments": {"a": 1}}
WRAPPED = {"type": "function", "function": CALL}


def assistant(**keys: Any) -> dict[str, Any]:
    return {"role": "assistant", **keys}


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ({"role": "user", "content": "hi"}, {"role": "user", "content": "hi"}),
        ({"content": "", "name": "bob", "role": "user"}, {"content": "", "name": "bob", "role": "user"}),
        (
            {"role": "tool", "content": "4", "tool_call_id": "x", "tool_calls": None, "odd": {"a": None}},
            {"role": "tool", "content": "4", "tool_call_id": "x", "odd": {"a": None}},
        ),
        (assistant(content=None, tool_calls=[WRAPPED]), assistant(tool_calls=[WRAPPED])),
        (assistant(content="", tool_calls=[CALL]), assistant(content="", tool_calls=[CALL])),
        (
            assistant(content="", tool_calls='[{"name": "f", "arguments": "{}"}]'),
            assistant(content="", tool_calls=[{"name": "f", "arguments": "{}"}]),
        ),
        (assistant(content="x", tool_calls=""), assistant(content="x")),
        (assistant(content="x", tool_calls=[]), assistant(content="x")),
        (
            assistant(content="x", tool_calls=[{"function": {"name": "f"}}]),
            assistant(content="x", tool_calls=[{"function": {"name": "f"}}]),
        ),
        ({"role": "user", "content": "\ufdd0\x00"}, {"role": "user", "content": "\ufdd0\x00"}),
    ],
)
def test_a_message_keeps_its_own_keys_and_loses_nulls(raw: dict[str, Any], expected: dict[str, Any]) -> None:
    message, weight = read_message(raw)
    assert list(message.items()) == list(expected.items())
    assert weight is None


@pytest.mark.parametrize(
    ("role", "spelling"), [(role, each) for role in ROLES for each in (role, *SPELLINGS.get(role, ()))]
)
def test_roles_in_any_known_spelling(role: str, spelling: str) -> None:
    for spelled in (spelling, spelling.title(), spelling.upper()):
        expected = ({"role": role, "content": "x"}, None)
        for speaker in ("role", "from"):
            for said in ("content", "value"):
                assert read_message({speaker: spelled, said: "x"}) == expected
        assert read_message({"role": spelled, "from": "web", "content": "x", "value": 7})[0] == {
            **expected[0],
            "from": "web",
            "value": 7,
        }
        assert read_message({"role": None, "from": spelled, "content": None, "value": "x"}) == expected


@pytest.mark.parametrize("role", [CALLING, *SPELLINGS[CALLING]])
@pytest.mark.parametrize("calls", [CALL, WRAPPED, [CALL, WRAPPED]])
def test_a_turn_of_calls_is_the_assistants(role: str, calls: Any) -> None:
    expected = assistant(content="", tool_calls=[WRAPPED] * (len(calls) if type(calls) is list else 1))
    for said in (calls, json.dumps(calls)):
        assert read_message({"role": role, "content": said})[0] == expected
        assert read_message({"value": said, "from": role.upper()})[0] == expected


def test_a_named_role_wins_over_the_known_ones() -> None:
    reading = Reading(role_map={"Agent": "assistant", "gpt": "user", "act": CALLING})
    assert read_message({"from": "agent", "value": "x"}, reading)[0] == assistant(content="x")
    assert read_message({"from": "GPT", "value": "x"}, reading)[0] == {"role": "user", "content": "x"}
    assert read_message({"from": "act", "value": CALL}, reading)[0] == assistant(content="", tool_calls=[WRAPPED])


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_goes_by_all_names_that_templates_read(key: str) -> None:
    message, _ = read_message({"role": "assistant", "content": "4", key: "2 + 2"})
    kept = {"reasoning": "2 + 2"} if key == "reasoning" else {}
    assert message == {
        "role": "assistant",
        "content": "4",
        "thinking": "2 + 2",
        "reasoning_content": "2 + 2",
        **kept,
    }


def test_reasoning_is_aliased_as_transformers_does() -> None:
    """Seen through a template that prints every message as it gets it."""
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(BPE()))
    printing = "{% for message in messages %}{{ message | tojson }}\n{% endfor %}"
    raws: list[dict[str, Any]] = [
        assistant(content="x", thinking="a", reasoning="b"),
        assistant(reasoning_content="a", content="x", thinking="b", name=None),
        assistant(content="x", reasoning="c", reasoning_content=None),
        assistant(content=None, tool_calls=[WRAPPED]),
    ]
    cleaned = [read_message(raw)[0] for raw in raws]
    lines = tokenizer.apply_chat_template(raws, chat_template=printing, tokenize=False).splitlines()
    assert [list(json.loads(line).items()) for line in lines] == [list(message.items()) for message in cleaned]
    again = tokenizer.apply_chat_template(cleaned, chat_template=printing, tokenize=False)
    assert again.splitlines() == lines


def test_openai_text_parts_stay_as_they_are() -> None:
    parts = [{"type": "text", "text": "one "}, {"type": "text", "text": "two", "cache_control": {}}]
    assert read_message({"role": "user", "content": parts})[0] == {"role": "user", "content": parts}
    assert read_message({"role": "user", "content": []})[0] == {"role": "user", "content": ""}


@pytest.mark.parametrize("other", [{"type": "text", "value": "two"}, {"type": "reasoning", "text": "Hm"}])
def test_parts_that_no_template_knows_are_joined(other: dict[str, str]) -> None:
    message, _ = read_message(assistant(content=[{"type": "text", "text": "one "}, other]))
    assert message["content"] == "one " + other.get("value", "")
    assert message.get("reasoning_content") == other.get("text")


def test_texts_of_content_of_any_kind() -> None:
    assert texts_of({"role": "user", "content": "one"}) == ["one"]
    assert texts_of({"role": "user", "content": [{"type": "text", "text": "one"}, {"type": "text", "text": ""}]}) == [
        "one",
        "",
    ]
    assert texts_of({"role": "assistant", "content": None}) == texts_of({"role": "assistant"}) == []


@pytest.mark.parametrize("content", [{}, {"content": None}, {"content": ""}, {"content": "I call."}])
def test_a_legacy_call_is_a_tool_call(content: dict[str, Any]) -> None:
    call = {"name": "f", "arguments": '{"a": 1}'}
    message, _ = read_message(assistant(**content, function_call=call, name=None))
    said = {key: value for key, value in content.items() if value is not None}
    assert message == {"role": "assistant", **said, "tool_calls": [{"type": "function", "function": call}]}


def test_arguments_stay_an_object_or_json() -> None:
    for arguments in ('{"a": 1}', ' {"a" : 1.50}\n', "{}", {"a": None}, {}):
        calls = [{"name": "f", "arguments": arguments}, {"type": "function", "function": {"name": "g"}}]
        assert read_message(assistant(tool_calls=calls))[0]["tool_calls"] == calls


def test_llama_factory_parts_become_reasoning_and_tool_calls() -> None:
    parts = [
        {"type": "reasoning", "value": "I need "},
        {"type": "reasoning", "value": "two calls."},
        {"type": "text", "value": "Wait."},
        {"type": "tool_call", "value": '{"name": "f", "arguments": {"n": 123456789012345678901234567890}}'},
        {"type": "tool_call", "value": '{"name": "g", "arguments": "{\\"a\\": 1}", "id": "7"}'},
    ]
    message, weight = read_message({"content": parts, "role": "assistant", "loss_weight": 0.5})
    assert list(message.items()) == [
        ("thinking", "I need two calls."),
        ("content", "Wait."),
        ("role", "assistant"),
        ("reasoning_content", "I need two calls."),
        (
            "tool_calls",
            [
                {"type": "function", "function": {"name": "f", "arguments": {"n": 123456789012345678901234567890}}},
                {"type": "function", "function": {"name": "g", "arguments": '{"a": 1}', "id": "7"}},
            ],
        ),
    ]
    assert weight == 0.5


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"train": True}, 1.0),
        ({"train": False}, 0.0),
        ({"weight": 2}, 2.0),
        ({"loss_weight": 0.25}, 0.25),
        ({"trainable": False, "loss": 0}, 0.0),
        ({"loss": None}, None),
        ({"masked": True}, 0.0),
        ({"masked": 0, "train": True}, 1.0),
        *[
            ({name: value}, float(value))
            for name in SWITCHES
            if name != "masked"
            for value in (0, 1, True, False, 0.25)
        ],
        ({"weight": 3.4028234e38}, 3.4028234e38),
    ],
)
def test_weights_are_taken_out_of_the_message(given: dict[str, Any], expected: float | None) -> None:
    message, weight = read_message({"role": "user", "content": "x", **given})
    assert message == {"role": "user", "content": "x"}
    assert weight == expected
    assert weight is None or type(weight) is float


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ("hello", "a string; expected an object with role and content"),
        ({"content": "x"}, "role is missing; expected one of system, developer, user, assistant, tool"),
        (
            {"role": "robot", "content": "x"},
            "role 'robot'; expected one of system, developer, user, assistant, tool, or",
        ),
        ({"from": "robot", "value": "x"}, "from 'robot'; expected one of system"),
        ({"role": "b" * 99, "content": "x"}, "role is a string of 99 characters; expected one of"),
        ({"role": "my secret", "content": "x"}, "role is a string of 9 characters; expected one of"),
        ({"role": "gptbot_4.1-x", "content": "x"}, "role 'gptbot_4.1-x'; expected one of"),
        ({"role": ["user"], "content": "x"}, "role is a list; expected one of"),
        ({"role": "user"}, "content is missing; only an assistant message with tool_calls may do without"),
        ({"role": "user", "content": None, "tool_calls": [CALL]}, "content is missing"),
        (assistant(), "content is missing"),
        (assistant(tool_calls=[]), "content is missing"),
        (assistant(reasoning_content="x"), "content is missing"),
        (assistant(content=7), "content is a number; expected a string or a list of parts"),
        (assistant(content={"text": "x"}), "content is an object"),
        (assistant(content=["x"]), "content[0] is a string; expected an object with type and text"),
        (assistant(content=[{"text": "x"}]), "content[0]: type is missing; expected text"),
        (assistant(content=[{"type": "text"}]), "content[0] is null; expected a string"),
        (
            assistant(content=[{"type": "text", "text": "x"}, {"type": "image"}]),
            "content[1]: type 'image'; expected text",
        ),
        ({"role": "user", "content": [{"type": "reasoning", "value": "x"}]}, "content[0]: type 'reasoning'; expected"),
        ({"role": "user", "content": [{"type": "tool_call", "value": "{}"}]}, "content[0]: type 'tool_call'; expected"),
        (assistant(content=[{"type": "tool_call", "value": "{"}]), "content[0] is not JSON: "),
        (assistant(content=[{"type": "tool_call", "value": "[]"}]), "content[0] holds no call"),
        (assistant(content=[{"type": "tool_call", "value": "{}"}]), "content[0] has no function name"),
        (assistant(content=[{"type": "tool_call", "value": '{"name": "f"}'}]), "content[0] has no arguments"),
        (
            assistant(content=[{"type": "reasoning", "value": "x"}], reasoning_content="y"),
            "reasoning_content is given in the content's parts and beside them",
        ),
        (
            assistant(content=[{"type": "tool_call", "value": CALL}], tool_calls=[CALL]),
            "tool_calls is given in the content's parts and beside them",
        ),
        (assistant(content="", tool_calls="[{"), "tool_calls is not JSON: "),
        (assistant(content="", tool_calls='["\\ud800"]'), "tool_calls is not JSON: "),
        (assistant(content="", tool_calls={"a": 1}), "tool_calls is an object; expected a list"),
        (assistant(content="", tool_calls=True), "tool_calls is a boolean; expected a list"),
        (assistant(content="", tool_calls=[CALL, "x"]), "tool_calls[1] has no function name"),
        (assistant(content="", tool_calls=[{"function": {"name": 1}}]), "tool_calls[0] has no function name"),
        (
            assistant(content="", tool_calls=[{"name": "f", "arguments": [1]}]),
            "tool_calls[0]: arguments is a list; expected an object or its JSON",
        ),
        (
            assistant(tool_calls=[CALL, {"function": {"name": "f", "arguments": '{"city": "Os'}}]),
            "tool_calls[1]: arguments is not JSON: ",
        ),
        (
            assistant(tool_calls=[{"name": "f", "arguments": " "}]),
            "tool_calls[0]: arguments is an empty string; expected an object or its JSON",
        ),
        (
            assistant(tool_calls=[{"name": "f", "arguments": "[1]"}]),
            "tool_calls[0]: arguments is a list; expected an object or its JSON",
        ),
        (assistant(function_call={"name": "f", "arguments": ""}), "function_call: arguments is an empty string"),
        (assistant(function_call="f"), "function_call has no function name"),
        (assistant(function_call=CALL, tool_calls=[CALL]), "function_call beside tool_calls; expected one of them"),
        (assistant(content="x", thinking=["a"]), "thinking is a list; expected a string"),
        (assistant(content="x", weight=-1), "weight is -1; expected true, false, or a weight of 0 or more"),
        (assistant(content="x", weight=10**400), "weight is a number; expected true, false"),
        (assistant(content="x", weight=1e39), "weight is 1e+39; expected true, false"),
        (assistant(content="x", weight=float("nan")), "weight is nan; expected true, false"),
        (assistant(content="x", train="no"), "train is a string; expected true, false"),
        (assistant(content="x", masked=2), "masked is 2; expected true or false"),
        (assistant(content="x", masked="1"), "masked is a string; expected true or false"),
        (assistant(content="x", masked=True, train=True), "train and masked disagree; expected one weight"),
        ({"from": "gpt", "value": 7}, "content is missing; only an assistant message"),
        ({"from": "function_call", "value": "add"}, "content is not JSON: "),
        ({"role": "tool_call", "content": "{}"}, "content has no function name"),
        ({"role": "tool_call", "content": [CALL], "tool_calls": [CALL]}, "tool_calls beside a turn of calls"),
        (assistant(content="x", train=True, loss=0.5), "train and loss disagree; expected one weight"),
    ],
)
def test_what_is_wrong_is_named(raw: Any, complaint: str) -> None:
    with pytest.raises(ConversationError) as caught:
        read_message(raw)
    assert str(caught.value).startswith(complaint)
