"""Ids as pieces of text: whole characters, each once. More is held by `tests/look/test_rows.py`, in colour."""

from __future__ import annotations

from tokenizers import Tokenizer, decoders, models

from sftprep.views.pieces import pieces


def test_a_token_without_text_is_shown_by_its_id() -> None:
    assert list(pieces([2**31, 1], lambda ids: "".join("a" for i in ids if i == 1))) == [(0, "[2147483648]"), (1, "a")]


def test_a_decoder_that_strips_the_first_space_loses_none() -> None:
    words = Tokenizer(models.WordLevel({"▁one": 0, "▁two": 1, "s": 2, "▁three": 3}, unk_token="s"))  # noqa: S106 - a token, but no password
    words.decoder = decoders.Metaspace()

    assert [part for _, part in pieces([0, 1, 2, 3], words.decode)] == ["one", " two", "s", " three"]
