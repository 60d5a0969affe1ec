"""A tokenizer loads in the background."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sftprep.errors import TokenizerError
from sftprep.tokens.engines import FastEngine, HfEngine
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
