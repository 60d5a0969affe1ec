"""Conversations for finding out how a chat template writes turns."""

from __future__ import annotations

from typing import Any

Messages = list[dict[str, Any]]
_TOOL = {
    "type": "function",
    "function": {
        "name": "probe_function",
        "description": "Probe.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
QUESTION: Messages = [{"role": "user", "content": "Question one?"}]


def _say(role: str, text: str, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": text, **more}


def _call(text: str, *cities: str) -> dict[str, Any]:
    calls = [
        {
            "type": "function",
            "id": f"probe0{number:03}",
            "function": {"name": "probe_function", "arguments": {"city": city}},
        }
        for number, city in enumerate(cities)
    ]
    return {"role": "assistant", "content": text, "tool_calls": calls}


def _result(text: str, number: int = 0) -> dict[str, Any]:
    return {"role": "tool", "name": "probe_function", "tool_call_id": f"probe0{number:03}", "content": text}


_THOUGHT = {"reasoning_content": "Thought here.", "thinking": "Thought here."}
TALK: list[Messages] = [  # nothing but roles and text
    [*QUESTION, _say("assistant", "Answer two.")],
    [*QUESTION, _say("assistant", "Answer two."), _say("user", "Question three?"), _say("assistant", "Answer four.")],
    [_say("system", "System zero."), *QUESTION, _say("assistant", "Answer two."), _say("user", "Question three?")],
]
ONE_TOOL: list[Messages] = [
    [*QUESTION, _call("", "Paris"), _result("Result two."), _say("assistant", "Answer three.")],
]
LAST_CALL = ONE_TOOL[0][:2]
OTHERS: list[Messages] = [
    [
        *QUESTION,
        _say("assistant", "Answer two.", **_THOUGHT),
        _say("user", "Next?"),
        _say("assistant", "Four.", **_THOUGHT),
    ],
    [
        *QUESTION,
        _call("Calling now.", "Paris", "Rome"),
        _result("Result two."),
        _result("Three.", 1),
        _say("assistant", "End."),
    ],
]


def with_tools(messages: Messages) -> list[dict[str, Any]] | None:
    """The tools that go with a probe."""
    return [_TOOL] if any("tool_calls" in message for message in messages) else None
