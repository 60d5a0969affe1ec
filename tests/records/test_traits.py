"""What is said of a conversation beside its text."""

from __future__ import annotations

import json
from typing import Any

import pytest

from sftprep.records.conversation import parse_conversation
from sftprep.records.messages import READING
from sftprep.records.traits import Traits, traits_of

ASK, ANSWER = {"role": "user", "content": "2 + 2?"}, {"role": "assistant", "content": "4"}
CALL = {"function": {"name": "add", "arguments": {"a": 2, "b": 2}}}
TOOL = {"type": "function", "function": {"name": "add"}}


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        ({"messages": [ASK, ANSWER]}, Traits(1, tools=False, reasoning=False)),
        ({"messages": [ASK, ANSWER, ASK, ANSWER]}, Traits(2, tools=False, reasoning=False)),
        ({"messages": [ASK, ANSWER] * 100}, Traits(100, tools=False, reasoning=False)),
        ({"messages": [ASK]}, Traits(0, tools=False, reasoning=False)),
        ({"conversations": [{"from": "human", "value": "?"}, {"from": "gpt", "value": "!"}]}, Traits(1, False, False)),
        ({"messages": [ASK, ANSWER], "tools": [TOOL]}, Traits(1, tools=True, reasoning=False)),
        ({"messages": [ASK, ANSWER], "tools": []}, Traits(1, tools=False, reasoning=False)),
        ({"messages": [ASK, {**ANSWER, "tool_calls": [CALL]}]}, Traits(1, tools=True, reasoning=False)),
        ({"messages": [ASK, {**ANSWER, "reasoning": "2, twice"}]}, Traits(1, tools=False, reasoning=True)),
        ({"messages": [ASK, {**ANSWER, "reasoning_content": ""}]}, Traits(1, tools=False, reasoning=False)),
        (
            {"messages": [ASK, {**ANSWER, "content": [{"type": "reasoning", "value": "!"}]}]},
            Traits(1, tools=False, reasoning=True),
        ),
    ],
)
def test_traits(record: dict[str, Any], expected: Traits) -> None:
    assert traits_of(parse_conversation(json.dumps(record).encode(), READING)) == expected
