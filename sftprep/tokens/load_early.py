"""fastokens, loaded in the background.

A large vocabulary takes it one to two seconds, without Python's lock: a build begins with that, and imports the rest of
the program meanwhile. So nothing heavy is imported here, numpy neither.
"""

from __future__ import annotations

import os
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from sftprep.errors import TokenizerError, typed_errors
from sftprep.tokens.resolve import ResolvedTokenizer, look_at, resolve_tokenizer


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


@dataclass(frozen=True, slots=True, eq=False)
class BegunTokenizer:
    """A build's tokenizer, and fastokens with it."""

    resolved: ResolvedTokenizer
    tokens: FastTokens | None = None  # None: not begun


def begin_tokenizer(name: str, engine: str, *, trust_remote_code: bool) -> BegunTokenizer | None:
    """Resolve a tokenizer that lies in a folder and begin to load it; None for a name on the hub, which can wait until
    the inputs are known to be there. engine: the one asked for. Raises TokenizerError."""
    is_folder, _ = look_at(name)
    if not is_folder:
        return None
    resolved = resolve_tokenizer(name, trust_remote_code=trust_remote_code)
    if engine == "hf":
        return BegunTokenizer(resolved)
    try:
        tokens = FastTokens(resolved)
    except TokenizerError:
        return BegunTokenizer(resolved)  # whoever needs fastokens will say why
    tokens.begin()
    return BegunTokenizer(resolved, tokens)
