"""Turns behind what is asked, and ended; small texts, to be checked by eye."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.template.served import behind, ended, is_answer, without
from sftprep.template.turns import Rendering, Span, places_of

TOKENS = re.compile("<[a-z/]+>")


def rendering(text: str, *trained: tuple[int, str], forged: str = "") -> Rendering:
    """trained: a message, and what is trained of it; forged: a token that a message spells."""
    spans, at = [], 0
    for message, words in trained:
        start = text.index(words, at)
        at = start + len(words)
        spans.append(Span(message, start, at, start))
    found = [each.span() for each in TOKENS.finditer(text)]
    false = [(start, stop) for start, stop in found if text[start:stop] == forged]
    return Rendering(text, tuple(spans), tuple(each for each in found if each not in false), tuple(false), silent=(9,))


def parts(given: Rendering) -> tuple[str, list[str], list[str], list[str]]:
    text = given.text
    spans = [text[span.start : span.stop] for span in given.spans]
    return text, spans, *([text[slice(*each)] for each in places] for places in (given.controls, given.forged))


def test_a_turn_stands_behind_what_is_asked() -> None:
    told = rendering("<u>Hi<a>One<e>\n<u>Ho<w/><a>Two<w/><e>\n", (1, "One<e>"), (3, "Two<w/><e>"), forged="<w/>")
    asked = rendering("<u>Hi<a>One<e>\n<u>Ho<w/><a><think>\n", forged="<w/>")

    found = behind(asked, told)

    assert parts(found) == (
        "<u>Hi<a>One<e>\n<u>Ho<w/><a><think>\nTwo<w/><e>",
        ["One<e>", "Two<w/><e>"],
        ["<u>", "<a>", "<e>", "<u>", "<a>", "<think>", "<e>"],
        ["<w/>", "<w/>"],
    )
    assert found.silent == (9,)
    assert not places_of(found).unplaced


def test_turns_that_are_printed_otherwise_there_are_gone() -> None:
    told = rendering("<u>Hi<a>Long<e><a>Two<e>", (1, "Long<e>"), (2, "Two<e>"))
    found = behind(rendering("<u>Hi<a>L<e><a>"), told)
    assert parts(found) == ("<u>Hi<a>L<e><a>Two<e>", ["Two<e>"], ["<u>", "<a>", "<e>", "<a>", "<e>"], [])


def test_a_turn_in_two_stretches_stays_in_two() -> None:
    told = rendering("<u>Hi<a>Call<t>made<e>", (1, "Call<t>"), (1, "<e>"))
    found = behind(rendering("<u>Hi<a>\n"), told)
    assert parts(found)[:2] == ("<u>Hi<a>\nCall<t>made<e>", ["Call<t>", "<e>"])


def test_a_turn_is_ended_by_a_token() -> None:
    told = rendering("<u>Hi<e/><a>One<e/>\n", (1, "One<e/>"), forged="<e/>")
    found = ended(told, "<u>")
    assert parts(found) == ("<u>Hi<e/><a>One<e/><u>\n", ["One<e/><u>"], ["<u>", "<a>", "<u>"], ["<e/>", "<e/>"])
    assert not places_of(found).unplaced


@pytest.mark.parametrize(
    ("turn", "asked", "answers"),
    [
        ("One<e>", "<u>Hi<a>", True),
        ("One<e>", "<u>Hi<a><think>\n", True),
        ("<think>Hm</think>One<e>", "<u>Hi<a><think></think>", False),
        ("Hm</think>One<e>", "<u>Hi<a><think></think>", False),
        ("One<e>", "<u>Hi<a><think></think>", True),
        ("One: a<e>", "<u>Hi<a>a\n", True),  # words may come again
        ("<w>One<a>Two<e>", "<u>Hi<a><w>What<e><a>", True),  # what was printed before is another matter
    ],
)
def test_a_turn_that_has_what_the_prompt_has_is_no_answer(turn: str, asked: str, answers: bool) -> None:
    told = rendering("<u>Hi<a>" + turn, (1, turn))
    (span,) = told.spans
    told = replace(told, spans=(replace(span, turn=span.start - len("<a>")),))
    assert is_answer(told, asked, TOKENS) is answers


@given(st.text("<t/>x\n", max_size=40), st.sampled_from(["<t></t>", "xx", "<t>\n"]), st.data())
def test_words_are_taken_out_of_a_rendering(text: str, words: str, data: st.DataObject) -> None:
    """Beside characters, each of which knows what it is in."""
    edges = data.draw(st.lists(st.integers(0, len(text)), max_size=4).map(sorted))
    spans = [Span(at, *pair, pair[0]) for at, pair in enumerate(zip(edges[::2], edges[1::2], strict=False))]
    controls = [each.span() for each in TOKENS.finditer(text)]
    found = without(Rendering(text, tuple(spans), tuple(controls)), words)

    gone = {at for each in re.finditer(words, text) for at in range(*each.span())}
    kept = [at for at in range(len(text)) if at not in gone]
    assert found.text == "".join(text[at] for at in kept)
    for span, old in zip(found.spans, spans, strict=True):
        assert [kept[at] for at in range(span.start, span.stop)] == [at for at in kept if old.start <= at < old.stop]
    left = [[at for at in kept if start <= at < stop] for start, stop in controls]
    assert [[kept[at] for at in range(*each)] for each in found.controls] == [each for each in left if each]
