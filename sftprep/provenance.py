"""Which characters of a rendered text came from which message.

The conversation is rendered a second time with noncharacters (code points that no text is made of; others if this one
holds them after all) put into its strings. Where they come out tells whose text it is, and a control token that they split was not the template's. Taken
out again they must leave the text of the first run: if not, the template looked at what they stand next to, and the
conversation is refused rather than guessed at. Strings of the template that it may look for, such as `</think>`, are
left whole for that reason.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from sftprep.errors import ConversationError

_NONCHARACTERS = "".join(map(chr, range(0xFDD0, 0xFDF0)))
_UNUSED = range(0x40000, 0xE0000)  # planes of Unicode in which nothing is assigned
_BASE = len(_NONCHARACTERS)
SAID = frozenset({"content", "reasoning_content", "thinking", "reasoning", "arguments"})  # keys of a message's own text
_GIVEN = ("tools", "documents")


@dataclass(frozen=True, slots=True)
class Provenance:
    """What came out of the second run."""

    text: str  # with the noncharacters
    digits: str  # the noncharacters
    places: tuple[int, ...]  # the characters they stood after, in code points of the text without, in text order
    owners: tuple[int, ...]  # whose they were: index of the message, the number of messages for all that is not of one


class Tracer:
    """Puts noncharacters into conversations.

    tokens: control tokens, to be split where their first character is a message's. (A token whose first character the
    template wrote itself is taken for its own.)
    literals: the template's own strings.
    first: characters that begin control tokens. spared: words of the template that are left whole.
    """

    def __init__(self, tokens: Collection[str], literals: Iterable[str]) -> None:
        self.first = "".join(sorted({token[0] for token in tokens}))
        self.spared = frozenset(
            word
            for word in literals
            if len(word) > 1 and not word.isalnum() and not any(word in token or token in word for token in tokens)
        )
        spare = _any_of(self.spared)
        first = f"[{re.escape(self.first)}]" if self.first else "(?!)"
        begun = _any_of({token[:length] for token in tokens for length in range(1, len(token))})
        self._patterns = {
            "words": re.compile(rf"({spare})|{first}|(?<!\S)\S"),
            "beginnings": re.compile(f"({spare})|{first}"),
            "tokens": re.compile(rf"(?={_any_of(tokens)}|(?:{begun})\s*\Z).", re.DOTALL),
        }

    def suspects(self, variables: Mapping[str, Any], own: Collection[str]) -> bool:
        """Whether any text of the conversation, its `own` variables included, might begin a control token."""
        todo: list[Any] = [variables.get(name) for name in ("messages", *_GIVEN, *own)]
        while todo:
            value = todo.pop()
            if isinstance(value, str):
                if any(character in value for character in self.first):
                    return True
            elif isinstance(value, dict):
                todo.extend(value)
                todo.extend(value.values())
            elif isinstance(value, list):
                todo.extend(value)
        return False

    def first_point(self, text: str) -> int:
        """The place of the first noncharacter in a text that a message says, where words are marked; -1 if a word that
        is left whole comes before, or there is none."""
        found = self._patterns["words"].search(text)
        return -1 if found is None or found.lastindex else found.start()

    def mark(self, variables: Mapping[str, Any], own: Collection[str], where: str, digits: str) -> dict[str, Any]:
        """The variables, the conversation's `own` among them, with noncharacters (`digits`) in their strings.

        where: "beginnings", after every character that may begin a control token; "tokens", after those that do, or would
        with what is printed after the string; "words", as "beginnings", and in every word that messages say, think or
        call with. Equal messages stay equal where it does not matter which is which, since a template may ask for that.
        """
        messages = variables["messages"]
        width = _width(len(messages))
        others = self._patterns["beginnings" if where == "words" else where]
        other = _code(len(messages), width, digits)
        codes = (
            [_code(i, width, digits) for i in _told_apart(messages)] if where == "words" else [other] * len(messages)
        )
        marked = dict(variables)
        for name in {*_GIVEN, *own} & variables.keys():
            marked[name] = _in_strings(variables[name], other, others, others)
        said = self._patterns[where]
        marked["messages"] = [
            _in_message(m, code, said, other, others) for m, code in zip(messages, codes, strict=True)
        ]
        return marked

    def read(self, marked: str, text: str, messages: int, digits: str) -> Provenance:
        """Find the noncharacters again. Raises ConversationError if the template went another way."""
        run = _run(digits)
        if run.sub("", marked) != text:
            raise ConversationError("what the chat template prints cannot be traced: it measures or compares messages")
        width, places, owners, shift = _width(messages), [], [], 0
        for found in run.finditer(marked):
            codes = found.group()
            for at in range(0, len(codes), width):
                places.append(found.start() - shift - 1)
                owners.append(_number(codes[at : at + width], digits))
            shift += len(codes)
        return Provenance(marked, digits, tuple(places), tuple(owners))


def _told_apart(messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """For each message of the assistant its index, for others that of the first one equal to it."""
    return [i if m["role"] == "assistant" else messages.index(m) for i, m in enumerate(messages)]


def digits_for(text: str) -> str:
    """Noncharacters to trace what is printed as `text`: 32 code points that it does not hold."""
    held = set(text)
    if held.isdisjoint(_NONCHARACTERS):
        return _NONCHARACTERS
    digits = "".join(islice((chr(code) for code in _UNUSED if chr(code) not in held), _BASE))
    if len(digits) < _BASE:
        raise ConversationError("the text holds nearly all of Unicode, which leaves nothing to trace it with")
    return digits


def _any_of(words: Iterable[str]) -> str:
    """A pattern for any of the words, the longest first."""
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)"


def _in_message(
    value: Any, code: str, said: re.Pattern[str], other: str, others: re.Pattern[str], role: str | None = "role"
) -> Any:
    """`value` with `code` in what its message says and `other` in all other strings but its role."""
    if isinstance(value, str):
        return _split(value, other, others)
    if isinstance(value, list):
        return [_in_message(item, code, said, other, others, None) for item in value]
    if isinstance(value, dict):
        return {
            _split(key, other, others): item
            if key == role
            else _in_strings(item, code, said, others)
            if key in SAID
            else _in_message(item, code, said, other, others, None)
            for key, item in value.items()
        }
    return value


def _in_strings(value: Any, code: str, pattern: re.Pattern[str], names: re.Pattern[str]) -> Any:
    """`value` with `code` in all its strings: in keys, and in values of the key `type`, by the pattern `names`."""
    if isinstance(value, str):
        return _split(value, code, pattern)
    if isinstance(value, list):
        return [_in_strings(item, code, pattern, names) for item in value]
    if isinstance(value, dict):
        return {
            _split(key, code, names): _in_strings(item, code, names if key == "type" else pattern, names)
            for key, item in value.items()
        }
    return value


def _split(text: str, code: str, pattern: re.Pattern[str]) -> str:
    return pattern.sub(lambda found: found.group() if found.lastindex else found.group() + code, text)


def controls_in(traced: Provenance, tokens: re.Pattern[str]) -> list[tuple[int, int]]:
    """The control tokens that the noncharacters did not split, in code points of the text without."""
    found, shift, runs = [], 0, _run(traced.digits).finditer(traced.text)
    run = next(runs, None)
    for token in tokens.finditer(traced.text):
        while run is not None and run.start() < token.start():
            shift += len(run.group())
            run = next(runs, None)
        found.append((token.start() - shift, token.end() - shift))
    return found


def _run(digits: str) -> re.Pattern[str]:
    return re.compile(f"[{digits}]+")


def _width(messages: int) -> int:
    width = 1
    while _BASE**width <= messages:
        width += 1
    return width


def _code(number: int, width: int, digits: str) -> str:
    code = ""
    for _ in range(width):
        number, digit = divmod(number, _BASE)
        code += digits[digit]
    return code


def _number(code: str, digits: str) -> int:
    return sum(digits.index(digit) * _BASE**i for i, digit in enumerate(code))
