"""Which characters of a rendered text came from which message.

The template runs a second time, over a conversation whose strings know whose they are (`written_text`), and so does the text
that comes out. It must be the text of the first run: if not, the conversation is refused rather than guessed at.
"""

from __future__ import annotations

import re
from array import array
from bisect import bisect_left
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from sftprep.errors import ConversationError
from sftprep.jinja.compiled import CompiledTemplate
from sftprep.jinja.written_text import NOBODY, Writer, Written, parts_of
from sftprep.records.conversation import Conversation, set_aside
from sftprep.records.said import OF_NO_MESSAGE, SAID, TOOLS, LeftOut, Saying, has_words, kind_of, left_out
from sftprep.template.turns import NOT_BLANK, Stretch
from sftprep.workers.limits import LimitError

_LONG = 1 << 18  # bytes: less is nothing to save memory of
_NOBODY: Writer = frozenset({NOBODY})
UNTRACEABLE = (
    "what the chat template prints cannot be traced to the messages; use --mask scan with --scan-header, --scan-end and "
    "--control-tokens allow"
)


@dataclass(frozen=True, slots=True)
class Pieces:
    """Pieces of a text in text order. places: code point where each begins, white space left out; owners: index of its message."""

    places: array[int] = field(default_factory=lambda: array("i"))
    owners: array[int] = field(default_factory=lambda: array("i"))

    def add(self, place: int, owner: int) -> None:
        """Note a piece, the next in the text; once for each of the messages that it is of, in their order."""
        if not self.places or (self.places[-1], self.owners[-1]) != (place, owner):
            self.places.append(place)
            self.owners.append(owner)

    def owners_in(self, start: int, stop: int) -> set[int]:
        """Whose pieces begin in text[start:stop]."""
        return set(self.owners[bisect_left(self.places, start) : bisect_left(self.places, stop)])

    def first_of(self, message: int, start: int, stop: int) -> int | None:
        """Where the first piece of a message begins in text[start:stop]."""
        within = range(bisect_left(self.places, start), bisect_left(self.places, stop))
        return next((self.places[at] for at in within if self.owners[at] == message), None)


class Part(NamedTuple):
    """A stretch of text that a conversation says."""

    start: int  # code points
    stop: int
    message: int  # index; OF_NO_MESSAGE
    kind: str  # of KINDS; "": another value, such as an id


@dataclass(frozen=True, slots=True)
class Writers:
    """Who wrote a text; all in text order, in code points.

    own: what the template wrote and nothing else is in. unclear: stretches that texts of the template may be in, with
    them. said: what messages say. named: what else is theirs of calls of tools, such as names. sayings: all that the
    conversation says, printed or not.
    """

    own: list[Stretch] = field(default_factory=list)
    unclear: list[tuple[Stretch, set[str]]] = field(default_factory=list)
    said: Pieces = field(default_factory=Pieces)
    named: Pieces = field(default_factory=Pieces)
    sayings: list[Saying] = field(default_factory=list)

    @property
    def unprinted(self) -> tuple[LeftOut, ...]:
        """What the conversation says of which nothing is in the text."""
        return left_out(self.sayings)

    def speaks(self, message: int, start: int, stop: int) -> bool:
        """Whether anything that the message has to say is in text[start:stop]."""
        return message in self.said.owners_in(start, stop) or message in self.named.owners_in(start, stop)

    def before_words(self, message: int, start: int, stop: int) -> list[Stretch]:
        """What the template wrote of text[start:stop] before the message says anything; before anything else where it says
        nothing."""
        found = (each.first_of(message, start, stop) for each in (self.said, self.named))
        said = min((place for place in found if place is not None), default=None)
        first = max(bisect_left(self.own, (start, start)) - 1, 0)
        low = next((at for at in range(first, len(self.own)) if self.own[at][1] > start), len(self.own))
        high = low + 1 if said is None else bisect_left(self.own, (said, said))
        return [(max(begin, start), min(end, stop)) for begin, end in self.own[low:high]]

    def controls(self, tokens: re.Pattern[str], text: str, *, certain: bool = True) -> list[Stretch]:
        """The control tokens that the template wrote. certain: raises ConversationError where that is not clear."""
        for (start, stop), texts in self.unclear if certain else ():
            if tokens.search(text, start, stop) and any(map(tokens.search, texts)):
                raise ConversationError(UNTRACEABLE)
        return [found.span() for start, stop in self.own for found in tokens.finditer(text, start, stop)]


def writers_of(
    compiled: CompiledTemplate,
    conversation: Conversation,
    variables: Mapping[str, Any],
    text: bytes,
    parts: list[Part] | None = None,
) -> Writers:
    """Who wrote `text`, in UTF-8, which the template printed of a conversation by way of these variables.

    parts: is filled with all that is said, in text order, if somebody wants to know. Raises ConversationError where the template prints another text over texts that know their writers, or that cannot
    be told of an operation.
    """
    found, done, at, read = Writers(), 0, 0, 0
    long = (conversation.messages, variables["messages"]) if len(text) >= _LONG else ()
    try:
        sources = _Sources(found, parts)
        given = sources.written(variables, conversation.template_kwargs)
        with set_aside(*long):
            for piece in compiled.follow(given):
                data = utf_8(piece)
                if not text.startswith(data, read):
                    break
                read += len(data)
                for part, writer in parts_of(piece):
                    if writer is not None:
                        found.own.append((done, at))
                        done = at + len(part)
                        sources.note(part, at, writer)
                    at += len(part)
    except (LimitError, MemoryError):
        raise
    except Exception as error:
        raise ConversationError(UNTRACEABLE) from error
    if read < len(text):
        raise ConversationError(UNTRACEABLE)
    found.own.append((done, at))
    return found


def utf_8(text: str) -> bytes:
    """A text in less memory: Python takes up to four bytes for each of its characters."""
    return text.encode("utf-8", "surrogatepass")


class _Sources:
    """The strings of a conversation, which know by number what of it they are of, and what is printed of them."""

    def __init__(self, found: Writers, parts: list[Part] | None) -> None:
        self._found, self._parts = found, parts
        self._sources: list[tuple[Saying, Pieces | None]] = []  # by number; where it is noted, if anywhere

    def written(self, variables: Mapping[str, Any], own: Collection[str]) -> dict[str, Any]:
        """The variables with writers in the conversation's: `messages`, `tools`, `documents` and its `own`. Roles are the
        template's."""
        theirs = ("documents", *own)
        made = {name: _by(_NOBODY, _NOBODY, value) if name in theirs else value for name, value in variables.items()}
        tools = self._writer(self._saying(TOOLS, OF_NO_MESSAGE, variables["tools"]))
        made["tools"] = _by(tools, tools, variables["tools"])
        made["messages"] = [self._message(index, message) for index, message in enumerate(variables["messages"])]
        return made

    def note(self, part: str, at: int, writer: frozenset[int | str]) -> None:
        """A part of the text, its place in code points, and who wrote it."""
        if self._parts is not None:
            speakers = (self._sources[each][0] for each in writer if isinstance(each, int) and each != NOBODY)
            self._parts += [Part(at, at + len(part), saying.message, saying.kind) for saying in speakers]
        if said := NOT_BLANK.search(part):
            for number in sorted(each for each in writer if isinstance(each, int) and each != NOBODY):
                saying, pieces = self._sources[number]
                saying.printed = True
                if pieces is not None:
                    pieces.add(at + said.start(), saying.message)
        if texts := {each for each in writer if isinstance(each, str)}:
            self._found.unclear.append(((at, at + len(part)), texts))

    def _message(self, index: int, message: Mapping[str, Any]) -> dict[str, Any]:
        made: dict[str, Any] = {}
        known: dict[str, Saying] = {}
        for key, value in message.items():
            kind = kind_of(message["role"], key)
            if kind is None:
                speaker = self._writer(Saying("", index, has_words=False), self._found.said)
                made[Written(key)] = value if key == "role" else _by(_NOBODY, speaker, value)
            elif kind == "reasoning":  # has several names
                saying = known[kind] = known.get(kind) or self._saying(kind, index, "")
                saying.has_words |= has_words(value)
                made[Written(key)] = self._of(saying, value)
            elif isinstance(value, list):
                made[Written(key)] = [self._of(self._saying(kind, index, item), item) for item in value]
            else:
                made[Written(key)] = self._of(self._saying(kind, index, value), value)
        return made

    def _saying(self, kind: str, message: int, value: Any) -> Saying:
        saying = Saying(kind, message, has_words(value))
        self._found.sayings.append(saying)
        return saying

    def _of(self, saying: Saying, value: Any) -> Any:
        """The value, written by what is said in it."""
        said = None if saying.kind == "names" else self._found.said
        speaker = self._writer(saying, said)
        return _by(self._writer(saying, self._found.named) if saying.kind == "tool_calls" else speaker, speaker, value)

    def _writer(self, saying: Saying, pieces: Pieces | None = None) -> Writer:
        self._sources.append((saying, pieces))
        return frozenset({len(self._sources) - 1})


def _by(writer: Writer, speaker: Writer, value: Any) -> Any:
    """The value with a writer in its strings, the speaker in those under keys of what is said."""
    if isinstance(value, str):
        return Written(value, ((len(value), writer),))
    if isinstance(value, list):
        return [_by(writer, speaker, item) for item in value]
    if isinstance(value, dict):
        return {
            _by(writer, speaker, key): _by(speaker if key in SAID else writer, speaker, item)
            for key, item in value.items()
        }
    return value
