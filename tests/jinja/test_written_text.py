"""Each character of a text keeps its writer, whatever is made of the text."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

import pytest
from markupsafe import Markup

from sftprep.jinja.written_text import (
    NOBODY,
    UnfollowedError,
    Writer,
    Written,
    escaped,
    formatted,
    mixed,
    parts_of,
    percent,
    safe,
)

CHARACTERS = "abcdefghijklm \n\t\u2028<|_>éλж答"  # none of them twice in a text, so that each tells its writer
WRITERS: list[Writer] = [None, frozenset({0}), frozenset({1}), frozenset({NOBODY})]
OPERATIONS: dict[str, Callable[[Any, Any, int, int], Any]] = {  # a text, a part of it or another, two places
    "add": lambda text, other, i, j: [text + other, other + text, "{" + text, text + "}"],
    "case": lambda text, other, i, j: [text.upper(), text.lower(), text.title(), text.capitalize(), text.swapcase()],
    "cut": lambda text, other, i, j: [text[i:j], text[i:], text[:j], text[-i:-j]],
    "format": lambda text, other, i, j: [form(text, other) for form in FORMS],
    "items": lambda text, other, i, j: [text[0], text[-1], text[i % len(text)], *text],
    "join": lambda text, other, i, j: [
        other.join([text[:i], text[i:], "}"]),
        text.join("{}"),
        other.join(text.split()),
    ],
    "lines": lambda text, other, i, j: [*text.splitlines(), *text.splitlines(True), *text.splitlines(keepends=True)],
    "parts": lambda text, other, i, j: [*text.partition(other), *text.rpartition(other)],
    "ends": lambda text, other, i, j: [
        text.removeprefix(text[:i]),
        text.removesuffix(text[i:]),
        text.removeprefix("{"),
    ],
    "replace": lambda text, other, i, j: [
        text.replace(other, "{}"),
        text.replace(other, "", 1),
        text.replace("{", "}"),
    ],
    "split": lambda text, other, i, j: [*text.split(), *text.split(other), *text.split(other, 1), *text.split(None, i)],
    "split back": lambda text, other, i, j: [*text.rsplit(), *text.rsplit(sep=other), *text.rsplit(maxsplit=i)],
    "step": lambda text, other, i, j: [text[::-1], text[::2], text[j:i:-1], text[-1:-j:-2], text[i::3]],
    "strip": lambda text, other, i, j: [
        text.strip(),
        text.lstrip(),
        text.rstrip(),
        text.strip(other),
        text.lstrip(other),
    ],
    "times": lambda text, other, i, j: [text * 2, 3 * text, text * 0],
}
FORMS: list[Callable[[Any, Any], Any]] = [
    lambda text, other: percent("{%s}%s", (text, other)),
    lambda text, other: percent("{%s}", text),
    lambda text, other: formatted(f"[{text}]-{other}", "[{}]-{}", (text, other), {}),
    lambda text, other: formatted(f"{text}{{0}}{other}", "{1}{{0}}{a}", (1, text), {"a": other}),
]


@pytest.mark.parametrize("name", OPERATIONS)
def test_each_character_keeps_its_writer(name: str) -> None:
    for seed in range(60):
        random = Random(seed)
        letters = random.sample(CHARACTERS, random.randrange(1, len(CHARACTERS)))
        writers = {letter: random.choice(WRITERS) for letter in letters}
        if random.random() < 0.5:  # in longer runs
            writers = {letter: writers[letters[at - at % 4]] for at, letter in enumerate(letters)}
        plain = "".join(letters)
        text = Written(plain, ((1, writers[letter]) for letter in letters))
        i, j = random.randrange(len(plain)), random.randrange(len(plain) + 1)
        other = slice(i, random.randrange(i + 1, len(plain) + 1))
        made = OPERATIONS[name](text, text[other], i, j)

        assert made == OPERATIONS[name](plain, plain[other], i, j)
        for part in made:
            for piece, writer in parts_of(part):
                for letter in piece:
                    known = letter if letter in writers else letter.lower()
                    assert writer == writers.get(known), (plain, part)


BY_HAND: list[tuple[Callable[[Any], Any], str, list[str]]] = [  # digits tell the writer of the character above
    (lambda text: [text.strip("x")], "xxabxx 012345", ["ab 23"]),
    (lambda text: [text.removeprefix("a"), text.removesuffix("a")], "aaa 012", ["aa 12", "aa 01"]),
    (lambda text: text.split("ab"), "xabb 0123", ["x 0", "b 3"]),
    (lambda text: text.split("aa"), "aaa 012", [" ", "a 2"]),
    (lambda text: text.rsplit("aa"), "aaa 012", ["a 0", " "]),
    (lambda text: text.split(None, 1), "aXaa 0123".replace("X", "\n"), ["a 0", "aa 23"]),
    (lambda text: [text.replace("aa", "b")], "aaaa 0123", ["bb "]),
    (lambda text: text.splitlines(True), "a\r\n\na 01234", ["a\r\n 012", "\n 3", "a 4"]),
    (lambda text: text.rpartition("a"), "aba 012", ["ab 01", "a 2", " "]),
]


@pytest.mark.parametrize(("operation", "given", "expected"), BY_HAND)
def test_equal_characters_are_told_apart(operation: Any, given: str, expected: list[str]) -> None:
    text, digits = given.rsplit(" ", 1)
    made = operation(Written(text, ((1, frozenset({int(digit)})) for digit in digits)))

    for part, wanted in zip(made, expected, strict=True):
        letters, _, digits = wanted.rpartition(" ")
        found = "".join(str(*writer) * len(piece) for piece, writer in parts_of(part) if writer is not None)
        assert (part, found) == (letters, digits)


def test_what_is_added_to_html_is_escaped_and_keeps_its_writers() -> None:
    said, form = Written("a<b", ((1, frozenset({0})), (2, frozenset({1})))), Markup("<i>")

    for made, expected in (
        (safe("<i>") + said, form + "a<b"),
        (said + safe("<i>"), "a<b" + form),
        (safe("<i>") + safe(said), form + Markup("a<b")),
    ):
        assert (made, hasattr(made, "__html__")) == (expected, True)
    assert list(parts_of(safe("<i>") + said)) == [("<i>", None), ("a", frozenset({0})), ("&lt;b", frozenset({1}))]
    assert list(parts_of(said + safe("<i>")))[-1] == ("<i>", None)
    assert (str(safe(said)) + "<", escaped(safe(said))) == ("a<b<", "a<b")  # a str again; HTML already


def test_what_was_mixed_may_be_of_any_writer() -> None:
    said, other = Written("a", ((1, frozenset({0})),)), Written("b", ((1, frozenset({1})),))

    assert list(parts_of(mixed("ab", {"x": [said]}, (other, 5, None)))) == [("ab", frozenset({0, 1, "x"}))]
    assert list(parts_of(mixed(["a"], said)[0])) == [("a", frozenset({0}))]
    assert not isinstance(mixed("x", "a", {"b": 1}), Written)
    assert mixed(5, said) == 5
    for made, operand in ((b"a", said), ("a", iter([said]))):
        with pytest.raises(UnfollowedError):
            mixed(made, operand)
