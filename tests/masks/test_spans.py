"""Masks from spans of text, against token-by-token oracles and against Transformers."""

from __future__ import annotations

from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from conftest import FULL
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import covered_texts, separate_spans
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from sftprep.errors import ConfigError, TemplateError
from sftprep.masks.generation import generation_mask
from sftprep.masks.paint import paint
from sftprep.masks.spans import CharSpans, char_spans, span_mask
from sftprep.masks.train_on import TrainOn
from sftprep.masks.weights import message_weights
from sftprep.sample import TOKENIZER
from sftprep.template.turns import Rendering, Span

CORPUS_STEP = 1 if FULL else 64  # of the corpus, conversations looked at
BLOCKS = (
    "{%- for m in messages -%}{{- '<|im_start|>' + m.role + '\\n' -}}{%- if m.role == 'assistant' -%}"
    "{%- generation -%}{{- m.content + '<|im_end|>' -}}{%- endgeneration -%}{{- '\\n' -}}"
    "{%- else -%}{{- m.content + '<|im_end|>\\n' -}}{%- endif -%}{%- endfor -%}"
)
BARE_BLOCKS = (
    "{%- for m in messages -%}{%- if m.role == 'assistant' -%}{%- generation -%}{{- m.content -}}{%- endgeneration -%}"
    "{%- else -%}{{- m.content -}}{%- endif -%}{%- endfor -%}"
)
# what a macro has printed so far does not count when its blocks are placed: they overlap
BLOCKS_IN_A_MACRO = (
    "{%- macro say(m) -%}{{- m.role -}}{%- generation -%}{{- m.content -}}{%- generation -%}{{- m.role -}}"
    "{%- endgeneration -%}{%- endgeneration -%}{%- endmacro -%}{%- for m in messages -%}{{- say(m) -}}{%- endfor -%}"
)

Tokens = list[list[tuple[int, int]]]  # (start, stop) characters of each token, by conversation


def arrays(tokens: Tokens) -> tuple[Any, Any, Any]:
    """starts, stops, offsets as the masks take them."""
    flat = np.array([pair for row in tokens for pair in row], np.int64).reshape(-1, 2)
    return flat[:, 0], flat[:, 1], np.array([0, *accumulate(map(len, tokens))], np.int64)


def spans_of(spans: list[list[tuple[int, int, float]]]) -> CharSpans:
    flat = [(index, *span) for index, row in enumerate(spans) for span in row]
    columns = np.array(flat, np.float64).reshape(-1, 4).T
    conversation, start, stop = columns[:3].astype(np.int64)
    return CharSpans(conversation, start, stop, columns[3].astype(np.float32))


# -- paint --


def test_paint() -> None:
    starts, stops = np.array([1, 3, 5]), np.array([3, 3, 6])
    assert paint(starts, stops, 7).tolist() == [False, True, True, False, False, True, False]
    weights = np.array([0.5, 1, 1], np.float32)
    assert paint(starts, stops, 7, weights).tolist() == [0, 0.5, 0.5, 0, 0, 1, 0]
    assert paint(starts, stops, 7, weights).dtype == np.float32
    assert paint(starts, stops, 7, np.array([0, 1, 1], np.float32)).tolist() == [False] * 5 + [True, False]
    assert paint(starts[:0], stops[:0], 2).tolist() == [False, False]


def test_paint_refuses_runs_that_overlap() -> None:
    with pytest.raises(ValueError):
        paint(np.array([0, 2]), np.array([3, 4]), 5)


# -- who is trained --


@pytest.mark.parametrize(
    ("train_on", "expected"),
    [
        ("assistant", [0, 0, 1, 0, 1]),
        ("last", [0, 0, 0, 0, 1]),
        ("all", [1, 1, 1, 1, 1]),
        ("user", [0, 1, 0, 0, 0]),
        ("assistant, tool", [0, 0, 1, 1, 1]),
    ],
)
def test_train_on(train_on: str, expected: list[int]) -> None:
    weights = message_weights(["system", "user", "assistant", "tool", "assistant"], TrainOn.parse(train_on))
    assert weights.tolist() == expected
    assert weights.dtype == np.float32


def test_last_means_the_last_assistant_message() -> None:
    assert message_weights(["assistant", "user"], TrainOn.parse("last")).tolist() == [1, 0]
    assert message_weights(["user"], TrainOn.parse("last")).tolist() == [0]


def test_a_given_weight_wins_both_ways() -> None:
    roles = ["user", "assistant", "user", "assistant"]
    assert message_weights(roles, TrainOn.parse("assistant"), [1.0, None, 0.0, 0.5]).tolist() == [1, 1, 0, 0.5]
    assert message_weights(roles, TrainOn.parse("last"), [None, 1.0, None, 0.0]).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("train_on", ["", ",", "last,user", "all, assistant"])
def test_train_on_that_means_nothing(train_on: str) -> None:
    with pytest.raises(ConfigError, match="expected assistant, last, all, or roles of"):
        message_weights(["user"], TrainOn.parse(train_on))


def test_as_many_weights_as_messages() -> None:
    with pytest.raises(ValueError, match="1 weights for 2 messages"):
        message_weights(["user", "assistant"], TrainOn.parse("assistant"), [1.0])


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


def span_oracle(tokens: Tokens, spans: list[list[tuple[int, int, float]]]) -> tuple[list[float], list[int]]:
    mask, boundary_tokens = [], []
    for row, ours in zip(tokens, spans, strict=True):
        boundary_tokens.append(0)
        for start, stop in row:
            weight = sum(w for first, last, w in ours if first <= start < last)
            reaches = any(w and last > first and start < first < stop for first, last, w in ours)
            boundary_tokens[-1] += reaches and not weight
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


# -- generation blocks --


def generation_oracle(tokens: Tokens, blocks: list[list[tuple[int, int]]]) -> list[bool]:
    """`PreTrainedTokenizerBase.apply_chat_template`: one walk along tokens and blocks."""
    mask = []
    for row, ours in zip(tokens, blocks, strict=True):
        left = list(ours)
        for start, stop in row:
            while left and left[0][1] <= start:
                left.pop(0)
            mask.append(bool(left) and left[0][0] < stop)
    return mask


def blocks_of(blocks: list[list[tuple[int, int]]]) -> CharSpans:
    spans = spans_of([[(start, stop, 1.0) for start, stop in row] for row in blocks])
    return CharSpans(spans.conversation, spans.start, spans.stop)


def test_every_token_that_overlaps_a_block_is_in_it() -> None:
    # text "ab🦜c": a | b and the first byte of 🦜 | the rest of it | c; the block is "🦜"
    tokens = [(0, 1), (1, 3), (2, 3), (3, 4)]
    mask = generation_mask(*arrays([tokens, tokens]), blocks_of([[(2, 3)], []]))
    assert mask.tolist() == [False, True, True, False] + [False] * 4


@given(st.data(), covered_texts(), st.booleans())
def test_generation_mask_equals_the_oracle(data: st.DataObject, tokens: Tokens, shuffled: bool) -> None:
    """Blocks of macros overlap, and come in any order; offsets of some tokenizers run backwards."""
    block = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda ends: (min(ends), max(ends)))
    blocks = [data.draw(st.lists(block, max_size=4)) for _ in tokens]
    if shuffled:
        tokens = [data.draw(st.permutations(row)) for row in tokens]
    mask = generation_mask(*arrays(tokens), blocks_of(blocks))
    assert mask.tolist() == generation_oracle(tokens, blocks)


def transformers_masks(tokenizer: Any, chats: list[Any], template: str) -> tuple[list[bool], list[bool]]:
    """Ours and theirs, by token."""
    theirs = tokenizer.apply_chat_template(
        chats, chat_template=template, return_dict=True, return_assistant_tokens_mask=True
    )
    texts, blocks = render_jinja_template(chats, chat_template=template, return_assistant_tokens_mask=True)
    encoded = tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)
    assert encoded.input_ids == theirs.input_ids
    ours = generation_mask(*arrays(encoded.offset_mapping), blocks_of(blocks))
    return ours.tolist(), [bool(value) for row in theirs.assistant_masks for value in row]


@pytest.fixture(scope="module")
def byte_level() -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(TOKENIZER, local_files_only=True)


@pytest.fixture(scope="module")
def words_only() -> PreTrainedTokenizerFast:
    """White space is in no token."""
    backend = Tokenizer(models.WordLevel({"[UNK]": 0, "a": 1, "bb": 2}, unk_token="[UNK]"))  # noqa: S106
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    return PreTrainedTokenizerFast(tokenizer_object=backend, unk_token="[UNK]")  # noqa: S106


@pytest.mark.parametrize("template", [BARE_BLOCKS, BLOCKS_IN_A_MACRO])
@pytest.mark.parametrize("kind", ["byte_level", "words_only"])
@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.text("a b\n🦜é", max_size=5)), min_size=1, max_size=6))
def test_generation_mask_equals_transformers(
    request: pytest.FixtureRequest, kind: str, template: str, messages: list[tuple[bool, str]]
) -> None:
    chat = [{"role": "assistant" if block else "user", "content": content} for block, content in messages]
    ours, theirs = transformers_masks(request.getfixturevalue(kind), [chat], template)
    assert ours == theirs


def test_generation_mask_equals_transformers_on_the_corpus(shared_data: Path, corpus: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / "minimind-3", local_files_only=True)
    lines = corpus.read_bytes().splitlines()[::CORPUS_STEP]
    for at in range(0, len(lines), 500):
        chats = [orjson.loads(line)["conversations"] for line in lines[at : at + 500]]
        ours, theirs = transformers_masks(tokenizer, chats, BLOCKS)
        assert ours == theirs
        assert any(ours)
