"""What is trained of a conversation, told by rendering its prefixes with Transformers: slow, plain, and on its own.

For each message of the assistant the template is asked for the prompt after the messages before it. Where that prompt
is how the whole text begins, the turn begins behind it ("by prefix"); where the template writes the past anew, the
prompt's header is looked for between the words of the messages ("by search"). The turn ends with the first token that
ends turns, or where the rendering of the messages up to it leaves the whole text. Where neither tells, the oracle says
so, and why, and a weaker rule is left: the words of each message (`Told.faults`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from forms_of_record import Message, forms_of, is_proper, shows_null, words_of
from jinja2.exceptions import TemplateError
from told_turns import Place, Told, Turn
from transformers.utils import chat_template_utils

_QUESTION = {"role": "user", "content": "Hello?"}


@dataclass(frozen=True, slots=True)
class Oracle:
    """For one template. ends: the tokens that end a turn. controls: all special tokens. tokens: these and other added ones."""

    source: str
    special: dict[str, str]
    ends: tuple[str, ...]
    controls: tuple[str, ...]
    tokens: tuple[str, ...]
    strftime_now: Callable[[str], str]
    _known: dict[str, str | None] = field(default_factory=dict)

    @property
    def all_ends(self) -> set[str]:
        """The tokens that end a turn, EOS among them."""
        return {*self.ends, *filter(None, [self.special.get("eos_token")])}

    def render(self, messages: list[Message], tools: Any, prompt: bool = False) -> str | None:
        """By Transformers' own compiled template; None where it refuses."""
        key = json.dumps([messages, tools, prompt])
        if key not in self._known:
            compiled = chat_template_utils._compile_jinja_template(self.source)
            try:
                self._known[key] = compiled.render(
                    messages=chat_template_utils._alias_reasoning_fields(messages),
                    tools=tools,
                    documents=None,
                    add_generation_prompt=prompt,
                    strftime_now=self.strftime_now,
                    **self.special,
                )
            except (TemplateError, TypeError, ValueError, KeyError, AttributeError):
                self._known[key] = None
        return self._known[key]

    def tell(self, record: dict[str, Any]) -> Told | None:
        """Everything there is to tell; None where Transformers cannot render the record in any of its forms, or no word of it."""
        tools = record.get("tools")
        rendered = [
            (form, messages, text)
            for form, messages in forms_of(record["messages"])
            if (text := self.render(messages, tools)) is not None
        ]
        words = [word for message in record["messages"] for word in words_of(message)]
        said = [each for each in rendered if not words or any(word in each[2] for word in words)]
        if not said:
            return None
        good = [each for each in said if is_proper(each[2], record["messages"]) and not shows_null(each[0], each[2])]
        form, messages, text = (good or said)[0]
        return _Telling(self, messages, tools, text).told(form)


class _Telling:
    """One conversation of one template."""

    def __init__(self, oracle: Oracle, messages: list[Message], tools: Any, text: str) -> None:
        self.oracle, self.messages, self.tools, self.text = oracle, messages, tools, text
        self.places = self._places()

    def told(self, form: str) -> Told:
        turns, silent, unknown = [], [], {}
        for index, message in enumerate(self.messages):
            if message["role"] == "assistant":
                turn = self._turn(index)
                if isinstance(turn, str):
                    unknown[index] = turn
                else:
                    (turns if self._is_said(index, turn) else silent).append(turn)
        assistants = frozenset(i for i, message in enumerate(self.messages) if message["role"] == "assistant")
        ends = {i: end for i in assistants & self.places.keys() if (end := self._end_behind_words(i))}
        return Told(self.text, form, tuple(turns), tuple(silent), unknown, self.places, ends, assistants)

    def _end_behind_words(self, index: int) -> Place | None:
        """The token that ends turns, if it is the next special token after the last word of a message."""
        last = self.places[index][-1][1]
        found = re.compile(_any_of(self.oracle.controls)).search(self.text, last)
        return found.span() if found and found.group() in self.oracle.all_ends else None

    def _is_said(self, index: int, turn: Turn) -> bool:
        """Whether the turn holds anything of what its message says; one with nothing to say may be empty."""
        words = words_of(self.messages[index])
        return not words or any(each in self.text[turn.start : turn.stop] for each in words)

    def _turn(self, index: int) -> Turn | str:
        header, begun = self._header(index)
        if header is None:
            return "the template gives no prompt"
        start, free, how = begun if begun else self._searched(index, header)
        if start < 0:
            return how
        stop, ended = self._stop(index, start, header)
        if stop < 0:
            return "the past is written anew, and no token ends the turn"
        blank = stop if ended else max(start, len(self.text[:stop].rstrip()))
        return Turn(index, start, min(free, stop), blank, stop, how)

    # -- where a turn begins: (where training begins, how far white space may be either's, by what), or (-1, -1, why not)

    def _header(self, index: int) -> tuple[str | None, tuple[int, int, str] | None]:
        """What the prompt adds to the messages before; where the turn begins, if the prompt is how the text begins."""
        asked = self.oracle.render(self.messages[:index], self.tools, prompt=True)
        before = self.oracle.render(self.messages[:index], self.tools)
        own = asked is not None and before is not None and index > 0
        if own and asked == before:
            return self._unasked(index, asked)
        if not own:
            asked, before = self._after_question()
        if asked is None or before is None:
            return None, None
        begin = self._whole(asked, _shared(asked, before))
        reached = _shared(asked, self.text)
        if not own or not self._reaches(index, reached):
            return asked[begin:], None
        if reached == len(asked):
            return asked[begin:], (reached, reached, "by prefix")
        if reached > begin and not asked[reached:].strip():
            return asked[begin:], (reached, self._blank(reached), "by prefix")
        if (start := self._boundary(asked, begin, reached)) > begin:
            start = self._past_rest(asked, start)
            return asked[begin:], (start, start, "by prefix")
        if reached >= begin and not self._found(index, asked[begin:], begin)[1]:  # the turn has no header at all
            return asked[begin:], (begin, begin, "by prefix")
        return asked[begin:], None

    def _after_question(self) -> tuple[str | None, str | None]:
        """What is printed after a question, with the prompt and without."""
        return tuple(self.oracle.render([_QUESTION], None, prompt=prompt) for prompt in (True, False))  # type: ignore[return-value]

    def _unasked(self, index: int, asked: str) -> tuple[str | None, tuple[int, int, str] | None]:
        """`_header` where the template adds nothing when it asks: what it prints before an answer it prints always, or it
        asks for no answer here; then the header that answers to questions have is one here, too."""
        if not self.text.startswith(asked):
            said = max((stop for other in range(index) for _, stop in self.places.get(other, ())), default=0)
            start = self._boundary(asked, said, _shared(asked, self.text))
            last = max((found.start() for found in re.finditer(_any_of(self.oracle.tokens), asked)), default=0)
            return asked[last:], (start, start, "by prefix") if start > said > 0 else None
        start, header = len(asked), ""
        if self.messages[index - 1]["role"] == "assistant":  # the token that ends it may not have been printed yet
            late = re.compile(rf"(?:\s*(?:{_any_of(self.oracle.all_ends)})\s*)?").match(self.text, start)
            start = late.end() if late else start
        elsewhere, before = self._after_question()
        if elsewhere is not None and before is not None:
            header = elsewhere[self._whole(elsewhere, _shared(elsewhere, before)) :]
            start += self._boundary(header, 0, _shared(header, self.text[start:]))
        return header, (start, start, "by prefix")

    def _reaches(self, index: int, reached: int) -> bool:
        """Whether the place where prompt and text part lies behind all words of earlier messages."""
        return all(stop <= reached for other in range(index) for _, stop in self.places.get(other, ()))

    def _found(self, index: int, header: str, low: int = 0) -> tuple[str, list[int]]:
        """The header, and where it ends in the text between the words of this message and of those before it."""
        low = max((stop for other in range(index) for _, stop in self.places.get(other, ())), default=low)
        ahead = [places[0][0] for other in range(index, len(self.messages)) if (places := self.places.get(other))]
        high = min((place for place in ahead if place >= low), default=len(self.text))
        first_line = header.strip().partition("\n")[0]  # the turn may have other thoughts than the prompt begins with
        for wanted in (header, first_line + "\n", first_line):
            pattern = r"\s*".join(map(re.escape, wanted.split()))
            if found := [low + each.end() for each in re.finditer(pattern, self.text[low:high])]:
                return wanted, found
        return header, []

    def _searched(self, index: int, header: str) -> tuple[int, int, str]:
        if not header.strip():
            return -1, -1, "the past is written anew, and there is no header to look for"
        header, found = self._found(index, header)
        if len(found) != 1:
            return -1, -1, f"the past is written anew, and the header is found {len(found)} times"
        blank = header[len(header.rstrip()) :]
        if self.text.startswith(blank, found[0]):
            return found[0] + len(blank), found[0] + len(blank), "by search"
        return found[0], self._blank(found[0]), "by search"

    def _blank(self, start: int) -> int:
        """The end of white space."""
        return len(self.text) - len(self.text[start:].lstrip())

    # -- where it ends

    def _stop(self, index: int, start: int, header: str) -> tuple[int, bool]:
        """(the end of what is trained, whether a token ends it), -1 where that cannot be told."""
        text, rendered = self.text, self.oracle.render(self.messages[: index + 1], self.tools)
        said = max((stop for _, stop in self.places.get(index, ())), default=start)
        ahead = [places[0][0] for other in range(index + 1, len(self.messages)) if (places := self.places.get(other))]
        limit, parted = min((place for place in ahead if place >= said), default=len(text)), None
        if rendered is not None:
            at = self._whole(text, _shared(text, rendered))
            rest = re.sub(_any_of(self.oracle.controls), "", rendered[at:])
            if at >= max(said, start) and not rest.strip():  # what it prints but for the last message is no answer
                limit = parted = at
        words = (
            text.find(word, start, limit) + len(word)
            for word in words_of(self.messages[index])
            if word in text[start:limit]
        )
        said = max(said, *words, start)
        for found in re.finditer(_any_of(self.oracle.all_ends), text[start:limit]):
            end = start + found.end()
            goes_on = end < said or (header.strip() and text[end:limit].startswith(header.strip()))
            if found.group() == self.oracle.special.get("eos_token") or not goes_on:
                return end, True
        if parted is None:
            return -1, False
        if found := re.compile(rf"\s*(?:{_any_of(self.oracle.all_ends)})").match(text, parted):
            return found.end(), True
        following = max((len(token) for token in self.oracle.controls if text.startswith(token, parted)), default=0)
        return parted + following, following > 0

    # -- text

    def _places(self) -> dict[int, list[Place]]:
        """Where the words of each message stand, as far as they are printed in order, a turn after the other, and once."""
        places: dict[int, list[Place]] = {}
        for index, message in enumerate(self.messages):
            for word in words_of(message):
                others = [w for o, other in enumerate(self.messages) if o != index for w in words_of(other)]
                if len(word) > 3 and self.text.count(word) == 1 and not any(word in other for other in others):
                    at = self.text.index(word)
                    places.setdefault(index, []).append((at, at + len(word)))
        return {index: sorted(found) for index, found in places.items()}

    def _whole(self, text: str, at: int) -> int:
        """`at`, or the beginning of the token of the text that it would cut in two."""
        for found in re.finditer(_any_of(self.oracle.tokens), text):
            if found.start() < at < found.end():
                return found.start()
        return at

    def _past_rest(self, asked: str, at: int) -> int:
        """Where prompt and text part at `at`: behind the most tokens that the prompt ends with, if the text goes on with them."""
        edges = [found.start() for found in re.finditer(_any_of(self.oracle.tokens), asked) if found.start() >= at]
        for edge in edges:
            pattern = "".join(r"\s*" + re.escape(word) for word in asked[edge:].split())
            if found := re.compile(pattern).match(self.text, at):
                return found.end()
        return at

    def _boundary(self, asked: str, begin: int, reached: int) -> int:
        """The last end of a token or line of the prompt that the text has too."""
        ends = [end for found in re.finditer(_any_of(self.oracle.tokens), asked) for end in found.span()]
        ends += [at + 1 for at, character in enumerate(asked) if character == "\n"]
        return max([begin, *(end for end in ends if begin <= end <= reached)])


def _any_of(tokens: Iterable[str]) -> str:
    return "|".join(map(re.escape, sorted(tokens, key=len, reverse=True))) or "(?!)"


def _shared(one: str, other: str) -> int:
    """How many characters both begin with."""
    return next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
