"""A conversation as the page's script takes it, put together again."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sftprep.pages.shown import MOST_PIECES, shown_conversation
from sftprep.views.conversations import RowConversation

LETTERS = dict(enumerate(["<pad>", "a", " b", "\n", "  ", "c", "\u202e", "<b>"]))


def letters(ids: Sequence[int]) -> str:
    return "".join(LETTERS[token] for token in ids)


def conversation(ids: Sequence[int], trained: Sequence[bool]) -> RowConversation:
    arrays = np.array(ids, np.int64), np.array(trained, np.bool_)
    return RowConversation(7, "shard-00000", "a\x1b.jsonl", 17, False, *arrays, 0)


@given(st.lists(st.tuples(st.integers(0, len(LETTERS) - 1), st.booleans()), max_size=60))
def test_every_token_is_there_once_with_its_mask(tokens: list[tuple[int, bool]]) -> None:
    ids, trained = [token for token, _ in tokens], [is_trained for _, is_trained in tokens]
    shown = shown_conversation(conversation(ids, trained), letters, text=True)
    assert [token for some in shown["ids"] for token in some] == ids
    ends = [*accumulate(shown["trained"])]
    runs = [next(run for run, end in enumerate(ends) if at < end) % 2 == 1 for at in range(len(shown["pieces"]))]
    assert runs == trained
    assert "".join(shown["pieces"]).replace("↵", "").replace("·", " ").replace(r"\u202e", "\u202e") == letters(ids)
    assert "\u202e" not in "".join(shown["pieces"])


def test_a_long_one_is_shortened_in_the_middle() -> None:
    length = MOST_PIECES + 1000
    shown = shown_conversation(conversation([1] * length, [True] * length), letters, text=True)
    assert len(shown["pieces"]) == MOST_PIECES + 1
    (gap,) = [each for each in shown["ids"] if isinstance(each, int)]
    assert gap == 1000
    assert " … 1,000 tokens are left out … " in shown["pieces"]


def test_without_text_there_are_lengths_only() -> None:
    shown = shown_conversation(conversation([1, 2, 5, 7], [False, False, True, False]), letters, text=False)
    assert shown["pieces"] == ["[2 other tokens] ", "[1 trained tokens] ", "[1 other tokens] "]
    assert shown["ids"] == [2, 1, 1]
    assert shown["place"] == r"a\x1b.jsonl:17"
    assert (shown["tokens"], shown["share"], shown["row"]) == ("4 tokens", "25%", 7)


def test_without_a_tokenizer_there_are_ids() -> None:
    assert shown_conversation(conversation([1, 2], [False, True]), None, text=True)["pieces"] == ["1 ", "2 "]
