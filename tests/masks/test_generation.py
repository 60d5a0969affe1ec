"""Masks from generation blocks, against a walk along tokens and against Transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest
from conftest import FULL
from hypothesis import given, settings
from hypothesis import strategies as st
from small_spans import Tokens, arrays, spans_of
from strategies import covered_texts
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoTokenizer, PreTrainedTokenizerFast
from transformers.utils.chat_template_utils import render_jinja_template

from sftprep.masks.generation import generation_mask
from sftprep.masks.spans import CharSpans
from sftprep.sample import TOKENIZER

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
