"""Which characters of a rendered text came from which message.

The conversation is rendered a second time with noncharacters (code points that no text is made of; others if this one
holds them after all) in its strings: stand-ins in place of characters with which a message's part of a control token may
begin, and codes that tell whose a word is. So no control token that comes out is a message's, in whole or in part. With
characters for stand-ins and without codes it must be the text of the first run: if not, the template looked at what was
changed, and the conversation is refused rather than guessed at. Strings of the template that it may look for, such as
`</think>`, are left whole for that reason, unless a control token may begin in them.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any

from sftprep.errors import ConversationError
from sftprep.jinja.compiled import MOST_CHARS, CompiledTemplate
from sftprep.records.conversation import Conversation, set_aside
from sftprep.records.messages import ROLES
from sftprep.template.turns import token_pattern
from sftprep.template.variables import Variables

_NONCHARACTERS = "".join(map(chr, range(0xFDD0, 0xFDF0)))
_SYMBOLS = range(0x4DC0, 0x4E00)  # hexagrams: hardly ever used, left as they are where Python shows a string as code
_UNUSED = range(0x40000, 0xE0000)  # planes of Unicode in which nothing is assigned
_BASE = len(_NONCHARACTERS)
_BLOCK = 1 << 18  # characters that are compared at once
_PIECES = 1 << 14  # of a text, put together at once
SAID = frozenset({"content", "reasoning_content", "thinking", "reasoning", "arguments"})  # keys of a message's own text
_GIVEN = ("tools", "documents")
UNTRACEABLE = "what the chat template prints cannot be traced: it measures or compares messages"


@dataclass(frozen=True, slots=True)
class SecondRun:
    """What came out of the second run."""

    text: str  # with the noncharacters
    digits: str  # those that codes are made of
    places: array[int]  # the characters that codes stood after, in code points of the text without, in text order
    owners: array[int]  # whose they were: index of the message


_LONG = 1 << 18  # bytes: less is nothing to save memory of
_MOST_MARKED = 4 * MOST_CHARS  # codes of words do not count towards what a template may print


def tracer_of(compiled: CompiledTemplate, variables: Variables, tokens: Collection[str]) -> Tracer:
    """What traces whose text is whose in a template, of which these are the control tokens."""
    printed = compiled.printed | {text for text in variables.constants.values() if isinstance(text, str)}
    decoded = "striptags" in compiled.source or "unescape" in compiled.source
    return Tracer(tokens, compiled.literals, printed, decoded=decoded)


class Tracer:
    """Puts noncharacters into conversations.

    tokens: control tokens. literals: the template's own strings, which it may look for. printed: other text that it may
    print, a piece each. decoded: it makes characters of what stands for them in HTML.
    replaced: characters that stand-ins may take the place of: those that begin tokens and, where the template's own text
    may end within a token, those that begin its rest. spared: words of the template that are left whole.
    """

    def __init__(
        self, tokens: Collection[str], literals: Iterable[str], printed: Iterable[str] = (), *, decoded: bool = False
    ) -> None:
        rests = _rests(tokens, {*literals, *printed, *ROLES})
        begun = {token[:length] for token in tokens for length in range(1, len(token))}
        inner = {rest[:length] for rest in rests for length in range(1, len(rest))}
        self._controls = token_pattern(tokens)
        self._first = {token[0] for token in tokens} | ({"&"} if decoded else set())
        self.replaced = "".join(sorted(self._first | {rest[0] for rest in rests}))
        edges, whole = begun | inner | {*tokens, *rests}, re.compile(_any_of({*tokens, *rests}))
        longest = max(map(len, edges), default=0)
        self.spared = frozenset(
            word
            for word in literals
            if len(word) > 1
            and not word.isalnum()
            and not any(word in token for token in tokens)
            and not whole.search(word)
            and edges.isdisjoint(word[-length:] for length in range(1, longest + 1))
        )
        first, spare = _any_of(self._first), _any_of(self.spared)
        rest = rf"(?={_any_of(rests)}).|\A\s*(?=(?:{_any_of(inner)})\s*\Z)\S"
        whole_or_cut = rf"(?={_any_of(tokens)}|(?:{_any_of(begun)})\s*\Z)."
        self._rest = re.compile(rest, re.DOTALL) if rests else None
        self._patterns = {  # group 1 is left whole, group 2 gets a code only
            "words": re.compile(rf"({spare})|{first}|{rest}|((?<!\S)\S)", re.DOTALL),
            "beginnings": re.compile(rf"({spare})|{first}|{rest}", re.DOTALL),
            "tokens": re.compile(f"{whole_or_cut}|{rest}", re.DOTALL),
        }

    def trace(
        self,
        compiled: CompiledTemplate,
        conversation: Conversation,
        variables: Mapping[str, Any],
        text: bytes,
        *,
        words: bool,
    ) -> SecondRun:
        """Run the template a second time. text: of the first run, as `utf_8` has it. words: whether to find out whose the
        words are, too. Raises ConversationError if the template goes another way."""
        begun, marks = None, self.noncharacters(text.decode("utf-8", "surrogatepass"))
        for where in ("words",) if words else ("beginnings", "tokens"):
            changed = self.mark(variables, conversation.template_kwargs, where, marks)
            said = (conversation.messages, variables["messages"]) if len(text) >= _LONG else ()
            with set_aside(*said):
                marked = compiled.mark(changed, held_back=False, most=_MOST_MARKED).text
            del changed
            try:
                traced = self.read(marked, text, len(variables["messages"]), marks)
            except ConversationError:
                begun = self._controls.findall(marked)  # whatever else it prints then, these are the template's
            else:
                if begun is None or begun == self._controls.findall(marked):
                    return traced
            del marked
        raise ConversationError(UNTRACEABLE)

    def suspects(self, variables: Mapping[str, Any], own: Collection[str]) -> bool:
        """Whether any text of the conversation, its `own` variables included, might be a part of a control token."""
        todo: list[Any] = [variables.get(name) for name in ("messages", *_GIVEN, *own)]
        while todo:
            value = todo.pop()
            if isinstance(value, str):
                if any(map(value.__contains__, self._first)) or (self._rest and self._rest.search(value)):
                    return True
            elif isinstance(value, dict):
                todo.extend(value)
                todo.extend(value.values())
            elif isinstance(value, list):
                todo.extend(value)
        return False

    def keeps(self, word: str) -> bool:
        """Whether a string of the conversation that is this word stays as it is, where words are not marked."""
        return all(found.lastindex for found in self._patterns["beginnings"].finditer(word))

    def first_point(self, text: str) -> int:
        """The place of the first noncharacter in a text that a message says, where words are marked; -1 if a word that
        is left whole comes before, or there is none."""
        found = self._patterns["words"].search(text)
        return -1 if found is None or found.lastindex == 1 else found.end() - 1

    def noncharacters(self, text: str) -> str:
        """Code points that a text does not hold, to trace it with: 32 digits of codes, and the stand-ins."""
        held, wanted = set(text), len(self.replaced)
        digits = islice((each for each in chain(_NONCHARACTERS, map(chr, _UNUSED)) if each not in held), _BASE)
        found = "".join(digits)
        held.update(found)
        found += "".join(islice((each for each in map(chr, chain(_SYMBOLS, _UNUSED)) if each not in held), wanted))
        if len(found) < _BASE + wanted:
            raise ConversationError("the text holds nearly all of Unicode, which leaves nothing to trace it with")
        return found

    def mark(self, variables: Mapping[str, Any], own: Collection[str], where: str, marks: str) -> dict[str, Any]:
        """The variables, the conversation's `own` among them, with noncharacters (`marks`) in their strings.

        where: "beginnings", in place of every character with which a part of a control token may begin; "tokens", of
        those with which one does, or would with what is printed after the string; "words", as "beginnings", and a code
        after that and after the first character of every word that messages say, think or call with. Equal messages
        stay equal where it does not matter which is which, since a template may ask for that.
        """
        messages = variables["messages"]
        width = _width(len(messages))
        codes = [""] * len(messages)
        if where == "words":
            codes = [_code(i, width, marks) for i in _told_apart(messages)]
        stand_ins = dict(zip(self.replaced, marks[_BASE:], strict=True))
        said = _Marking(self._patterns[where], stand_ins)
        names = _Marking(self._patterns["beginnings" if where == "words" else where], stand_ins)
        marked = dict(variables)
        for name in {*_GIVEN, *own} & variables.keys():
            marked[name] = names.in_strings(variables[name], "", names)
        marked["messages"] = [names.in_message(m, code, said) for m, code in zip(messages, codes, strict=True)]
        return marked

    def read(self, marked: str, text: bytes, messages: int, marks: str) -> SecondRun:
        """Find the noncharacters again. text: of the first run, as `utf_8` has it. Raises ConversationError if the
        template went another way."""
        digits, stand_ins = marks[:_BASE], marks[_BASE:]
        run, replaced, read = _run(digits), str.maketrans(stand_ins, self.replaced), 0
        for at in range(0, len(marked), _BLOCK):
            block = utf_8(run.sub("", marked[at : at + _BLOCK]).translate(replaced))
            if not text.startswith(block, read):
                raise ConversationError(UNTRACEABLE)
            read += len(block)
        if read < len(text):
            raise ConversationError(UNTRACEABLE)
        width, places, owners, shift = _width(messages), array("i"), array("i"), 0
        for found in run.finditer(marked):
            codes = found.group()
            for at in range(0, len(codes), width):
                owner = _number(codes[at : at + width], digits)
                if owner < messages:
                    places.append(found.start() - shift - 1)
                    owners.append(owner)
            shift += len(codes)
        return SecondRun(marked, digits, places, owners)


def _rests(tokens: Collection[str], printed: Collection[str]) -> set[str]:
    """What would make a token of what the template prints before a message's text: it, or the last piece of it, may be
    any of `printed`."""
    longest = max(map(len, tokens), default=0)
    ends = {piece[-length:] for piece in printed for length in range(1, min(len(piece), longest) + 1)}
    rests: set[str] = set()
    for token in tokens:
        printable: list[int] = []  # how much of the token may be printed so
        for stop in range(1, len(token)):
            if token[:stop] in ends or any(token[start:stop] in printed for start in printable):
                printable.append(stop)
        rests.update(token[stop:] for stop in printable)
    return rests


def _told_apart(messages: Sequence[Mapping[str, Any]]) -> list[int]:
    """For each message of the assistant its index, for others that of the first one equal to it."""
    return [i if m["role"] == "assistant" else messages.index(m) for i, m in enumerate(messages)]


def _any_of(words: Iterable[str]) -> str:
    """A pattern for any of the words, the longest first."""
    return "|".join(map(re.escape, sorted(words, key=len, reverse=True))) or "(?!)"


@dataclass(frozen=True, slots=True)
class _Marking:
    """How strings are marked."""

    pattern: re.Pattern[str]  # ends with the character that gets a stand-in and a code (but for groups 1 and 2)
    stand_ins: Mapping[str, str]

    def in_message(self, value: Any, code: str, said: _Marking, role: str | None = "role") -> Any:
        """`value` with `code` in what its message says; its role stays as it is."""
        if isinstance(value, str):
            return self.split(value, "")
        if isinstance(value, list):
            return [self.in_message(item, code, said, None) for item in value]
        if isinstance(value, dict):
            return {
                self.split(key, ""): item
                if key == role
                else said.in_strings(item, code, self)
                if key in SAID
                else self.in_message(item, code, said, None)
                for key, item in value.items()
            }
        return value

    def in_strings(self, value: Any, code: str, names: _Marking) -> Any:
        """`value` with `code` in all its strings: in keys, and in values of the key `type`, as names are marked."""
        if isinstance(value, str):
            return self.split(value, code)
        if isinstance(value, list):
            return [self.in_strings(item, code, names) for item in value]
        if isinstance(value, dict):
            return {
                names.split(key, code): (names if key == "type" else self).in_strings(item, code, names)
                for key, item in value.items()
            }
        return value

    def split(self, text: str, code: str) -> str:
        """`text` with stand-ins and `code`."""
        marked, done = "", 0
        pieces: list[str] = []
        for found in self.pattern.finditer(text):
            if found.lastindex == 1:
                continue
            stop = found.end()
            if found.lastindex == 2:
                pieces += text[done:stop], code
            else:
                pieces += text[done : stop - 1], self.stand_ins[text[stop - 1]], code
            done = stop
            if len(pieces) > _PIECES:  # those of a long text take many times its memory
                marked += "".join(pieces)
                pieces.clear()
        marked += "".join([*pieces, text[done:]])
        return marked


def utf_8(text: str) -> bytes:
    """A text in less memory: Python takes up to four bytes for each of its characters."""
    return text.encode("utf-8", "surrogatepass")


def controls_in(traced: SecondRun, tokens: re.Pattern[str]) -> list[tuple[int, int]]:
    """The control tokens in which no noncharacter is, in code points of the text without."""
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
