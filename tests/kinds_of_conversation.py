"""About sixty kinds of conversation, each small: what chat templates and masks are tried with.

Every message says other words than the rest, so that whose text is whose can be seen from the text alone; where a kind
is about equal or wordless messages, that is its name.
"""

from __future__ import annotations

import json
from typing import Any

Record = dict[str, Any]  # as a line of a JSONL file has it: messages, and tools if there are any


def _function(name: str, **properties: str) -> dict[str, Any]:
    parameters = {
        "type": "object",
        "properties": {key: {"type": kind, "description": f"The {key}."} for key, kind in properties.items()},
        "required": list(properties),
    }
    return {"type": "function", "function": {"name": name, "description": f"Does {name}.", "parameters": parameters}}


TOOLS = [_function("find_weather", city="string"), _function("add_numbers", first="number", second="number")]
QUESTION = "Quartz shines where?"
ANSWER = "Granite hides it."
CLOSING = "Closing basalt remark."


def _say(role: str, content: Any, **more: Any) -> dict[str, Any]:
    return {"role": role, "content": content, **more}


def _user(content: Any = QUESTION) -> dict[str, Any]:
    return _say("user", content)


def _answer(content: Any = ANSWER, **more: Any) -> dict[str, Any]:
    return _say("assistant", content, **more)


def _calls(
    *given: Any, name: str = "find_weather", content: Any = "", first_id: int = 1, **more: Any
) -> dict[str, Any]:
    calls = [
        {"type": "function", "id": f"call{number:05}", "function": {"name": name, "arguments": arguments}}
        for number, arguments in enumerate(given, first_id)
    ]
    return {"role": "assistant", "content": content, "tool_calls": calls, **more}


def _result(content: str = "Drizzle marble result.", number: int = 1, name: str = "find_weather") -> dict[str, Any]:
    return {"role": "tool", "name": name, "tool_call_id": f"call{number:05}", "content": content}


def _text(*texts: str) -> list[dict[str, str]]:
    return [{"type": "text", "text": text} for text in texts]


def _talk(*messages: dict[str, Any]) -> Record:
    return {"messages": list(messages)}


def _with_tools(*messages: dict[str, Any]) -> Record:
    return {"messages": list(messages), "tools": TOOLS}


def _one(answer: Any, question: Any = QUESTION, **more: Any) -> Record:
    """One question, one answer."""
    return _talk(_user(question), _answer(answer, **more))


_SYSTEM = _say("system", "Speak of minerals.")
_NEXT = (_user("Second feldspar question?"), _answer("Second gneiss answer."))
_CITY = {"city": "Paris"}
_CALL, _RESULT, _END = _calls(_CITY), _result(), _answer(CLOSING)
_THOUGHT = {"reasoning_content": "Ponder zircon first."}
_LATER = {"reasoning_content": "Weigh topaz later."}

KINDS: dict[str, Record] = {
    # -- who speaks when
    "one_turn": _one(ANSWER),
    "two_turns": _talk(_user(), _answer(), *_NEXT),
    "many_turns": _talk(
        *(_say(("user", "assistant")[turn % 2], f"Remark number{turn} about pebble{turn}.") for turn in range(10))
    ),
    "system": _talk(_SYSTEM, _user(), _answer()),
    "system_two_turns": _talk(_SYSTEM, _user(), _answer(), *_NEXT),
    "system_later": _talk(_user(), _answer(), _SYSTEM, *_NEXT),
    "developer": _talk(_say("developer", "Obey mineral rules."), _user(), _answer()),
    "two_answers_in_a_row": _talk(_user(), _answer(), _answer("Another slate answer.")),
    "two_answers_in_a_row_then_more": _talk(_user(), _answer(), _answer("Another slate answer."), *_NEXT),
    "two_questions_in_a_row": _talk(_user(), _user("Besides, schist?"), _answer()),
    "assistant_first": _talk(_answer("Welcome to pumice."), _user(), _answer()),
    "assistant_first_after_system": _talk(_SYSTEM, _answer("Welcome to pumice."), _user(), _answer()),
    "assistant_alone": _talk(_answer("Welcome to pumice.")),
    "trailing_user": _talk(_user(), _answer(), _user("Unanswered feldspar question?")),
    "trailing_user_after_system": _talk(_SYSTEM, _user(), _answer(), _user("Unanswered feldspar question?")),
    # -- what an answer is made of
    "empty_answer": _one(""),
    "empty_answer_inside": _talk(_user(), _answer(""), *_NEXT),
    "blank_answer": _one("   "),
    "one_word": _one("Yes"),
    "leading_blanks": _one("  Indented granite."),
    "leading_newlines": _one("\n\nLowered granite."),
    "trailing_blanks": _talk(_user(), _answer("Trailing granite.  "), *_NEXT),
    "trailing_newlines": _talk(_user(), _answer("Trailing granite.\n\n"), *_NEXT),
    "blanks_on_both_sides": _talk(_user("  Padded quartz? "), _answer("\n Padded granite. \n"), *_NEXT),
    "empty_question": _one(ANSWER, ""),
    "empty_system": _talk(_say("system", ""), _user(), _answer()),
    "numbers_only": _talk(_user("17 + 25"), _answer("42"), _user("42 + 1"), _answer("43")),
    "equal_answers": _talk(_user("Quartz?"), _answer("Yes."), _user("Feldspar?"), _answer("Yes.")),
    "answer_equals_question": _talk(_user("Echo!"), _answer("Echo!"), _user("Echo!"), _answer("Echo!")),
    "role_names_in_text": _talk(_user("user: assistant:"), _answer("assistant\nuser\nAssistant: model"), *_NEXT),
    "lines_and_code": _one("Steps:\n\n1. dig\n2. wash\n\n```python\nfor ore in lode:\n    sift(ore)\n```\nDone."),
    "markup_and_braces": _one("<b>Bold</b> {{ mica }} {% raw %} &amp; <|not_a_token|> [x] \\n \"quoted\" 'single'"),
    "long_answer": _one(" ".join(f"Grain{number} rolls." for number in range(300))),
    "decomposed_letters": _one("cafe\u0301 a\u030angstro\u0308m \ufb01n \u212b"),
    # -- every script
    "chinese": _talk(_user("石英在哪里？"), _answer("花岗岩里有。"), _user("第二个问题？"), _answer("第二个回答。")),
    "japanese_and_korean": _talk(
        _user("石はどこ？"), _answer("かこうがんの中です。"), _user("돌은?"), _answer("산에 있어요.")
    ),
    "right_to_left": _talk(_user("أين الكوارتز؟"), _answer("في الجرانيت."), _user("איפה?"), _answer("בהר.")),
    "indic_and_thai": _talk(_user("पत्थर कहाँ है?"), _answer("पहाड़ में।"), _user("หินอยู่ไหน"), _answer("อยู่บนเขา")),
    "cyrillic_and_greek": _talk(_user("Где кварц?"), _answer("В граните."), _user("Πού;"), _answer("Στο βουνό.")),
    "emoji": _talk(_user("🪨?"), _answer("👩🏽‍🔬 ⛏️🏔️"), _user("🇨🇭?"), _answer("🙂")),
    # -- parts
    "parts_of_user": _talk(_user(_text("Quartz part.", "Shines part?")), _answer()),
    "parts_of_assistant": _talk(_user(), _answer(_text("Granite part.", "Hides part."))),
    "parts_of_both": _talk(
        _user(_text(QUESTION)),
        _answer(_text(ANSWER)),
        _user(_text("Second feldspar?")),
        _answer(_text("Second gneiss.")),
    ),
    "parts_of_all": _talk(
        _say("system", _text("Mineral part.")), _user(_text(QUESTION)), _answer(_text(ANSWER)), *_NEXT
    ),
    # -- tools
    "tools_unused": _with_tools(_user(), _answer()),
    "tools_unused_system": _with_tools(_SYSTEM, _user(), _answer(), *_NEXT),
    "call": _with_tools(_user(), _CALL, _RESULT, _END),
    "call_with_system": _with_tools(_SYSTEM, _user(), _CALL, _RESULT, _END),
    "call_without_tools": _talk(_user(), _CALL, _RESULT, _END),
    "call_string_arguments": _with_tools(_user(), _calls(json.dumps(_CITY)), _RESULT, _END),
    "call_content_null": _with_tools(_user(), _calls(_CITY, content=None), _RESULT, _END),
    "call_string_arguments_content_null": _with_tools(_user(), _calls(json.dumps(_CITY), content=None), _RESULT, _END),
    "call_with_words": _with_tools(_user(), _calls(_CITY, content="Calling obsidian now."), _RESULT, _END),
    "call_last": _with_tools(_user(), _CALL),
    "call_numbers_only": _with_tools(
        _user("17 + 25"),
        _calls({"first": 17, "second": 25}, name="add_numbers"),
        _result("42", name="add_numbers"),
        _END,
    ),
    "call_no_arguments": _with_tools(_user(), _calls({}), _RESULT, _END),
    "call_nested_arguments": _with_tools(
        _user(), _calls({"city": 'Zürich "old" town\n', "options": {"days": [1, 2], "wind": True}}), _RESULT, _END
    ),
    "parallel_calls": _with_tools(
        _user(), _calls(_CITY, {"city": "Rome"}), _RESULT, _result("Sunny travertine result.", 2), _END
    ),
    "parallel_calls_last": _with_tools(_user(), _calls(_CITY, {"city": "Rome"})),
    "calls_one_after_another": _with_tools(
        _user(), _CALL, _RESULT, _calls({"city": "Rome"}, first_id=2), _result("Sunny travertine result.", 2), _END
    ),
    "call_in_history": _with_tools(_user(), _CALL, _RESULT, _END, *_NEXT),
    "call_then_question": _with_tools(_user(), _CALL, _RESULT, _user("Unanswered feldspar question?")),
    "result_is_json": _with_tools(_user(), _CALL, _result('{"sky": "Drizzle marble", "degrees": 7}'), _END),
    "result_empty": _with_tools(_user(), _CALL, _result(""), _END),
    "result_without_name": _with_tools(_user(), _CALL, {"role": "tool", "content": "Drizzle marble result."}, _END),
    "result_then_empty_answer": _with_tools(_user(), _CALL, _RESULT, _answer(""), *_NEXT),
    # -- reasoning
    "reasoning": _one(ANSWER, **_THOUGHT),
    "reasoning_two_turns": _talk(_user(), _answer(**_THOUGHT), _NEXT[0], _answer("Second gneiss answer.", **_LATER)),
    "reasoning_in_history": _talk(_user(), _answer(**_THOUGHT), *_NEXT),
    "reasoning_before_trailing_user": _talk(_user(), _answer(**_THOUGHT), _user("Unanswered feldspar question?")),
    "reasoning_alone": _one("", **_THOUGHT),
    "reasoning_named_thinking": _one(ANSWER, thinking="Ponder zircon first."),
    "reasoning_and_call": _with_tools(_user(), _calls(_CITY, **_THOUGHT), _RESULT, _answer(CLOSING, **_LATER)),
    "reasoning_and_call_in_history": _with_tools(_user(), _calls(_CITY, **_THOUGHT), _RESULT, _END, *_NEXT),
    "think_in_content": _one(f"<think>\nPonder zircon first.\n</think>\n\n{ANSWER}"),
    "think_in_content_two_turns": _talk(
        _user(),
        _answer(f"<think>Ponder zircon first.</think>{ANSWER}"),
        _NEXT[0],
        _answer("<think>\n\n</think>\n\nSecond."),
    ),
    "think_never_ends": _one("<think>\nPonder zircon first."),
}
