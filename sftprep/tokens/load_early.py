"""fastokens, loaded in the background.

A large vocabulary takes it one to two seconds, without Python's lock: a build begins with that, and imports the rest of
the program meanwhile; the first build with a tokenizer begins with asking Transformers about it. So nothing heavy is
imported here, numpy neither.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cached_property
from typing import Any

from sftprep.errors import TokenizerError, typed_errors
from sftprep.tokens.resolve import ResolvedTokenizer, Resolving, look_at


class FastTokens:
    """A tokenizer of the `fastokens` library, loading or loaded. One thread: cores are used by processes."""

    def __init__(self, resolved: ResolvedTokenizer) -> None:
        """Raises TokenizerError where fastokens is not installed."""
        os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")  # read when the library is imported
        try:
            import fastokens
        except ImportError as error:
            raise TokenizerError(f"the fastokens package cannot be imported: {error}") from error
        self._library, self._resolved = fastokens, resolved
        self._loading: Future[Any] | None = None

    def begin(self) -> None:
        """Load in a thread from now on."""
        if self._loading is None:
            thread = ThreadPoolExecutor(1)
            self._loading = thread.submit(self._load)
            thread.shutdown(wait=False)

    @cached_property
    def tokenizer(self) -> Any:
        """A `fastokens.Tokenizer`, loaded when it is first needed. Raises TokenizerError where fastokens refuses it."""
        with typed_errors("fastokens cannot load it", in_its_words=True):
            return self._loading.result() if self._loading else self._load()

    def _load(self) -> Any:
        tokenizer = self._library.Tokenizer.from_json_str(self._resolved.backend)
        tokenizer.encode_batch_flat(["warm"])  # the first text takes a tenth of the time again
        return tokenizer


class BegunTokenizer:
    """A build's tokenizer, which may still have to be told by Transformers, and fastokens with it."""

    def __init__(self, resolving: Resolving, *, fast: bool = False) -> None:
        """fast: load fastokens as soon as may be."""
        self._resolving, self._fast = resolving, fast
        if resolving.known:
            _ = self.tokens

    @property
    def resolved(self) -> ResolvedTokenizer:
        """The tokenizer, once it is known. Raises TokenizerError."""
        _ = self.tokens
        return self._resolving.result()

    @cached_property
    def tokens(self) -> FastTokens | None:
        """fastokens, loading; None where it was not begun. Raises TokenizerError where there is no such tokenizer."""
        resolved = self._resolving.result()
        if not self._fast:
            return None
        try:
            tokens = FastTokens(resolved)
        except TokenizerError:
            return None  # whoever needs fastokens will say why
        tokens.begin()
        return tokens


def begin_tokenizer(name: str, *, trust_remote_code: bool, fast: bool) -> BegunTokenizer | None:
    """Begin to resolve a tokenizer that lies in a folder, and with `fast` to load it; None for a name on the hub, which can
    wait until the inputs are known to be there. Raises TokenizerError."""
    is_folder, _ = look_at(name)
    return BegunTokenizer(Resolving(name, trust_remote_code=trust_remote_code), fast=fast) if is_folder else None
