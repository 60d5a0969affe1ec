"""A tokenizer loads in the background."""

from __future__ import annotations

import hashlib
import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_tokenizer import save, train
from tokenizers import AddedToken, Tokenizer

from sftprep.errors import TokenizerError
from sftprep.tokens.ask_transformers import resolve_here
from sftprep.tokens.batch import split_rows
from sftprep.tokens.engines import FastEngine, HfEngine
from sftprep.tokens.load_early import (
    NOT_LOADED,
    FastTokens,
    Guess,
    Loaded,
    begin_tokenizer,
    text_for_fast,
    with_short_merges,
)
from sftprep.tokens.resolve import ResolvedTokenizer, resolve_tokenizer

pytestmark = pytest.mark.usefixtures("cache")


@pytest.mark.parametrize("engine", [HfEngine, FastEngine])
def test_an_engine_may_load_in_the_background(engine: type, resolved: ResolvedTokenizer) -> None:
    begun = engine(resolved)
    begun.begin()
    begun.begin()

    assert begun.encode(["fox"]).ids.tolist() == engine(resolved).encode(["fox"]).ids.tolist()


def test_what_fails_in_the_background_is_a_typed_error(resolved: ResolvedTokenizer) -> None:
    engine = FastEngine(replace(resolved, backend="{}"))
    engine.begin()

    with pytest.raises(TokenizerError, match="fastokens cannot load it"):
        engine.encode(["fox"])


def test_a_build_begins_with_its_tokenizer_where_it_lies_in_a_folder(folder: Path) -> None:
    for known in (False, True):
        begun = begin_tokenizer(str(folder), trust_remote_code=False, fast=True)
        assert begun is not None
        assert ("loaded" in vars(begun)) is known  # else Transformers is asked first
        assert begun.resolved == resolve_here(str(folder))
        assert begun.loaded.fast is not None
        assert begun.loaded.fast._loading is not None  # under way
        raw, _ = begun.loaded.fast.tokenizer.encode_batch_flat(["fox"])
        assert np.frombuffer(raw, np.uint32).tolist() == HfEngine(begun.resolved).encode(["fox"]).ids.tolist()


def test_what_is_wrong_with_a_tokenizer_is_said_when_it_is_needed(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")
    begun = begin_tokenizer(str(folder), trust_remote_code=False, fast=True)
    assert begun is not None
    with pytest.raises(TokenizerError, match="Transformers cannot load it"):
        _ = begun.resolved


def test_what_is_not_needed_yet_is_not_begun(folder: Path) -> None:
    assert begin_tokenizer("nobody/nothing", trust_remote_code=False, fast=True) is None
    begun = begin_tokenizer(str(folder), trust_remote_code=False, fast=False)
    assert begun is not None
    assert begun.loaded == NOT_LOADED


def test_without_fastokens_nothing_is_begun(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastokens", None)
    begun = begin_tokenizer(str(folder), trust_remote_code=False, fast=True)  # whoever needs it says why it cannot
    assert begun is not None
    assert begun.loaded.fast is None
    with pytest.raises(TokenizerError, match="the fastokens package cannot be imported"):
        FastTokens(text_for_fast(begun.resolved.backend))


def given(loaded: Loaded, texts: list[str]) -> list[list[list[int]]]:
    """The ids of each library."""
    reference = [each.ids for each in loaded.reference.encode_batch(texts, add_special_tokens=False)]
    fast = (
        [loaded.fast.tokenizer.encode(text, add_special_tokens=False) for text in texts] if loaded.fast else reference
    )
    return [reference, [list(getattr(ids, "ids", ids)) for ids in fast]]


TEXTS = ["The fox's tail, 12345!\n\n  return <|im_end|>x", "naïve 漢字 🙂 \u2028 don't", "a<think>b</think>", ""]


@pytest.mark.parametrize("name", ["deepseek_v3", "minimind-3", "qwen3"])
def test_what_a_published_tokenizer_states_is_what_it_means(shared_data: Path, name: str) -> None:
    folder = shared_data / "tokenizers" / name
    guess = Guess(str(folder))  # while Transformers is asked
    resolved = resolve_tokenizer(str(folder))
    loaded = guess.confirmed(resolved)

    assert loaded.fast is not None
    assert hashlib.sha256(loaded.reference.to_str().encode()).hexdigest() == resolved.sha256
    right = [each.ids for each in Tokenizer.from_str(resolved.backend).encode_batch(TEXTS, add_special_tokens=False)]
    assert given(loaded, TEXTS) == [right, right]


@pytest.mark.parametrize("padded", [False, True])
def test_what_transformers_reads_otherwise_is_loaded_anew(tmp_path: Path, padded: bool) -> None:
    tokenizer = train(pattern=r"\d|\D+")  # a Qwen 2 tokenizer has its own pattern, whatever its file says
    if padded:
        tokenizer.enable_padding(length=8)
        tokenizer.enable_truncation(4)
    save(tokenizer, tmp_path, {"tokenizer_class": "Qwen2Tokenizer"})
    stated = json.loads((tmp_path / "tokenizer.json").read_text())
    stated["model"] |= {"continuing_subword_prefix": "", "end_of_word_suffix": ""}  # as Qwen's own
    (tmp_path / "tokenizer.json").write_text(json.dumps(stated))
    resolved = resolve_here(str(tmp_path))
    loaded = Guess(str(tmp_path)).confirmed(resolved)

    assert loaded.fast is None
    assert hashlib.sha256(loaded.reference.to_str().encode()).hexdigest() == resolved.sha256
    right = [ids.tolist() for ids in split_rows(HfEngine(resolved).encode(TEXTS))]
    assert given(loaded, TEXTS)[0] == right != [tokenizer.encode(text).ids for text in TEXTS]
    assert [ids.tolist() for ids in split_rows(HfEngine(resolved, loaded).encode(TEXTS))] == right


def test_nothing_of_a_guess_is_used_where_tokens_or_words_are_others(tmp_path: Path) -> None:
    kept, other = tmp_path / "kept", tmp_path / "other"
    resolved = resolve_here(str(save(train(), kept)))
    for tokenizer in (train(added=[AddedToken("<|im_end|>")]), train(size=390)):
        assert Guess(str(save(tokenizer, other))).confirmed(resolved) == NOT_LOADED
    assert Guess(str(kept)).confirmed(resolved) != NOT_LOADED


@pytest.mark.parametrize(
    "contents", [None, "", "{", "[]", "{}", '{"model": {"type": "BPE"}, "added_tokens": 3}', "sparse"]
)
def test_a_guess_from_what_is_no_tokenizer_is_none(
    tmp_path: Path, resolved: ResolvedTokenizer, contents: str | None
) -> None:
    path = tmp_path / "guessed" / "tokenizer.json"
    path.parent.mkdir()
    if contents == "sparse":
        with path.open("wb") as file:
            file.truncate(1 << 34)
    elif contents is not None:
        path.write_text(contents)
    assert Guess(str(path.parent)).confirmed(resolved) == NOT_LOADED


def test_short_merges_mean_what_long_ones_do() -> None:
    stated = json.loads(train().to_str())
    written = with_short_merges(stated)
    assert all(isinstance(merge, str) for merge in json.loads(written)["model"]["merges"])
    assert Tokenizer.from_str(written).to_str() == Tokenizer.from_str(json.dumps(stated)).to_str()
    stated["model"]["merges"][0] = ["#version", "x"]
    assert json.loads(with_short_merges(stated)) == stated
