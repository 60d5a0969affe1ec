"""Texts that bring out differences are many, and the same each time."""

from __future__ import annotations

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
