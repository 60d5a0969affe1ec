"""Texts that bring out differences between two ways to tokenize.

They aim at what tokenizers get wrong: added tokens cut short, doubled, nested and side by side, with every kind of
white space, mark and script at their edges; long runs; contractions; line ends; marks that are new in Unicode. The
same tokens give the same texts.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Sequence

# What is put around tokens, and mixed: white space of all kinds, marks that join or are not seen, scripts, symbols.
_SPACES = ["  ", "\n\n", "\r\n", *" \n\r\t\0\x0b\x1f\x7f\x85\xa0\u2003\u2028\u3000"]
_MARKS = ["\u0303\u0323", *"\u00ad\u0301\u200b\u200c\u200d\u2060\ufeff\u202e\ufe0f\ufffd"]
_SIGNS = [*"aZ7_-'\"<>|/\\.", "!!", "...", "ʼ", "’s", "'s", "'LL", "'re", "'ſ"]
_LETTERS = [*"éßſİﬁñЖλאعあガ漢〇𠀀\u212a\u212b\u2126", "e\u0301", "क्षि", "ก็", "\ud55c", "\u1112\u1161\u11ab"]
_SYMBOLS = [*"😀½Ⅷ٣²①€∑\ue000\ufdd0\U0010fffd\U000e0041\u0378", "👩‍👩‍👧", "🇩🇪", "👍🏽"]
_WORDS = ["word", " word", "Words", "don't", "3.14", "12345", "    return x", "https://a.b/c?d=e", "{'k': [1]}", "0x1F"]
FILLERS = (*_SPACES, *_MARKS, *_SIGNS, *_LETTERS, *_SYMBOLS, *_WORDS)
_RUNS = ("\r\n", " a", "\n ", *" \n\taA0-='\u0301\u200dé漢😀\u3000\xa0")
_RUN_LENGTHS = (2, 3, 4, 7, 16, 31, 257)
# White space to one library of regular expressions and a format character to another.
_UNCERTAIN = "\u180e\u200b\u0085\u001c\u2029\ufeff"
# Combining marks newer than Unicode 9, as code points and stretches of them. A library that does not know them leaves
# them where they are when marks are put in order. toktier 0.3.0 names these 154 as those on which fastokens 0.3.1 and
# tokenizers 0.22.2 differed.
_NEW_MARKS = (
    "7fd 897-89f 8ca-8d3 9fe c3c d3b-d3c eba 1715 1abf-1add 1ae0-1aeb 1df6-1dfa a82c 10d24-10d27 10d69-10d6d 10eab-10eac "
    "10efa-10efb 10efd-10eff 10f46-10f50 10f82-10f85 11070 1133b 113ce-113d0 1145e 11839-1183a 1193d-1193e 11943 119e0 "
    "11a34 11a47 11a99 11d42 11d44-11d45 11d97 11f41-11f42 1612f 16ff0-16ff1 1e08f 1e130-1e136 1e2ae 1e2ec-1e2ef "
    "1e4ec-1e4ef 1e5ee-1e5ef 1e6e3 1e6e6 1e6ee-1e6ef 1e6f5"
)
_LOW_MARK = "\u0334"  # of the lowest class: it goes before all of them where they are put in order
_AROUND_MARK = f"{{0}} a{{0}}b1{{0}}2 {{0}}{_LOW_MARK}a{{0}}{_LOW_MARK}.{{0}}{{0}}\n{{0}}"
_CONTEXTS = (
    "  {}",
    "{}  ",
    "  {}  x",
    "\n{}\n",
    "\n\n{}\n\n",
    "a{}a",
    "  {}a",
    "1{}1",
    "'{}s",
    "{}'s",
    "..{}..",
    "\t\t{}",
)
_MAX_TOKENS = 48
_MIXTURES = 150
_LONG = 20_000  # characters: libraries cut texts of more than 16 KB and tokenize the parts side by side


def hostile_texts(added_tokens: Sequence[str], seed: int = 0) -> list[str]:
    """Several hundred short texts and two long ones (about 100 kB), made for a tokenizer with these added tokens."""
    rng = random.Random(seed)  # noqa: S311  # the same texts in every run, nothing secret
    tokens = _spread(list(dict.fromkeys(token for token in added_tokens if token)))
    texts = ["", *FILLERS, *(run * length for run in _RUNS for length in _RUN_LENGTHS)]
    texts += [context.format(character) for character in _UNCERTAIN for context in _CONTEXTS]
    texts += (_AROUND_MARK.format(mark) for mark in _new_marks())
    texts += added_tokens
    for token in tokens:
        texts += _around(token, rng)
    texts += [first + second for first in tokens for second in rng.sample(tokens, min(3, len(tokens)))]
    pieces = [*FILLERS, *tokens, *tokens]
    texts += ("".join(rng.choices(pieces, k=4 + number // 4)) for number in range(_MIXTURES))
    texts += ("".join(rng.choices(pieces, k=_LONG // 8)), "1234567" * (_LONG // 7))
    return texts


def _new_marks() -> Iterator[str]:
    for stretch in _NEW_MARKS.split():
        first, _, last = stretch.partition("-")
        yield from map(chr, range(int(first, 16), int(last or first, 16) + 1))


def _spread(tokens: list[str]) -> list[str]:
    """At most `_MAX_TOKENS` of them: the first and the last ones, and some of those between."""
    if len(tokens) <= _MAX_TOKENS:
        return tokens
    step = (len(tokens) - 1) / (_MAX_TOKENS - 1)
    return [tokens[round(number * step)] for number in range(_MAX_TOKENS)]


def _around(token: str, rng: random.Random) -> Iterator[str]:
    """A token cut, doubled, nested, in other case, and with something at its edges."""
    middle = len(token) // 2
    yield from (token, token + token, token[:-1], token[1:], token[:-1] + token, token + token[1:])
    yield from (token[:middle] + token + token[middle:], token[:middle] + " " + token[middle:])
    yield from (token.upper(), token.lower(), f" {token} ", f"  {token}  {token}\n", f"a{token}a")
    for _ in range(4):
        before, after = rng.choice(FILLERS), rng.choice(FILLERS)
        yield before + token + after
        yield token[:middle] + before + token[middle:] + after


def texts_sha256(texts: Sequence[str]) -> str:
    """Of texts and where each of them ends."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\xff")  # no UTF-8 holds that byte
    return digest.hexdigest()
