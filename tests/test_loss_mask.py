"""Masks from spans of text, against token-by-token oracles and against Transformers."""

from __future__ import annotations

from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any

import numpy as np
import orjson
import pytest
from conftest import FULL
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import covered_texts, separate_spans
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from sftprep.errors import ConfigError, TemplateError, TokenizerError
from sftprep.loss_mask import CharSpans, char_spans, generation_mask, message_weights, paint, span_mask, union
from sftprep.sample import TOKENIZER
from sftprep.turns import Rendering, Span

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


# -- paint and union --


def test_paint_and_union() -> None:
    starts, stops = np.array([1, 3, 5]), np.array([3, 3, 6])
    assert paint(starts, stops, 7).tolist() == [False, True, True, False, False, True, False]
    weights = np.array([0.5, 1, 1], np.float32)
    assert paint(starts, stops, 7, weights).tolist() == [0, 0.5, 0.5, 0, 0, 1, 0]
    assert paint(starts, stops, 7, weights).dtype == np.float32
    assert paint(starts, stops, 7, np.array([0, 1, 1], np.float32)).tolist() == [False] * 5 + [True, False]
    assert paint(starts[:0], stops[:0], 2).tolist() == [False, False]
    assert union(np.array([4, 0, 1]), np.array([5, 2, 3]), 6).tolist() == [True, True, True, False, True, False]


def test_paint_refuses_runs_that_overlap() -> None:
    with pytest.raises(ValueError):
        paint(np.array([0, 2]), np.array([3, 4]), 5)


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)).map(sorted), max_size=6))
def test_union_is_any_run(runs: list[list[int]]) -> None:
    table = np.array(runs, np.int64).reshape(-1, 2)
    expected = [any(start <= at < stop for start, stop in runs) for at in range(9)]
    assert union(table[:, 0], table[:, 1], 9).tolist() == expected


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
    weights = message_weights(["system", "user", "assistant", "tool", "assistant"], train_on)
    assert weights.tolist() == expected
    assert weights.dtype == np.float32


def test_last_means_the_last_assistant_message() -> None:
    assert message_weights(["assistant", "user"], "last").tolist() == [1, 0]
    assert message_weights(["user"], "last").tolist() == [0]


def test_a_given_weight_wins_both_ways() -> None:
    roles = ["user", "assistant", "user", "assistant"]
    assert message_weights(roles, "assistant", [1.0, None, 0.0, 0.5]).tolist() == [1, 1, 0, 0.5]
    assert message_weights(roles, "last", [None, 1.0, None, 0.0]).tolist() == [0, 1, 0, 0]


@pytest.mark.parametrize("train_on", ["", ",", "last,user", "all, assistant"])
def test_train_on_that_means_nothing(train_on: str) -> None:
    with pytest.raises(ConfigError, match="expected assistant, last, all, or a comma list"):
        message_weights(["user"], train_on)


def test_as_many_weights_as_messages() -> None:
    with pytest.raises(ValueError, match="1 weights for 2 messages"):
        message_weights(["user", "assistant"], "assistant", [1.0])


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
    mask, straddling = span_mask(*arrays([[], [(0, 1)]]), char_spans([], []))
    assert mask.tolist() == [False]
    assert straddling.tolist() == [0, 0]


def span_oracle(tokens: Tokens, spans: list[list[tuple[int, int, float]]]) -> tuple[list[float], list[int]]:
    mask, straddling = [], []
    for row, ours in zip(tokens, spans, strict=True):
        straddling.append(0)
        for start, stop in row:
            weight = sum(w for first, last, w in ours if first <= start < last)
            reaches = any(w and last > first and start < first < stop for first, last, w in ours)
            straddling[-1] += reaches and not weight
            mask.append(weight)
    return mask, straddling


def test_tokens_of_a_character_cut_into_bytes_and_a_token_that_straddles() -> None:
    # text "ab€de": a | b and the first byte of € | the rest of € | d | e; trained is "€d"
    tokens = [(0, 1), (1, 3), (2, 3), (3, 4), (4, 5)]
    mask, straddling = span_mask(*arrays([tokens]), spans_of([[(2, 4, 1.0)]]))
    assert mask.tolist() == [False, False, True, True, False]
    assert straddling.tolist() == [1]


def test_a_token_that_reaches_from_one_span_into_the_next_is_trained() -> None:
    mask, straddling = span_mask(*arrays([[(0, 2), (2, 3)]]), spans_of([[(0, 1, 1.0), (1, 3, 1.0)]]))
    assert mask.tolist() == [True, True]
    assert straddling.tolist() == [0]


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
    mask, straddling = span_mask(*arrays(tokens), spans_of(spans))
    expected, expected_straddling = span_oracle(tokens, spans)
    assert mask.tolist() == expected
    assert straddling.tolist() == expected_straddling


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
    mask, straddling = span_mask(*arrays(tokens), spans_of(spans))
    expected, expected_straddling = span_oracle(tokens, spans)
    assert mask.tolist() == [bool(weight) for weight in expected]
    assert straddling.tolist() == expected_straddling
    assert straddling.any()


# -- generation blocks --


def char_to_token(row: list[tuple[int, int]], char: int) -> int | None:
    return next((index for index, (start, stop) in enumerate(row) if start <= char < stop), None)


def generation_oracle(tokens: Tokens, blocks: list[list[tuple[int, int]]]) -> list[bool]:
    """`PreTrainedTokenizerBase.apply_chat_template`, but an empty block at 0 is skipped where it raises."""
    masks = []
    for row, ours in zip(tokens, blocks, strict=True):
        mask = [False] * len(row)
        for start, stop in ours:
            if stop == 0:
                continue
            first, last = char_to_token(row, start), char_to_token(row, stop - 1)
            if first is None:
                break
            for index in range(first, last + 1 if last else len(row)):
                mask[index] = True
        masks += mask
    return masks


def blocks_of(blocks: list[list[tuple[int, int]]]) -> CharSpans:
    spans = spans_of([[(start, stop, 1.0) for start, stop in row] for row in blocks])
    return CharSpans(spans.conversation, spans.start, spans.stop)


@given(st.data(), covered_texts())
def test_generation_mask_equals_the_oracle(data: st.DataObject, tokens: Tokens) -> None:
    block = st.tuples(st.integers(0, 12), st.integers(0, 12)).map(lambda ends: (min(ends), max(ends)))
    blocks = [data.draw(st.lists(block, max_size=4)) for _ in tokens]
    mask = generation_mask(*arrays(tokens), blocks_of(blocks))
    assert mask.tolist() == generation_oracle(tokens, blocks)


def test_a_block_after_the_last_token_ends_its_own_conversations_mask_only() -> None:
    blocks = [[(1, 1), (0, 1)], [(0, 1)]]
    mask = generation_mask(*arrays([[(0, 1)], [(0, 1)]]), blocks_of(blocks))
    assert mask.tolist() == [False, True]


def test_offsets_that_run_backwards_are_refused() -> None:
    with pytest.raises(TokenizerError, match="run backwards"):
        generation_mask(*arrays([[(3, 4), (0, 1)]]), blocks_of([[(0, 1)]]))


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


@pytest.mark.parametrize("kind", ["byte_level", "words_only"])
@settings(max_examples=60)
@given(st.lists(st.tuples(st.booleans(), st.text("a b\n🦜é", max_size=5)), min_size=1, max_size=6))
def test_generation_mask_equals_transformers(
    request: pytest.FixtureRequest, kind: str, messages: list[tuple[bool, str]]
) -> None:
    leading = list(takewhile(lambda message: not message[1], messages))
    assume(len(leading) < len(messages))
    assume(not any(block for block, _ in leading))  # an empty block at the very start: Transformers raises
    chat = [{"role": "assistant" if block else "user", "content": content} for block, content in messages]
    ours, theirs = transformers_masks(request.getfixturevalue(kind), [chat], BARE_BLOCKS)
    assert ours == theirs


def test_generation_mask_equals_transformers_on_the_corpus(shared_data: Path, corpus: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / "minimind-3", local_files_only=True)
    lines = corpus.read_bytes().splitlines()[::CORPUS_STEP]
    for at in range(0, len(lines), 500):
        chats = [orjson.loads(line)["conversations"] for line in lines[at : at + 500]]
        ours, theirs = transformers_masks(tokenizer, chats, BLOCKS)
        assert ours == theirs
        assert any(ours)
