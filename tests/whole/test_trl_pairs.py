"""Masks beside TRL's, over the pairs of templates in its wheel: every difference is of a kind that is judged."""

from __future__ import annotations

import tomllib
from itertools import pairwise
from pathlib import Path

import pytest
from conftest import FULL
from kinds_of_conversation import KINDS
from small_builds import TOKENIZER
from trl_differences import UNKNOWN, Theirs, compared, of_masks, of_texts
from trl_pairs import pairs

JUDGED = tomllib.loads(Path(__file__).with_name("peer_differences.toml").read_text(encoding="utf-8"))["trl"]
EVERY_KIND = 1 if FULL else 29  # of kinds, other ones with the next pair


def test_every_difference_from_trl_is_judged() -> None:
    words = Path(TOKENIZER, "tokenizer.json").read_text(encoding="utf-8")
    found, tried = [], 0
    for number, pair in enumerate(pairs()):
        kinds = [kind for place, kind in enumerate(KINDS) if (place + 5 * number) % EVERY_KIND == 0]
        found += compared(pair, words, kinds)
        tried += len(kinds)
    assert len(pairs()) > 30
    assert len(found) > tried / 2
    assert any(not each.differences for each in found)
    names = {each["name"] for each in JUDGED}
    new = [f"{each.pair}, {each.kind}: {each.detail}" for each in found if each.differences - names]
    assert not new, "\n".join(new)
    if FULL:
        assert {each.pair for each in found} == {pair.name for pair in pairs()}
        assert sorted(names.difference(*(each.differences for each in found))) == []  # mended, so that it can go


def test_every_judgement_has_its_reason() -> None:
    assert all(each["name"] and each["reason"] and each["right"] in ("TRL", "sftprep") for each in JUDGED)
    assert len({each["name"] for each in JUDGED}) == len(JUDGED)


# --- the names of differences, on a text small enough to see through -------------------------------------------------

TOKENS = ("<|im_start|>", "<|im_end|>", "<eos>")
CUTS = ("<|im_start|>user\n", "Hi", "<|im_end|>", "\n", "<|im_start|>", "assistant", "\n", "Yes", " sir", "<|im_end|>", "\n", "<eos>")  # fmt: skip
TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes sir"}]
RIGHT = (7, 8, 9)


def names(
    blocks: list[tuple[int, int]], ours: tuple[int, ...], prompt: str = "<|im_start|>assistant\n", said: str = "Yes"
) -> set[str]:
    """What is found where TRL trains CUTS[start:stop] of the blocks, sftprep `ours`."""
    cuts = [cut if cut != "Yes" else said for cut in CUTS]
    at = [0]
    for cut in cuts:
        at.append(at[-1] + len(cut))
    mask = [any(start <= token < stop for start, stop in blocks) for token in range(len(CUTS))]
    theirs = Theirs("".join(cuts), [], list(pairwise(at)), mask, [(at[start], at[stop]) for start, stop in blocks])
    given = [(theirs.text[: at[4]] + prompt, prompt)]
    return of_masks(theirs, [token in ours for token in range(len(CUTS))], TALK, given, TOKENS)


@pytest.mark.parametrize(
    ("blocks", "ours", "found"),
    [
        ([(7, 10)], RIGHT, set()),
        ([(7, 11)], RIGHT, {"white space behind the token that ends a turn"}),
        ([(4, 10)], RIGHT, {"a header that the prompt gives"}),
        ([(7, 9)], RIGHT, {"the next text's first token, which ends the turn"}),
        (
            [(7, 11), (11, 12)],
            RIGHT,
            {"white space behind the token that ends a turn", "a second token behind the one that ends a turn"},
        ),
        ([(7, 10), (11, 12)], RIGHT, {"what stands of a turn of which nothing is printed"}),
        # a fault of sftprep would have no name
        ([(7, 10)], (8, 9), {UNKNOWN}),
        ([(7, 10)], (7, 8), {UNKNOWN}),
        ([(7, 10)], (7, 9), {UNKNOWN}),
        ([(7, 10)], (), {UNKNOWN}),
        ([(7, 10)], (1, *RIGHT), {UNKNOWN}),
        ([(7, 10)], (2, *RIGHT), {UNKNOWN}),
        ([(7, 10)], (6, *RIGHT), {UNKNOWN}),
        ([(7, 10)], (*RIGHT, 10), {UNKNOWN}),
        ([(7, 10)], (*RIGHT, 11), {UNKNOWN}),
    ],
)
def test_how_differences_are_named(blocks: list[tuple[int, int]], ours: tuple[int, ...], found: set[str]) -> None:
    assert names(blocks, ours) == found


def test_a_header_is_what_the_prompt_gives() -> None:
    assert names([(5, 10)], RIGHT, "<|im_start|>") == {UNKNOWN}
    assert names([(6, 10)], RIGHT, "<|im_start|>assistant") == {UNKNOWN}
    assert names([(7, 10)], (8, 9), said="assistant") == {UNKNOWN}  # a word of the prompt, at another place
    assert names([(7, 10)], (8, 9), said="\n") == {UNKNOWN}
    assert names([(6, 10)], (8, 9), said="\n") == {UNKNOWN, "a header that the prompt gives"}


@pytest.mark.parametrize(
    ("training", "found"),
    [
        ("<u>Hi<a><think>\n</think>\nYes<e>", {"the training template prints thoughts that the stock one leaves out"}),
        ("<u>Hi<a>Yes<e><e>", {"the training template prints tokens that end turns elsewhere"}),
        ("<u>Hi<a>No<e>", {UNKNOWN}),
        ("<u>Hi<e>", {UNKNOWN}),
    ],
)
def test_how_differences_of_texts_are_named(training: str, found: set[str]) -> None:
    assert of_texts("<u>Hi<a>Yes<e>", training, TALK, ["<e>"]) == found
