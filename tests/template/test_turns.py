"""Header and end of a turn, and spans counted in control tokens."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_talk import words_at

from sftprep.template.turns import (
    Ends,
    Rendering,
    Span,
    end_of_turn,
    header_of,
    places_of,
    shared_length,
    token_pattern,
)


@pytest.mark.parametrize(
    ("turn", "prompt", "header"),
    [
        ("<a>x", "<a>", "<a>"),
        ("<a>\n<think>\nHmm", "<a>\n<think>\n\n</think>\n\n", "<a>\n<think>\n"),
        ("<a>\n<tool_call>", "<a>\n<think>\n", "<a>\n"),
        ("<a><think>x", "<a><think>\n", "<a><think>"),
        ("<a><thick>x", "<a><think>\n", "<a>"),
        ("<a> hi", "<a> ha", "<a>"),
        ("<a> hi", "<a> \n", "<a> "),
        ("<a>\n hi", "<a>\n\n", "<a>\n"),
        ("assistant: x", "assistants:", ""),
        ("x", "<a>", ""),
        ("<a>x", "", ""),
        ("<a>", "<a>\n", "<a>"),
        ("\n<a>x", "<a>", "\n<a>"),
        ("\n\n<a>x", "\n<a>", "\n\n<a>"),
        ("<a>x", "<e><a>", "<a>"),
        ("a>x", "<e><a>", ""),
        # other white space than the prompt's
        ("  A: x", "A:\n", "  A:"),
        ("B \nA:\n\nx", "B A:\n", "B \nA:\n"),
        ("<a>\n\n<think>x", "<a>\n<think>\n", "<a>\n\n<think>"),
        ("assistant", "assistant\n", "assistant"),
        ("assistants", "assistant\n", ""),
        # not all that the prompt has
        ("<a></think>x", "<a><think></think>", "<a></think>"),
        ("\n</think>x", "<a><think></think>", "\n</think>"),
        ("<a><think>x</think>", "<a><think></think>", "<a><think>"),
        ("<a>\nx", "<a>\n<think>\n", "<a>\n"),
    ],
)
def test_header_of(turn: str, prompt: str, header: str) -> None:
    tokens = token_pattern(["<a>", "<e>", "<think>", "</think>", "<tool_call>"])
    before = "<u>Hi"

    begin, end = header_of(before + turn + "\n", len(before), len(before + turn), prompt, tokens)

    assert begin == len(before)
    assert (before + turn)[begin:end] == header


def test_header_of_takes_in_what_stands_before_the_turn() -> None:
    assert header_of("x###\na: y", 5, 9, "###\na:", token_pattern([])) == (1, 7)


@pytest.mark.parametrize(
    ("text", "own", "prompt", "header"),
    [
        ("<s><a>\nHi", 6, "<a>\n", "<a>\n"),
        ("<a>b\nBe.<e>\n<a>c\nHi", 16, "<a>c\n", "<a>c\n"),
        ("<a>b\nBe.<e>\n<a>c\nHi", 16, "<a>c\n<think>\n", "<a>c\n"),
        ("<s><a>\n<think>\nHi", 6, "<a>\n<think>\n", "<a>\n<think>\n"),
        ("<s><a></think>Hi", 14, "<a><think></think>", "<a></think>"),
        ("A: or A: Hi", 9, "\nA:\n", "A:"),
        ("<s>b<a>Hi", 3, "<a>", ""),  # what is behind the words is no header
        ("<a><s><a>Hi", 9, "<a>", "<a>"),
    ],
)
def test_header_of_behind_what_the_template_prints_first(text: str, own: int, prompt: str, header: str) -> None:
    tokens = token_pattern(["<a>", "<e>", "<s>", "<think>", "</think>"])

    begin, end = header_of(text, 0, len(text), prompt, tokens, [(0, own)])

    at_start = text.startswith(prompt)
    assert text[begin:end] == header
    assert begin == (0 if at_start or not header else text.rindex(header))


@pytest.mark.parametrize(
    ("turn", "after", "token", "expected"),
    [
        ("x<e>\n", "<u>", None, "x<e>"),
        ("x<e> \n", "", None, "x<e>"),
        ("x<e>y<c>", "", None, "x<e>y<c>"),
        ("x<e>\n<c>\n", "<u>", None, "x<e>\n<c>"),
        ("x", "<u>y", None, "x<u>"),
        ("x\n", "<u>y", None, "x\n<u>"),
        ("x", " \n<u>y", None, "x \n<u>"),
        ("x", " y<u>", None, "x"),
        ("x", "", None, "x"),
        ("x<e>y", "<u>", None, "x<e>y<u>"),
        ("x<e>y<c>z", "<u>", "<e>", "x<e>"),
        ("x<e>y<e>z", "", "<e>", "x<e>y<e>"),
        ("x", "<u>", "<u>", "x<u>"),
        ("x", "<u>", "<e>", "x"),
    ],
)
def test_end_of_turn(turn: str, after: str, token: str | None, expected: str) -> None:
    text = "<a>" + turn + after
    controls = [found.span() for found in re.finditer("<.>", text)]

    assert text[3 : end_of_turn(text, 3, 3 + len(turn), controls, Ends(token))] == expected


@pytest.mark.parametrize(
    ("turn", "after", "expected"),
    [
        ("x<e>\n<e>\n", "<u>", "x<e>"),
        ("x<e><a>y<e>", "<u>", "x<e>"),
        ("x<c>", "<r>y", "x<c><r>"),
        ("x<c>", "\n<r>y", "x<c>"),
        ("x<c>", "<u>y", "x<c>"),
        ("x<t>", "<r>y", "x<t>"),
        ("x<r>", "<t>y", "x<r>"),
        ("x<t>y", "<u>", "x<t>y<u>"),
    ],
)
def test_end_of_turn_where_ends_are_known(turn: str, after: str, expected: str) -> None:
    text = turn + after
    controls = [found.span() for found in re.finditer("<.>", text)]

    assert text[: end_of_turn(text, 0, len(turn), controls, Ends(None, "<e>", ("<t>", "<r>")))] == expected


@given(st.text("ab", max_size=9), st.text("ab", max_size=9))
def test_shared_length(one: str, other: str) -> None:
    length = shared_length(one, other)

    assert one[:length] == other[:length]
    assert one[length : length + 1] != other[length : length + 1] or len(one) == length or len(other) == length


# -- spans counted in control tokens --


def test_marks_of() -> None:
    text = "<s>a<u>Hi<e><a>b\nHello<e>\n<a>Bye<e>"
    controls = tuple(found.span() for found in re.finditer("<.>", text))
    spans = (Span(2, 17, 25, 12), Span(3, 29, 35, 26))

    marks = places_of(Rendering(text, spans, controls))

    assert words_at(Rendering(text, spans, controls), tuple((span.start, span.stop) for span in spans)) == [
        "Hello<e>",
        "Bye<e>",
    ]
    assert marks.controls == ("<s>", "<u>", "<e>", "<a>", "<e>", "<a>", "<e>")
    assert (marks.message, marks.first, marks.header, marks.last, marks.unplaced) == (
        (2, 3),
        (3, 5),
        ("b\n", ""),
        (4, 6),
        False,
    )


@pytest.mark.parametrize(
    ("text", "last"), [("<u>Hi<a>Hello", (2,)), ("<u>Hi<a>Hello<e>", (2,)), ("<u>Hi<a>Hello!", (-1,))]
)
def test_a_span_that_ends_where_the_text_does(text: str, last: tuple[int, ...]) -> None:
    controls = tuple(found.span() for found in re.finditer("<.>", text))

    assert places_of(Rendering(text, (Span(1, 8, len(text.rstrip("!")), 5),), controls)).last == last


@pytest.mark.parametrize("span", [Span(0, 17, 25, 16), Span(0, 17, 22, 12), Span(0, 4, 12, 4), Span(0, 1, 12, 0)])
def test_spans_that_control_tokens_do_not_place(span: Span) -> None:
    text = "<s>a<u>Hi<e><a>b\nHello<e>"
    controls = tuple(found.span() for found in re.finditer("<.>", text))

    marks = places_of(Rendering(text, (span,), controls))

    assert (marks.first, marks.header, marks.last, marks.unplaced) == ((-1,), ("",), (-1,), True)
