"""Texts that bring out differences are many, and the same each time."""

from __future__ import annotations

import unicodedata

import pytest

from sftprep.tokens.hostile_texts import hostile_texts

pytestmark = pytest.mark.usefixtures("cache")


def test_hostile_texts_are_many_and_always_the_same() -> None:
    tokens = ["<|im_start|>", "<|im_end|>", "<think>"]
    texts = hostile_texts(tokens)
    assert texts == hostile_texts(tokens)
    assert texts != hostile_texts(tokens, seed=1)
    assert len(texts) > 400
    assert {"<|im_start|>", "<|im_start|><|im_start|>", "<|im_start|", "<|IM_END|>"} <= set(texts)
    assert any("<|im_" in text and "\u0301" in text for text in texts)
    assert max(map(len, texts)) > 16_384
    assert all(text.encode() is not None for text in texts)


def test_hostile_texts_hold_every_token_however_many_there_are() -> None:
    tokens = [f"<|{number}|>" for number in range(5000)]
    texts = hostile_texts(tokens)
    assert set(tokens) <= set(texts)
    assert sum(map(len, texts)) < 200_000


def test_every_new_mark_stands_in_every_context() -> None:
    """154 marks; to normalize a text, those that this Python knows are put behind a mark of the lowest class."""
    texts = hostile_texts([])
    marks = [text[0] for text in texts if text[1:2] == " " and text[-1] == text[0] != " "]
    known = [mark for mark in marks if unicodedata.combining(mark)]
    assert len(marks) == len(set(marks)) == 154
    assert {"\u07fd", "\u0897", "\u089f", "\U0001e6ee", "\U0001e6f5"} <= set(marks)
    assert len(known) > 90
    for mark in marks:
        (text,) = [text for text in texts if mark in text]
        around = ("a{}b", "1{}2", " {}", "{} ", "{}\n", "\n{}", "{0}{0}", " {}\u0334", "a{}\u0334")
        assert all(context.format(mark) in text for context in around)
        assert text[0] == text[-1] == mark
        assert (f"a\u0334{mark}" in unicodedata.normalize("NFC", text)) == (mark in known)
