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


def _thought(text: str) -> dict[str, str]:
    """Reasoning under the names that templates look for."""
    return dict.fromkeys(("reasoning_content", "thinking", "reasoning"), text)


EXAMINED: dict[str, Messages] = {  # what each asks for -> a conversation in which every text is said once
    "one question": TALK[0],
    "several turns": TALK[1],
    "a system message": [_say("system", "System zero."), *TALK[1]],
    "a developer message": [_say("developer", "Developer zero."), *TALK[0]],
    "a question last": [*TALK[0], _say("user", "Question three?")],
    "the assistant first": [_say("assistant", "Answer zero."), *TALK[0]],
    "two answers in a row": [*TALK[0], _say("assistant", "Answer three.")],
    "an empty answer": [
        *QUESTION,
        _say("assistant", ""),
        _say("user", "Question three?"),
        _say("assistant", "Answer four."),
    ],
    "content in parts": [
        {"role": "user", "content": [{"type": "text", "text": "Part one."}, {"type": "text", "text": "Part two."}]},
        _say("assistant", "Answer two."),
    ],
    "reasoning": [*QUESTION, _say("assistant", "Answer two.", **_thought("Thought two."))],
    "reasoning in several turns": [
        *QUESTION,
        _say("assistant", "Answer two.", **_thought("Thought two.")),
        _say("user", "Question three?"),
        _say("assistant", "Answer four.", **_thought("Thought four.")),
    ],
    "a call of a tool": [*QUESTION, _call("", "Paris"), _result("Result three."), _say("assistant", "Answer four.")],
    "calls with words": [
        *QUESTION,
        _call("Words two.", "Paris", "Rome"),
        _result("Result three."),
        _result("Result four.", 1),
        _say("assistant", "Answer five."),
    ],
}


def with_tools(messages: Messages) -> list[dict[str, Any]] | None:
    """The tools that go with a probe."""
    return [_TOOL] if any("tool_calls" in message for message in messages) else None
