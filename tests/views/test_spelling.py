"""What ids stand for: text, bytes, and whether a text is in them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models

from sftprep.sample import TOKENIZER
from sftprep.tokens.resolve import ResolvedTokenizer, resolve_tokenizer
from sftprep.views.spelling import Spelling, in_bytes

SAMPLE = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
SPELLING = Spelling(resolve_tokenizer(str(TOKENIZER)))


def words() -> Spelling:
    """Of a tokenizer that is not of bytes, but has tokens of one."""
    vocabulary = {"▁one": 0, "two": 1, "<0xE2>": 2, "<0x98>": 3, "<0x83>": 4, "?": 5}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))  # noqa: S106 - a token, but no password
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace()])
    nothing = {"chat_templates": {}, "special_tokens": {}, "added_tokens": (), "bos_id": None, "eos_id": None}
    more = {"pad_id": 0, "size": 6, "versions": {}, "hostile_texts": "", "hostile_ids": "", "sha256": ""}
    return Spelling(ResolvedTokenizer(tokenizer.to_str(), **nothing, **more))  # type: ignore[arg-type]


@given(st.text(st.characters(codec="utf-8"), max_size=40))
def test_bytes_of_tokens_are_those_of_the_text(text: str) -> None:
    ids = SAMPLE.encode(text).ids
    assert b"".join(SPELLING.bytes_of(token) or b"" for token in ids) == text.encode()
    assert SPELLING(ids) == text


def test_added_tokens_are_known_and_unknown_ids_have_no_bytes() -> None:
    assert SPELLING.bytes_of(3992) == b"<|im_start|>"
    assert SPELLING.is_added(3992)
    assert not SPELLING.is_added(30)
    assert [SPELLING.bytes_of(token) for token in (10**6, 2**40, -1)] == [None] * 3


def test_tokens_of_one_byte_in_a_vocabulary_of_words() -> None:
    assert [words().bytes_of(token) for token in range(5)] == [b" one", b"two", b"\xe2", b"\x98", b"\x83"]


@pytest.mark.parametrize("spelling", [SPELLING, words()], ids=["bytes", "words"])
def test_who_holds_a_text(spelling: Spelling) -> None:
    """Not what two conversations hold together."""
    two = [0, 1] if spelling is not SPELLING else SAMPLE.encode("one two").ids
    talks = [np.array(two), np.array([], np.int64), np.array(two[:-1]), np.array(two[-1:])]
    assert spelling.holding(talks, "one") == [0, 2]
    assert spelling.holding(talks, "two") == [0, 3]
    assert spelling.holding(talks, "twoone") == spelling.holding(talks, "three") == []


def test_ids_that_no_token_has_do_no_harm() -> None:
    assert SPELLING.holding([np.array([10**6, 3992, -1 & 0xFFFF]), np.array([3992])], "<|im_start|>") == [0, 1]


@given(st.binary(max_size=30))
def test_bytes_that_are_no_character_are_in_digits(data: bytes) -> None:
    shown = in_bytes(data)
    assert shown.encode() == data or "⟨" in shown
    assert in_bytes(b"a\xe2\x98b\xf0") == "a⟨e2 98⟩b⟨f0⟩"
    assert in_bytes("☃\ufffd".encode()) == "☃\ufffd"
