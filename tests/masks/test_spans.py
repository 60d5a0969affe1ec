"""Masks from spans of text, against a token-by-token oracle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import orjson
import pytest
from conftest import FULL
from hypothesis import given
from hypothesis import strategies as st
from small_spans import Tokens, arrays, spans_of
from strategies import covered_texts, separate_spans
from transformers import AutoTokenizer

from sftprep.errors import TemplateError
from sftprep.masks.spans import char_spans, span_mask
from sftprep.template.turns import Rendering, Span

CORPUS_STEP = 1 if FULL else 64  # of the corpus, conversations looked at


# -- spans --


def test_char_spans_of_renderings() -> None:
    asked = Rendering("<s>q<e><s>a<e>\n", (Span(0, 3, 7, 0), Span(1, 10, 14, 7)), ((0, 3), (4, 7), (7, 10), (11, 14)))
    bare = Rendering("answer", (Span(0, 0, 6, 0),), ())
    weights = [np.array([0, 1], np.float32), np.array([0.5], np.float32)]
    for train_end_of_turn, stops in [(True, [7, 14, 6]), (False, [4, 11, 6])]:
        spans = char_spans([asked, bare], weights, train_end_of_turn=train_end_of_turn)
        assert spans.conversation.tolist() == [0, 0, 1]
        assert spans.start.tolist() == [3, 10, 0]
        assert spans.stop.tolist() == stops
        assert spans.weight is not None
        assert spans.weight.tolist() == [0, 1, 0.5]


def test_char_spans_of_nothing() -> None:
    mask, boundary_tokens = span_mask(*arrays([[], [(0, 1)]]), char_spans([], []))
    assert mask.tolist() == [False]
    assert boundary_tokens.tolist() == [0, 0]


def span_oracle(
    tokens: Tokens, spans: list[list[tuple[int, int, float]]], texts: list[str] | None = None
) -> tuple[list[float], list[int]]:
    """Without texts, no token is known to hold nothing but white space of a header."""
    mask, boundary_tokens = [], []
    for row, ours, text in zip(tokens, spans, texts or ["x" * 1_000_000] * len(tokens), strict=True):
        boundary_tokens.append(0)
        for start, stop in row:
            weight = sum(w for first, last, w in ours if first <= start < last)
            reached = [(first, last, w) for first, last, w in ours if w and last > first and start < first < stop]
            if reached and not weight:
                first, last, w = reached[0]
                learned = text[start:first].isspace() and text[first : min(stop, last)].strip()
                weight = w if learned else 0
                boundary_tokens[-1] += not learned
            mask.append(weight)
    return mask, boundary_tokens


def test_tokens_of_a_character_cut_into_bytes_and_a_token_that_straddles() -> None:
    # text "ab€de": a | b and the first byte of € | the rest of € | d | e; trained is "€d"
    tokens = [(0, 1), (1, 3), (2, 3), (3, 4), (4, 5)]
    mask, boundary_tokens = span_mask(*arrays([tokens]), spans_of([[(2, 4, 1.0)]]))
    assert mask.tolist() == [False, False, True, True, False]
    assert boundary_tokens.tolist() == [1]


def test_a_token_that_reaches_from_one_span_into_the_next_is_trained() -> None:
    mask, boundary_tokens = span_mask(*arrays([[(0, 2), (2, 3)]]), spans_of([[(0, 1, 1.0), (1, 3, 1.0)]]))
    assert mask.tolist() == [True, True]
    assert boundary_tokens.tolist() == [0]


def test_weights_other_than_0_and_1_make_the_mask_float32() -> None:
    tokens: Tokens = [[(0, 1), (1, 2)], [(0, 1), (1, 2)]]
    mask, _ = span_mask(*arrays(tokens), spans_of([[(0, 1, 0.5)], [(1, 2, 1.0)]]))
    assert mask.dtype == np.float32
    assert mask.tolist() == [0.5, 0, 0, 1]
    mask, _ = span_mask(*arrays(tokens), spans_of([[(0, 1, 0.0)], [(1, 2, 1.0)]]))
    assert mask.dtype == np.bool_
    assert mask.tolist() == [False, False, False, True]


def test_spans_that_overlap_are_refused() -> None:
    with pytest.raises(TemplateError, match="conversation 1 of the batch: spans overlap"):
        span_mask(*arrays([[(0, 1)], [(0, 1)]]), spans_of([[(0, 9, 1.0)], [(0, 5, 1.0), (4, 9, 1.0)]]))


@given(st.data(), covered_texts())
def test_span_mask_equals_the_oracle(data: st.DataObject, tokens: Tokens) -> None:
    weights = data.draw(st.sampled_from([[1.0], [0.0, 1.0], [0.0, 0.25, 1.0]]))
    spans = [data.draw(separate_spans(st.sampled_from(weights))) for _ in tokens]
    mask, boundary_tokens = span_mask(*arrays(tokens), spans_of(spans))
    expected, expected_straddling = span_oracle(tokens, spans)
    assert mask.tolist() == expected
    assert boundary_tokens.tolist() == expected_straddling


@given(st.data(), covered_texts())
def test_span_mask_over_texts_equals_the_oracle(data: st.DataObject, tokens: Tokens) -> None:
    weights = data.draw(st.sampled_from([[1.0], [0.0, 1.0], [0.0, 0.25, 1.0]]))
    spans = [data.draw(separate_spans(st.sampled_from(weights))) for _ in tokens]
    texts = [data.draw(st.text("a \n", min_size=30, max_size=30)) for _ in tokens]
    renderings = [
        Rendering(text, tuple(Span(i, start, stop, start) for i, (start, stop, _) in enumerate(ours)), ())
        for text, ours in zip(texts, spans, strict=True)
    ]
    chosen = char_spans(renderings, [np.array([w for *_, w in ours], np.float32) for ours in spans])
    mask, boundary_tokens = span_mask(*arrays(tokens), chosen)
    expected, expected_straddling = span_oracle(tokens, spans, texts)
    assert mask.tolist() == expected
    assert boundary_tokens.tolist() == expected_straddling


@pytest.mark.parametrize(
    ("token", "trained"),
    [((2, 6), True), ((2, 4), True), ((1, 6), False), ((1, 3), False), ((2, 3), False), ((3, 6), True)],
)
def test_a_word_that_begins_in_the_white_space_of_a_header_is_trained(token: tuple[int, int], trained: bool) -> None:
    rendering = Rendering("A: Yes", (Span(0, 3, 6, 0),), ())
    mask, boundary_tokens = span_mask(*arrays([[token]]), char_spans([rendering], [np.ones(1, np.float32)]))
    assert mask.tolist() == [trained]
    assert boundary_tokens.tolist() == [not trained and token[1] > 3]


def test_spans_on_the_corpus(shared_data: Path, corpus: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / "qwen3", local_files_only=True)
    texts, spans = [], []
    for line in corpus.read_bytes().splitlines()[:: 2 * CORPUS_STEP]:
        text, ours = "", []
        for message in orjson.loads(line)["conversations"]:
            if message["role"] == "assistant":  # from its second character on: no boundary that tokens respect
                ours.append((len(text) + 1, len(text) + len(message["content"]), 1.0))
            text += message["content"]
        texts.append(text)
        spans.append(ours)
    tokens = tokenizer(texts, return_offsets_mapping=True).offset_mapping
    mask, boundary_tokens = span_mask(*arrays(tokens), spans_of(spans))
    expected, expected_straddling = span_oracle(tokens, spans)
    assert mask.tolist() == [bool(weight) for weight in expected]
    assert boundary_tokens.tolist() == expected_straddling
    assert boundary_tokens.any()
