"""Text from strangers, such as the name of a file, in what people read: shown, never obeyed by a terminal."""

from __future__ import annotations

import unicodedata

_JOINERS = "\u200c\u200d"  # without the two Persian, Hindi and emoji fall apart


def is_hostile(character: str) -> bool:
    """True for control and format characters: escape codes, bidirectional overrides, what is there but not seen."""
    return unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in _JOINERS


def visible(text: str) -> str:
    r"""The text in one line: hostile characters as Python writes them (\x1b, \n, \u202e), others as they are."""
    if text.isprintable():
        return text
    return "".join(each.encode("unicode_escape").decode() if is_hostile(each) else each for each in text)
