"""What takes long to load and serves every split: tokenizer engines and chat templates.

Loaded once, before worker processes are forked, so that they share it; where processes cannot be forked each loads its
own.
"""

from __future__ import annotations

import ctypes
import gc
import platform
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from time import monotonic

from sftprep.config import BuildConfig
from sftprep.conversations import Conversation
from sftprep.engine_choice import choose_engine
from sftprep.errors import ConversationError
from sftprep.fast_tokens import BegunTokenizer
from sftprep.resolve import ResolvedTokenizer
from sftprep.templates import Templates
from sftprep.token_offsets import ExactEncoder
from sftprep.token_tiling import TiledEncoder
from sftprep.tokenizer import TokenEngine

_WARM_CONVERSATIONS, _WARM_SECONDS = 1000, 1.0
_OBJECTS = 100_000  # the cyclic collector runs after so many new ones: a batch makes some ten thousand, hardly a cycle


@dataclass(frozen=True, slots=True, eq=False)
class Loaded:
    """Engines load when they are first used."""

    resolved: ResolvedTokenizer
    templates: Templates
    engine: TokenEngine
    exact: ExactEncoder  # by the reference library
    tiled: TiledEncoder  # gives the same, by the engine where it can
    reason: str  # why this engine, for the log

    def warm(self, conversations: Iterator[Conversation]) -> None:
        """Load all now, and meet the shapes of the first conversations while the engine loads."""
        self.engine.begin()
        self.engine.reference.encode(["warm"])
        _ = self.tiled.tiler, self.exact.pieces_suffice
        self._meet(conversations)
        self.engine.encode(["warm"])
        _settle()

    def _meet(self, conversations: Iterator[Conversation]) -> None:
        until = monotonic() + _WARM_SECONDS
        for number, conversation in enumerate(islice(conversations, _WARM_CONVERSATIONS)):
            if monotonic() > until:
                break
            with suppress(ConversationError):
                self.templates.replay(conversation)
                if number == 0:
                    self.templates.render(conversation)


def _settle() -> None:
    """Give back what loading has freed (half of the memory, with glibc) and keep the collector off what is shared: to
    look at an object is to write into its page, and a page that is written to is shared no longer."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_OBJECTS)
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)


def load(
    config: BuildConfig,
    tokenizer: BegunTokenizer | None = None,
    sample_texts: Callable[[Templates], Iterable[str]] = lambda templates: (),
) -> Loaded:
    """Open the tokenizer's template, choose the engine.

    tokenizer: if it is known already. sample_texts: the inputs' first conversations as texts, for the
    comparison of engines. Raises TokenizerError, TemplateError or ConfigError.
    """
    tokenizer = tokenizer or BegunTokenizer.of(config)
    resolved = tokenizer.resolved
    templates = Templates(config, resolved)
    engine, why = choose_engine(resolved, config.tokenizer_engine, sample_texts(templates), tokenizer.tokens)
    exact = ExactEncoder(resolved, templates.control_tokens, engine.reference)
    tiled = TiledEncoder(resolved, engine, exact)
    return Loaded(resolved, templates, engine, exact, tiled, f"tokenizer engine {engine.name}: {why}")
