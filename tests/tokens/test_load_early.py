"""A tokenizer loads in the background."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sftprep.errors import TokenizerError
from sftprep.tokens.ask_transformers import resolve_here
from sftprep.tokens.engines import FastEngine, HfEngine
from sftprep.tokens.load_early import FastTokens, begin_tokenizer
from sftprep.tokens.resolve import ResolvedTokenizer

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
        assert ("tokens" in vars(begun)) is known  # else Transformers is asked first
        assert begun.resolved == resolve_here(str(folder))
        assert begun.tokens is not None
        assert begun.tokens._loading is not None  # under way
        raw, _ = begun.tokens.tokenizer.encode_batch_flat(["fox"])
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
    assert begun.tokens is None


def test_without_fastokens_nothing_is_begun(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fastokens", None)
    begun = begin_tokenizer(str(folder), trust_remote_code=False, fast=True)  # whoever needs it says why it cannot
    assert begun is not None
    assert begun.tokens is None
    with pytest.raises(TokenizerError, match="the fastokens package cannot be imported"):
        FastTokens(begun.resolved)
