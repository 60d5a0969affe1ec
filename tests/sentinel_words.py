"""What a template leaves out, told by words that stand nowhere else: slow, plain, and on its own."""

from __future__ import annotations

import json
import re
from itertools import count
from typing import Any

_WORD = re.compile(r"<[^<>]*>|[^\W\d_]{2,}")  # a tag, which templates look for, or a word
_KINDS = {"content": "", "reasoning_content": "reasoning", "thinking": "reasoning", "reasoning": "reasoning"}


class Sentinels:
    """Makes records of which every word is said once."""

    def __init__(self) -> None:
        self._numbers = count(1)

    def marked(self, record: dict[str, Any]) -> dict[str, Any]:
        """The record, with other words; ids, roles, types and keys are as they were."""
        return {key: self._value(value) for key, value in record.items()}

    def _value(self, value: Any, key: str = "") -> Any:
        if isinstance(value, dict):
            return {name: self._value(item, name) for name, item in value.items()}
        if isinstance(value, list):
            return [self._value(item, key) for item in value]
        if not isinstance(value, str) or key in ("role", "type", "id", "tool_call_id", "required"):
            return value
        if key == "arguments":
            return json.dumps(self._value(json.loads(value)))
        made = _WORD.sub(lambda found: found.group() if found.group()[0] == "<" else self._word(), value)
        return made if made != value or not value.strip() else f"{value} {self._word()}"

    def _word(self) -> str:
        letters = "".join("abcdefghij"[int(digit)] for digit in str(next(self._numbers)))
        return f"zq{letters}x"


def left_out(record: dict[str, Any], text: str) -> set[tuple[str, int]]:
    """(kind, message) of what the text has no word of, in a record that `Sentinels` made."""
    found = set()
    if (tools := record.get("tools")) and not _stands(tools, text):
        found.add(("tools", -1))
    for index, message in enumerate(record["messages"]):
        role, thought = message["role"], [message[key] for key in ("reasoning_content", "thinking") if key in message]
        said = [("tool_results" if role == "tool" else role, part) for part in _items(message.get("content"))]
        said += [("tool_calls", call.get("function", call)) for call in message.get("tool_calls", ())]
        said += [("reasoning", thought)] if thought else []
        said += [("names", message["name"])] if "name" in message and role != "tool" else []
        found |= {(kind, index) for kind, value in said if _words(value) and not _stands(value, text)}
    return found


def _items(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]


def _words(value: Any) -> set[str]:
    return set(re.findall(r"zq[a-j]+x", json.dumps(value)))


def _stands(value: Any, text: str) -> bool:
    return any(word in text.lower() for word in _words(value))
