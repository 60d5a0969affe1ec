"""Where a text may be cut so that its pieces, encoded one by one, give the tokens of the whole.

The `tokenizers` library takes some 200 bytes of memory a byte of text, so it is given a long text in pieces. They are cut
between a letter and a space, a sign or a digit, where that is proved to change nothing:
- no added token holds the two or looks beyond its own edges there, no normalizer changes or joins them;
- no match of a pre-tokenizer's pattern holds the two or looks from one to the other, and every letter is part of some
  match: so one ends at the cut, and behind the end of a match the library goes on as at the start of a text;
- the model sees what lies between two such ends, and nothing else.
What can follow what in a match is worked out from the parts of a pattern (Glushkov's construction); which characters a
part stands for is asked of the library itself. Texts of tokenizers for which it cannot be proved are not cut.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise, product
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
_OF_BYTE_LEVEL = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_ATOM = re.compile(
    r"\\[pP]\{\^?\w+\}|\\[rntsSdD]|\\[^a-zA-Z0-9]"  # a property, a kind, a character that would mean something else
    r"|\[\^?(?:\\.|&(?!&)|[^\[\]\\&^])(?:\\.|&(?!&)|[^\[\]\\&])*\]"  # a class without classes in it
    r"|[^\\\[\](){}*+?|^$.]",
    re.DOTALL,
)
_OPENING = re.compile(r"\((?:\?(?P<kind>[:=!]|i:))?(?!\?)")
_REPEATED = re.compile(r"(?P<sign>[?*+]|\{(?P<least>\d)(?:,\d*)?\})(?![?*+{])")


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
    if any(token.single_word for token in resolved.added_tokens) or not _is_nfc(steps["normalizer"]):
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
            parsed = _Pattern(pattern)
            after -= parsed.after_letters()
            covered |= parsed.matched_alone()
    except _UnknownError:
        return None
    if not after or not covered.issuperset(_LETTERS):
        return None
    return re.compile(f"(?<={_LETTER})[{re.escape(''.join(sorted(after)))}]")


def _is_nfc(part: Any) -> bool:
    """Whether a normalizer is none, or NFC."""
    if part is None or part["type"] == "NFC":
        return True
    return part["type"] == "Sequence" and all(map(_is_nfc, part["normalizers"]))


def _patterns(part: Any) -> list[str]:
    """The patterns of a pre-tokenizer that makes a piece of every match. Raises _UnknownError if it does anything else."""
    match part:
        case {"type": "Sequence", "pretokenizers": [*steps]} if all(step["type"] != "ByteLevel" for step in steps[:-1]):
            return [pattern for step in steps for pattern in _patterns(step)]
        case {"type": "Split", "pattern": {"Regex": str(pattern)}, "behavior": "Isolated", "invert": False}:
            return [pattern]
        case {"type": "Digits"}:
            return [r"\p{N}"]
        case {"type": "ByteLevel", "add_prefix_space": False, "use_regex": bool(use_regex)}:
            return [_OF_BYTE_LEVEL] if use_regex else []
    raise _UnknownError


class _UnknownError(Exception):
    """Something whose matches are not known."""


@dataclass(frozen=True, slots=True, eq=False)
class _Part:
    """A part of a pattern, by its places: the characters that a match is made of, as they are written."""

    nullable: bool  # whether it matches nothing, too
    first: frozenset[int]  # places that a match can begin at
    last: frozenset[int]
    follow: frozenset[tuple[int, int]]  # places one after another in a match, or in what it looks at behind itself
    sure: bool = True  # a character of a place among `first` and `last` is a match, whatever comes behind

    def then(self, other: _Part) -> _Part:
        """This and then that."""
        return _Part(
            self.nullable and other.nullable,
            self.first | (other.first if self.nullable else frozenset()),
            other.last | (self.last if other.nullable else frozenset()),
            self.follow | other.follow | set(product(self.last, other.first)),
            self.sure and other.sure,
        )

    def repeated(self, sign: str, least: int) -> _Part:
        """What a quantifier makes of it. least: what stands first in braces."""
        again = frozenset() if sign == "?" else frozenset(product(self.last, self.first))
        nullable = self.nullable or sign in "?*" or least == 0
        return replace(self, nullable=nullable, follow=self.follow | again, sure=self.sure and least < 2)


_NOTHING = _Part(True, frozenset(), frozenset(), frozenset())


class _Pattern:
    """A regular expression of the few kinds that can be followed. Raises _UnknownError for others."""

    def __init__(self, pattern: str) -> None:
        self._pattern, self._at = pattern, 0
        self._places: list[frozenset[str]] = []  # the letters and the characters after them that each stands for
        self._alternatives = self._either(ignore_case=False)
        if self._at < len(pattern) or any(part.nullable for part in self._alternatives):
            raise _UnknownError

    def after_letters(self) -> set[str]:
        """The characters that may follow a letter in a match, or are looked at behind one."""
        return {
            character
            for part in self._alternatives
            for before, behind in part.follow
            if not self._places[before].isdisjoint(_LETTERS)
            for character in self._places[behind]
        }

    def matched_alone(self) -> set[str]:
        """The characters that are matched wherever one is tried."""
        sure = (place for part in self._alternatives if part.sure for place in part.first & part.last)
        return {character for place in sure for character in self._places[place]}

    def _either(self, *, ignore_case: bool) -> list[_Part]:
        alternatives = [_NOTHING]
        while self._at < len(self._pattern) and self._pattern[self._at] != ")":
            if self._pattern[self._at] == "|":
                self._at += 1
                alternatives.append(_NOTHING)
            else:
                alternatives[-1] = alternatives[-1].then(self._one(ignore_case=ignore_case))
        return alternatives

    def _one(self, *, ignore_case: bool) -> _Part:
        """A group or a place, with its quantifier."""
        opening = _OPENING.match(self._pattern, self._at)
        if opening:
            self._at = opening.end()
            part = _joined(self._either(ignore_case=ignore_case or opening["kind"] == "i:"))
            if not self._pattern.startswith(")", self._at):
                raise _UnknownError
            self._at += 1
            if opening["kind"] in ("=", "!"):
                return replace(part, nullable=True, sure=False)
        else:
            part = self._place(ignore_case=ignore_case)
        repeated = _REPEATED.match(self._pattern, self._at)
        if not repeated:
            return part
        self._at = repeated.end()
        return part.repeated(repeated["sign"], int(repeated["least"] or 1))

    def _place(self, *, ignore_case: bool) -> _Part:
        from tokenizers import Regex, pre_tokenizers

        atom = _ATOM.match(self._pattern, self._at)
        if not atom:
            raise _UnknownError
        self._at = atom.end()
        matched = Regex(f"(?i:{atom[0]})" if ignore_case else atom[0])
        others = pre_tokenizers.Split(matched, "removed").pre_tokenize_str(_LETTERS + _AFTER)
        number = frozenset({len(self._places)})
        self._places.append(frozenset(_LETTERS + _AFTER).difference(*(text for text, _ in others)))
        return _Part(False, number, number, frozenset())


def _joined(alternatives: Sequence[_Part]) -> _Part:
    """Any of them."""
    return _Part(
        any(part.nullable for part in alternatives),
        frozenset[int]().union(*(part.first for part in alternatives)),
        frozenset[int]().union(*(part.last for part in alternatives)),
        frozenset[tuple[int, int]]().union(*(part.follow for part in alternatives)),
        all(part.sure for part in alternatives),
    )
