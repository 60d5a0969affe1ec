"""Both engines give the same ids, and typed errors for texts and tokenizers that fail."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import TOKENIZERS
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizer import resolve, save, shared_engine, shared_tokenizer, train
from strategies import texts_for_tokenizers
from tokenizers import Regex, pre_tokenizers

from sftprep.errors import TokenizerError
from sftprep.tokens.ask_transformers import resolve_here
from sftprep.tokens.batch import split_rows
from sftprep.tokens.choose_engine import check_equal
from sftprep.tokens.engines import FastEngine, HfEngine, encode_apart
from sftprep.tokens.hostile_texts import hostile_texts
from sftprep.tokens.resolve import ResolvedTokenizer

pytestmark = pytest.mark.usefixtures("cache")


def corpus_texts(corpus: Path, every: int) -> list[str]:
    """Every so many conversations of the corpus, in ChatML."""
    with corpus.open(encoding="utf-8") as lines:
        chosen = [json.loads(line)["conversations"] for number, line in enumerate(lines) if number % every == 0]
    return [
        "".join(f"<|im_start|>{turn['role']}\n{turn['content']}<|im_end|>\n" for turn in conversation)
        for conversation in chosen
    ]


# -- equal ids --


@pytest.mark.parametrize("name", TOKENIZERS)
def test_engines_agree_on_the_corpus_and_on_hostile_texts(name: str, shared_data: Path, corpus: Path) -> None:
    fast = shared_engine(shared_data / "tokenizers" / name)
    reference = fast.reference
    assert (fast.name, reference.name) == ("fast", "hf")
    tokens = [token.content for token in shared_tokenizer(shared_data / "tokenizers" / name).added_tokens]
    texts = [*corpus_texts(corpus, 120), *hostile_texts(tokens, seed=1)]
    check_equal(fast, texts, reference.encode(texts))


@pytest.mark.parametrize("name", ["minimind-3", "qwen3", "llama3_1", "deepseek_v3"])
@settings(max_examples=150)
@given(texts=st.lists(texts_for_tokenizers(), max_size=4))
def test_engines_agree_on_any_text(name: str, shared_data: Path, texts: list[str]) -> None:
    fast = shared_engine(shared_data / "tokenizers" / name)
    check_equal(fast, texts, fast.reference.encode(texts))


@pytest.mark.parametrize("name", ["qwen3", "llama3_1"])
def test_what_fastokens_reads_otherwise_goes_to_the_reference(name: str, shared_data: Path) -> None:
    fast = shared_engine(shared_data / "tokenizers" / name)
    texts = ["plain", "it'\u017fter", "'\u017f\u017ft 'S", "", "  \u180e a"]
    check_equal(fast, texts, fast.reference.encode(texts))


@pytest.mark.parametrize("engine", [HfEngine, FastEngine])
def test_batches_are_flat(engine: type, resolved: ResolvedTokenizer) -> None:
    texts = ["one two", "", "<|im_start|>x<|im_end|>", "'\u017f"]
    batch = engine(resolved).encode(texts)
    assert batch.ids.dtype == np.uint32
    assert batch.offsets.dtype == np.int64
    assert batch.offsets.shape == (5,)
    assert [ids.tolist() for ids in split_rows(batch)] == [
        engine(resolved).encode([text]).ids.tolist() for text in texts
    ]
    nothing = engine(resolved).encode([])
    assert (nothing.ids.size, nothing.offsets.tolist()) == (0, [0])


@pytest.mark.parametrize("engine", [HfEngine, FastEngine])
def test_nothing_is_added_cut_or_padded(engine: type, tmp_path: Path) -> None:
    from tokenizers import processors

    tokenizer = train()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<|im_start|> $A <|im_end|>", special_tokens=[("<|im_start|>", 401), ("<|im_end|>", 402)]
    )
    tokenizer.enable_truncation(3)
    tokenizer.enable_padding(length=9)
    resolved = resolve_here(str(save(tokenizer, tmp_path / "t")))
    ids = engine(resolved).encode(["abc" * 20]).ids
    assert ids.size > 3
    assert not {401, 402} & set(ids.tolist())


# -- texts that fail --


@pytest.mark.parametrize("engine", [HfEngine, FastEngine])
def test_a_text_that_cannot_be_encoded_is_a_typed_error(engine: type, resolved: ResolvedTokenizer) -> None:
    with pytest.raises(TokenizerError, match="cannot encode a text") as caught:
        engine(resolved).encode(["fine", "secret \ud800"])
    assert "secret" not in str(caught.value)


def test_a_panic_is_a_typed_error(resolved: ResolvedTokenizer) -> None:
    tokenizer = train()
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(r"(x+x+)+y|[^y]"), "isolated")
    catastrophe = replace(resolved, backend=tokenizer.to_str())
    with pytest.raises(TokenizerError, match="cannot encode a text: PanicException"):
        HfEngine(catastrophe).encode(["x" * 40])
    assert encode_apart(HfEngine(catastrophe), ["a", "x" * 40])[1] == [1]


def test_a_tokenizer_that_panics_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="it cannot encode a text: PanicException"):
        resolve(train(r"(a+a+)+b|[^b]"), tmp_path)


@pytest.mark.parametrize("engine", [HfEngine, FastEngine])
def test_bad_texts_are_found_one_by_one(engine: type, resolved: ResolvedTokenizer) -> None:
    good, bad = "good text", "\udc00"
    batch, failed = encode_apart(engine(resolved), [bad, good, good, bad])
    assert failed == [0, 3]
    ids = engine(resolved).encode([good]).ids.tolist()
    assert [row.tolist() for row in split_rows(batch)] == [[], ids, ids, []]
    assert encode_apart(engine(resolved), [])[0].offsets.tolist() == [0]


def test_ids_that_change_on_loading_are_refused(resolved: ResolvedTokenizer) -> None:
    first, *rest = resolved.added_tokens
    moved = replace(resolved, added_tokens=(replace(first, id=first.id + 7), *rest))
    with pytest.raises(TokenizerError, match=f"added token {first.id + 7} gets another id"):
        HfEngine(moved).encode(["x"])
