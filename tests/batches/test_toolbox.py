"""What takes long to load is loaded as a build asks for it."""

from __future__ import annotations

import gc
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from small_builds import TOKENIZER

from sftprep.batches import toolbox
from sftprep.batches.toolbox import Toolbox, load, tokenizer_of
from sftprep.config import BuildConfig
from sftprep.records.conversation import Conversation
from sftprep.workers.trial import run_apart

SAID = Conversation(
    [{"role": "user", "content": "Hi"}, {"role": "assistant", "tool_calls": []}, {"role": "user", "content": "Yo"}],
    None,
    {},
    None,
)


@pytest.mark.parametrize("engine", ["hf", "fast"])
def test_a_build_has_the_engine_it_asks_for(engine: str, cache: Path) -> None:
    config = BuildConfig(("unused",), TOKENIZER, tokenizer_engine=engine)
    tools = load(config, tokenizer_of(config), first_conversations=[SAID])
    assert (tools.engine.name, tools.reason.startswith(f"tokenizer engine {engine}: ")) == (engine, True)
    text = tools.templates.small_talk().text
    placed, exact = (each.encode_with_starts([text]) for each in (tools.tiled, tools.exact))
    assert np.array_equal(placed.tokens.ids, exact.tokens.ids)
    assert np.array_equal(placed.starts, exact.starts)
    assert tools.engine.encode([text]).ids.tolist() == exact.tokens.ids.tolist()


def test_engines_are_compared_on_what_is_said_with_added_tokens_between() -> None:
    assert list(toolbox._texts([SAID], ["<a>", "<b>"])) == ["<a>Hi<b>Yo"]
    assert list(toolbox._texts([SAID], [])) == ["\nHi\nYo"]


def test_engines_are_compared_on_how_messages_begin_that_were_not_said_before() -> None:
    long = Conversation(
        [{"role": "system", "content": "Hi"}, {"role": "user", "content": "long" * 1000}], None, {}, None
    )
    first, second = toolbox._texts([SAID, long], ["<a>"])
    assert first == "<a>Hi<a>Yo"
    assert second == "<a>" + ("long" * 75)[:150]


def warmed(tools: Toolbox) -> tuple[bool, bool]:
    """Whether the tiler is made, and what is loaded is out of the collector's reach."""
    before = gc.get_freeze_count()
    tools.warm()
    return "tiler" in vars(tools.tiled), gc.get_freeze_count() > before


def test_all_is_loaded_before_workers_are_forked(cache: Path) -> None:
    tools = load(BuildConfig(("unused",), TOKENIZER, tokenizer_engine="hf"))
    assert "tiler" not in vars(tools.tiled)
    assert run_apart(partial(warmed, tools), what="warming") == (True, True)  # not in this process
