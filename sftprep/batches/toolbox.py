"""What takes long to load and serves every split: tokenizer engines and chat templates.

Toolbox once, before worker processes are forked, so that they share it; where processes cannot be forked each loads its
own.
"""

from __future__ import annotations

import ctypes
import gc
import platform
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, cycle

from sftprep.batches.templates import Templates
from sftprep.characters.offsets import ExactEncoder
from sftprep.characters.tiling import TiledEncoder
from sftprep.config import BuildConfig
from sftprep.records.conversation import Conversation
from sftprep.records.messages import texts_of
from sftprep.tokens.choose_engine import choose_engine
from sftprep.tokens.engines import TokenEngine
from sftprep.tokens.load_early import BegunTokenizer, collect_seldom
from sftprep.tokens.resolve import ResolvedTokenizer, Resolving

_LARGE = 8 << 20  # bytes: from here on memory is the system's again as soon as it is freed
_START = 150  # characters of a message that engines are compared on


@dataclass(frozen=True, slots=True, eq=False)
class Toolbox:
    """Engines load when they are first used."""

    resolved: ResolvedTokenizer
    templates: Templates
    engine: TokenEngine
    exact: ExactEncoder  # by the reference library
    tiled: TiledEncoder  # gives the same, by the engine where it can
    reason: str  # why this engine, for the log

    def warm(self) -> None:
        """Load all now, Arrow too, which every worker needs."""
        import pyarrow.parquet  # noqa: F401

        self.engine.begin()
        self.engine.reference.encode(["warm"])
        _ = self.tiled.tiler, self.exact.pieces_suffice
        self.engine.encode(["warm"])
        _settle()


def _settle() -> None:
    """Give back what loading has freed (half of the memory, with glibc) and keep the collector off what is shared: to
    look at an object is to write into its page, and a page that is written to is shared no longer."""
    gc.collect()
    gc.freeze()
    collect_seldom()
    if sys.platform == "linux" and platform.libc_ver()[0] == "glibc":
        libc, mmap_threshold = ctypes.CDLL(None), -3
        libc.mallopt(mmap_threshold, _LARGE)  # else what a long record has taken is seldom given back
        libc.malloc_trim(0)


def tokenizer_of(config: BuildConfig) -> BegunTokenizer:
    """The tokenizer of a build, with fastokens not loading yet. Raises TokenizerError."""
    return BegunTokenizer(Resolving(config.tokenizer, trust_remote_code=config.trust_remote_code))


def load(
    config: BuildConfig,
    tokenizer: BegunTokenizer | None = None,
    control_tokens: frozenset[str] | None = None,
    first_conversations: Iterable[Conversation] = (),
) -> Toolbox:
    """Open the tokenizer's template, choose the engine.

    tokenizer, control_tokens: if they are known already (`templates.probe`). first_conversations: of the inputs, for the
    comparison of engines. Raises TokenizerError, TemplateError or ConfigError.
    """
    tokenizer = tokenizer or tokenizer_of(config)
    resolved = tokenizer.resolved
    templates = Templates(config, resolved, control_tokens)
    tokens = [token.content for token in resolved.added_tokens]
    texts = _texts(first_conversations, tokens)
    engine, why = choose_engine(resolved, config.tokenizer_engine, texts, tokenizer.loaded)
    exact = ExactEncoder(resolved, templates.control_tokens, engine.reference)
    tiled = TiledEncoder(resolved, engine, exact)
    return Toolbox(resolved, templates, engine, exact, tiled, f"tokenizer engine {engine.name}: {why}")


def _texts(conversations: Iterable[Conversation], tokens: Sequence[str]) -> Iterator[str]:
    """How the messages of each begin, added tokens of the tokenizer in between: much like what a template makes of it, and of
    many conversations as much as may be. What was said before, such as a system message, is not said again."""
    said: set[str] = set()
    for conversation in conversations:
        texts = [text for message in conversation.messages for text in texts_of(message) if text not in said]
        said.update(texts)
        starts = (text[:_START] for text in texts)
        yield "".join(chain.from_iterable(zip(cycle(tokens or ["\n"]), starts, strict=False)))
