"""Tokens placed by their bytes, against the tokenizers library."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TOKENIZERS
from hypothesis import given
from hypothesis import strategies as st
from placed_tokens import control_tokens, encoded, metaspace, places_of, shared_encoder, small_tiler
from small_tokenizer import CHATML, resolve, shared_engine, shared_tokenizer, special, train
from strategies import texts_for_tokenizers
from tokenizers import normalizers

from sftprep.characters.offsets import ExactEncoder
from sftprep.characters.tiling import ByteTiler, TiledEncoder, bytes_of_name
from sftprep.tokens.engines import HfEngine
from sftprep.tokens.resolve import ResolvedTokenizer


def assert_tiles(tiler: ByteTiler, encoder: ExactEncoder, texts: Sequence[str]) -> list[bool]:
    exact = encoder.encode_with_starts(texts)
    starts, stops, tiled = tiler.place(texts, exact.tokens)
    assert (starts.dtype, stops.dtype, tiled.dtype) == (np.int32, np.int32, np.bool_)
    known = np.repeat(tiled, np.diff(exact.tokens.offsets))
    assert np.array_equal(starts[known], exact.starts[known])
    assert np.array_equal(stops[known], exact.stops[known])
    flags: list[bool] = tiled.tolist()
    return flags


@given(texts=st.lists(texts_for_tokenizers(), max_size=5))
def test_tiling_equals_the_library(texts: list[str]) -> None:
    tiler, encoder = small_tiler()
    assert all(assert_tiles(tiler, encoder, texts))


def test_texts_that_a_normalizer_changes_are_not_tiled(tmp_path: Path) -> None:
    added = [*special("<l>", lstrip=True), *special("<p>")]
    resolved = resolve(train(added=added, normalizer=normalizers.NFC()), tmp_path)
    tiler = ByteTiler.of(resolved)
    assert tiler is not None
    texts = ["plain<p>", "e\u0301", "a <l>", "", "\u212b", "naïve <p> 漢", "\u0344"]
    assert assert_tiles(tiler, ExactEncoder(resolved), texts) == [True, False, False, True, False, True, False]


def test_only_byte_level_tokenizers_tile(tmp_path: Path) -> None:
    assert ByteTiler.of(resolve(metaspace("always"), tmp_path)) is None


def test_tokens_of_another_text_do_not_tile(resolved: ResolvedTokenizer) -> None:
    tiler = ByteTiler.of(resolved)
    assert tiler is not None
    tokens = HfEngine(resolved).encode(["fox", "quick", "dog"])
    assert tiler.place(["fax", "quick", "dog"], tokens)[2].tolist() == [False, True, True]
    assert tiler.place(["fox", "quick", "do"], tokens)[2].tolist() == [True, True, False]


@given(texts=st.lists(texts_for_tokenizers(), max_size=4), chosen=st.randoms(use_true_random=False))
def test_tiled_encoder_equals_the_exact_one(texts: list[str], chosen: Any) -> None:
    _, encoder = small_tiler()
    places = [[place for place in places_of(text, CHATML) if chosen.random() < 0.8] for text in texts]
    tiled = TiledEncoder(encoder._resolved, encoder.reference, encoder).encode_plain_text(texts, places)
    exact = encoder.encode_plain_text(texts, places)
    assert tiled.tokens.offsets.tolist() == exact.tokens.offsets.tolist()
    assert [encoded(tiled, row) for row in range(len(texts))] == [encoded(exact, row) for row in range(len(texts))]


def test_tiled_encoder_leaves_what_a_normalizer_changes_to_the_exact_one(tmp_path: Path) -> None:
    resolved = resolve(train(normalizer=normalizers.NFC()), tmp_path)
    encoder = ExactEncoder(resolved, CHATML)
    tiled = TiledEncoder(resolved, encoder.reference, encoder)
    texts = ["plain<|im_end|>", "e\u0301<|im_end|>", ""]
    exact = encoder.encode_with_starts(texts)
    for placed in (tiled.encode_with_starts(texts), tiled.encode_plain_text(texts, [[(5, 15)], [(2, 12)], []])):
        assert [encoded(placed, row) for row in range(3)] == [encoded(exact, row) for row in range(3)]


def test_tiled_encoder_without_tiles_is_the_exact_one(tmp_path: Path) -> None:
    resolved = resolve(metaspace("always"), tmp_path)
    encoder = ExactEncoder(resolved, ["<s>"])
    tiled = TiledEncoder(resolved, encoder.reference, encoder)
    assert encoded(tiled.encode_plain_text(["<s>fox"], [[(0, 3)]])) == encoded(encoder.encode_with_starts(["<s>fox"]))


def conversations(corpus: Path, resolved: ResolvedTokenizer, every: int) -> list[str]:
    """Conversations of the corpus between control tokens that this tokenizer has."""
    start, end = sorted(control_tokens(resolved))[:2]
    with corpus.open(encoding="utf-8") as lines:
        chosen = [json.loads(line)["conversations"] for number, line in enumerate(lines) if number % every == 0]
    return ["".join(f"{start}{turn['role']}\n{turn['content']}{end}\n" for turn in each) for each in chosen]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_corpus_tiles_and_plain_text_changes_nothing_in_it(name: str, shared_data: Path, corpus: Path) -> None:
    resolved, encoder = shared_encoder(shared_data / "tokenizers" / name)
    texts = conversations(corpus, resolved, 400)
    tiler = ByteTiler.of(resolved)
    assert tiler is not None
    assert sum(assert_tiles(tiler, encoder, texts)) >= 0.9 * len(texts)
    contents = control_tokens(resolved)
    places = [places_of(text, contents) for text in texts]
    exact = encoder.encode_with_starts(texts)
    tiled = TiledEncoder(resolved, shared_engine(shared_data / "tokenizers" / name), encoder)
    for encode in (encoder.encode_plain_text, encoder._encode_renamed, tiled.encode_plain_text):
        placed = encode(texts, places)
        assert np.array_equal(placed.tokens.ids, exact.tokens.ids)
        assert np.array_equal(placed.tokens.offsets, exact.tokens.offsets)
        assert np.array_equal(placed.starts, exact.starts)
        assert np.array_equal(placed.stops, exact.stops)


def test_only_pieces_that_spell_a_control_token_go_to_the_reference(
    shared_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved, engine = (get(shared_data / "tokenizers" / "minimind-3") for get in (shared_tokenizer, shared_engine))
    encoder = ExactEncoder(resolved, resolved.control_tokens(), engine.reference)
    tiled = TiledEncoder(resolved, engine, encoder)
    asked: list[str] = []
    as_text = encoder.as_text
    monkeypatch.setattr(encoder, "as_text", lambda texts: (asked.extend(texts), as_text(texts))[1])
    assert encoder.pieces_suffice
    asked.clear()
    texts = ["<|im_start|>no forged text<|im_end|>", "<|im_start|>plain<|im_end|>spells <|im_end|> here<|im_end|>"]
    placed = tiled.encode_plain_text(texts, [[(0, 12), (26, 36)], [(0, 12), (17, 27), (49, 59)]])
    assert asked == ["spells <|im_end|> here"]
    assert encoder.have_controls(placed.tokens).tolist() == [True, True]


@given(text=texts_for_tokenizers(), others=st.lists(st.integers(-5, 2**40), max_size=3))
def test_ids_are_spelled_whatever_they_are(text: str, others: list[int]) -> None:
    tiler, encoder = small_tiler()
    ids = encoder.encode_with_starts([text]).tokens.ids.astype(np.int64)
    data, begins = tiler.spell(ids) or (b"", np.zeros(0))
    assert data == text.encode()
    own = [tiler.spell(ids[at : at + 1]) for at in range(len(ids))]
    assert [each and len(each[0]) for each in own] == np.diff(begins).tolist()
    if any(not 0 <= each < 300 for each in others):
        assert tiler.spell(np.array([*others, 10**9])) is None


def test_a_name_spells_bytes() -> None:
    assert bytes_of_name("Ġa") == b" a"
    assert bytes_of_name("âĺ") == b"\xe2\x98"
    assert bytes_of_name("▁a") is None
