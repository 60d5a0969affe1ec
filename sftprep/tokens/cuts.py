"""Where a text may be cut so that its pieces, encoded one by one, give the tokens of the whole.

The `tokenizers` library takes some 200 bytes of memory a byte of text, so it is given a long text in pieces. They are cut
between a letter and a space, a sign or a digit, where that is proved to change nothing:
- no added token holds the two or looks beyond its own edges there, no normalizer changes or joins them;
- no match of a pre-tokenizer's pattern holds the two or looks from one to the other, and every letter is part of some
  match: so one ends at the cut, and behind the end of a match the library goes on as at the start of a text;
- the model sees what lies between two such ends, and nothing else.
Behind a letter in a match there is what stands later in the same alternative of a pattern, or the letter's own part once
more; which characters a part stands for is asked of the library itself. Texts of tokenizers for which it cannot be proved
are not cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property, lru_cache
from itertools import pairwise
from typing import Any, NamedTuple

from sftprep.tokens.resolve import ResolvedTokenizer

PIECE = 1 << 14  # characters: a longer text is cut behind so many, as soon as it may be
_GROUP = 1 << 17  # characters that are encoded at once
_MOST = 1 << 18  # characters of a piece that is not too long to be compared
_RANGES = "A-Z a-z α-ω А-Я а-я א-ת ก-ฮ ぁ-ゖ ァ-ヺ 一-龥 가-힣"
_LETTERS = "".join(chr(code) for each in _RANGES.split() for code in range(ord(each[0]), ord(each[2]) + 1))
_LETTER = f"[{_RANGES.replace(' ', '')}]"
_WHITE = " \n\t"
_AFTER = _WHITE + ",.;:!?)0123456789，。、；：！？"  # none of them joins the character before it
_ASKED = frozenset(_LETTERS + _AFTER)
_OF_BYTE_LEVEL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_ATOM = (
    r"\\[pP]\{\^?\w+\}|\\[rntsSdD]|\\[^a-zA-Z0-9]"  # a property, a kind, a character that would mean something else
    r"|\[\^?(?:\\.|&(?!&)|[^\[\]\\&^])(?:\\.|&(?!&)|[^\[\]\\&])*\]"  # a class without classes in it
    r"|[^\\\[\](){}*+?|^$.]"
)
_PART = rf"(?:{_ATOM})(?:[?*+]|\{{\d(?:,\d*)?\}})?(?![?*+{{])"
_GROUP_OF_PARTS = rf"\((?P<kind>\?(?:[:=!]|i:))?(?!\?)(?P<inner>{_PART}(?:\|?{_PART})*)\)(?P<maybe>\?)?(?![?*+{{])"
_ELEMENT = re.compile(rf"(?P<bar>\|)|{_GROUP_OF_PARTS}|(?P<part>{_PART})", re.DOTALL)
_ATOM_OFTEN = re.compile(rf"(?P<atom>{_ATOM})(?P<often>[?*+]|\{{(?P<least>\d)[^}}]*\}})?", re.DOTALL)


class Piece(NamedTuple):
    """A part of a text."""

    row: int  # index of the text
    start: int  # code point of the text at which it begins
    text: str


class TextCuts:
    """Cuts the long ones among texts for one tokenizer."""

    def __init__(self, resolved: ResolvedTokenizer) -> None:
        self._resolved = resolved

    @cached_property
    def places(self) -> re.Pattern[str] | None:
        """Finds characters before which a text may be cut; None: nowhere. Worked out when there is a long text."""
        return _places(self._resolved)

    def groups(self, texts: Sequence[str]) -> Iterator[list[Piece]]:
        """The pieces of all texts, in order, as many at a time as may be encoded at once; one group at least."""
        group: list[Piece] = []
        size = 0
        for row, text in enumerate(texts):
            for start, stop in self._bounds(text):
                if group and size + stop - start > _GROUP:
                    yield group
                    group, size = [], 0
                group.append(Piece(row, start, text[start:stop]))
                size += stop - start
        yield group

    def start_of(self, text: str) -> str:
        """The text, or the start of one of which some piece would be very long: to be looked at as a text of its own."""
        whole = len(text) <= _MOST or all(stop - start <= _MOST for start, stop in self._bounds(text))
        return text if whole else text[:_MOST]

    def _bounds(self, text: str) -> Iterator[tuple[int, int]]:
        start = 0
        while len(text) - start > PIECE and self.places and (found := self.places.search(text, start + PIECE)):
            yield start, found.start()
            start = found.start()
        yield start, len(text)


def _places(resolved: ResolvedTokenizer) -> re.Pattern[str] | None:
    from tokenizers import normalizers

    steps = resolved.steps()
    after = set(_AFTER)
    if any(token.single_word for token in resolved.added_tokens):
        return None
    if any(step["type"] != "NFC" for step in steps["normalizer"]):
        return None
    if normalizers.NFC().normalize_str(_LETTERS + _AFTER) != _LETTERS + _AFTER:
        return None
    for token in resolved.added_tokens:
        if token.rstrip:  # takes white space after it
            after -= set(_WHITE)
        for name in (token.content, normalizers.NFC().normalize_str(token.content)):
            after -= {second for first, second in pairwise(name) if re.match(_LETTER, first)}
    covered: set[str] = set()
    try:
        for pattern in _patterns(steps["pre_tokenizer"]):
            for alternative in _alternatives(pattern):
                after -= alternative.behind_letters
                covered |= alternative.alone()
    except _UnknownError:
        return None
    if not after or not covered.issuperset(_LETTERS):
        return None
    return re.compile(f"(?<={_LETTER})[{re.escape(''.join(sorted(after)))}]")


def _patterns(steps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """The patterns of pre-tokenizers that make a piece of every match. Raises _UnknownError if they do anything else."""
    for step in steps:
        match step:
            case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False}:
                yield pattern
            case {"type": "Digits"}:
                yield r"\p{N}"
            case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": bool(use_regex)} if step is steps[-1]:
                yield from [_OF_BYTE_LEVEL] if use_regex else []
            case _:
                raise _UnknownError


class _UnknownError(Exception):
    """Something whose matches are not known."""


def _alternatives(pattern: str) -> list[_Alternative]:
    """Of a regular expression without groups in groups or repeated ones. Raises _UnknownError for others."""
    alternatives, at = [_Alternative()], 0
    while at < len(pattern):
        element = _ELEMENT.match(pattern, at)
        if not element:
            raise _UnknownError
        at = element.end()
        if element["bar"]:
            alternatives.append(_Alternative())
        else:
            alternatives[-1].add(element)
    if not all(each.needed for each in alternatives):
        raise _UnknownError  # it matches nothing, too
    return alternatives


class _Alternative:
    """What is known of the matches of an alternative. Raises _UnknownError where a group may match nothing."""

    def __init__(self) -> None:
        # Characters that may follow a letter in a match, or are looked at behind one.
        self.behind_letters: set[str] = set()
        # What a match must hold, and how often at least: the characters of a part, none for a group.
        self.needed: list[tuple[frozenset[str], int]] = []
        self._letters = self._looks_on = False  # a letter may be matched so far; it looks behind the match

    def add(self, element: re.Match[str]) -> None:
        """The next element: a part or a group."""
        leasts = []
        for part in _ATOM_OFTEN.finditer(element["inner"] or element["part"]):
            characters = _characters(part["atom"], ignore_case=element["kind"] == "?i:")
            letters = not characters.isdisjoint(_LETTERS)
            if self._letters or (letters and part["often"] not in (None, "?")):
                self.behind_letters |= characters
            self._letters |= letters
            leasts.append(int(part["least"] or part["often"] not in ("?", "*")))
        if element["kind"] in ("?=", "?!"):
            self._looks_on = True
        elif element["part"] and leasts[0]:
            self.needed.append((characters, leasts[0]))
        elif element["inner"] and 0 in leasts:
            raise _UnknownError
        elif element["inner"] and not element["maybe"]:
            self.needed.append((frozenset(), 1))

    def alone(self) -> frozenset[str]:
        """The characters that are matched wherever one is tried."""
        (characters, least), *others = self.needed
        return frozenset() if others or least > 1 or self._looks_on else characters


@lru_cache(32)  # patterns ask for the same ones again and again
def _characters(atom: str, *, ignore_case: bool) -> frozenset[str]:
    """Those that an atom stands for, of the letters and of what may follow them."""
    from tokenizers import Regex, normalizers

    matched = Regex(f"(?i:{atom})+" if ignore_case else f"(?:{atom})+")
    return _ASKED.difference(normalizers.Replace(matched, "").normalize_str(_LETTERS + _AFTER))
