"""fastokens, loaded in the background.

A large vocabulary takes it one to two seconds, without Python's lock: a build begins with that, and imports the rest of
the program meanwhile; the first build with a tokenizer begins with asking Transformers about it, and loads what the
tokenizer most likely is. So nothing heavy is imported here, numpy neither.
"""

from __future__ import annotations

import gc
import os
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from sftprep.errors import TokenizerError, typed_errors
from sftprep.tokens.resolve import ResolvedTokenizer, Resolving, head_and_model, look_at

_OBJECTS = 100_000  # the cyclic collector runs after so many new ones: a batch makes some ten thousand, hardly a cycle
_GUESSED_BYTES = 64 << 20  # twice the largest published tokenizer.json: what is larger is loaded under limits first
_PARTS = ("normalizer", "pre_tokenizer", "post_processor", "decoder")
_BPE: dict[str, Any] = {  # all that a model states, in the order in which it is written
    "type": "BPE",
    **dict.fromkeys(("dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix")),
    **dict.fromkeys(("fuse_unk", "byte_fallback", "ignore_merges"), False),
    "vocab": {},
    "merges": [],
}


class FastTokens:
    """A tokenizer of the `fastokens` library, loading or loaded. One thread: cores are used by processes."""

    def __init__(self, text: str) -> None:
        """text: `text_for_fast`. Raises TokenizerError where fastokens is not installed."""
        os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")  # read when the library is imported
        try:
            import fastokens
        except ImportError as error:
            raise TokenizerError(f"the fastokens package cannot be imported: {error}") from error
        self._library, self._text = fastokens, text
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
        tokenizer = self._library.Tokenizer.from_json_str(self._text)
        tokenizer.encode_batch_flat(["warm"])  # the first text takes a tenth of the time again
        return tokenizer


def text_for_fast(backend: str) -> str:
    """A tokenizer.json without what has no part in the ids of a text."""
    stated, model = head_and_model(backend)
    if not stated:
        return backend
    kept = {name: stated.get(name) for name in ("version", "added_tokens", "normalizer", "pre_tokenizer")}
    pre_tokenizer = kept["pre_tokenizer"]
    for step in (pre_tokenizer or {}).get("pretokenizers", [pre_tokenizer]):
        if step and step.get("type") == "ByteLevel":
            step["trim_offsets"] = True  # a post-processor's
    return f'{orjson.dumps(kept).decode()[:-1]},"model":{model}}}'


def with_short_merges(stated: dict[str, Any]) -> str:
    """A tokenizer.json's text, with each merge as one string instead of a list of two, where that can mean nothing else.

    tokenizers reads and means both alike; fastokens loads a large vocabulary in two thirds of the time.
    """
    merges = stated["model"].get("merges")
    if merges and all(isinstance(merge, list) for merge in merges):
        short = list(map(" ".join, merges))
        # One of no two words is refused, and what begins like this is passed over as the first line of a file.
        if not any(merge.count(" ") != 1 or merge.startswith("#version") for merge in short):
            stated = {**stated, "model": {**stated["model"], "merges": short}}
    return orjson.dumps(stated).decode()


class Loaded(NamedTuple):
    """Both libraries with a tokenizer, as far as they were begun."""

    fast: FastTokens | None = None
    reference: Any = None  # a tokenizers.Tokenizer


NOT_LOADED = Loaded()


class Guess:
    """What a folder's tokenizer.json says by itself, loading while Transformers is asked whether that is what it means."""

    def __init__(self, folder: str) -> None:
        """Returns at once."""
        thread = ThreadPoolExecutor(1)
        self._loading = thread.submit(_load_as_stated, Path(folder) / "tokenizer.json")
        thread.shutdown(wait=False)

    def confirmed(self, resolved: ResolvedTokenizer) -> Loaded:
        """As much of it as the tokenizer's own text would have given."""
        try:
            text, loaded = self._loading.result()
        except TokenizerError:  # what is wrong with a file, Transformers says
            return NOT_LOADED
        (said, model), (meant, meant_model) = head_and_model(text), head_and_model(resolved.backend)
        if not said or model != meant_model or said["added_tokens"] != meant["added_tokens"]:
            return NOT_LOADED
        from tokenizers import Tokenizer

        parts = Tokenizer.from_str(orjson.dumps({**meant, "added_tokens": [], "model": _BPE}).decode())
        for name in _PARTS:
            setattr(loaded.reference, name, getattr(parts, name))
        return loaded if text_for_fast(text) == text_for_fast(resolved.backend) else loaded._replace(fast=None)


def _load_as_stated(path: Path) -> tuple[str, Loaded]:
    """The text that Transformers writes of a tokenizer.json if it changes nothing, and what it gives. Raises TokenizerError."""
    with typed_errors("what it states cannot be loaded"):
        from tokenizers import Tokenizer

        if not path.is_file() or path.stat().st_size > _GUESSED_BYTES:
            raise TokenizerError("nothing to guess from")
        stated = {**orjson.loads(path.read_bytes()), "truncation": None, "padding": None}
        if stated["model"].get("type", "BPE") == "BPE":
            stated["model"] = {**_BPE, **stated["model"]}
        text = with_short_merges(stated)
        fast = FastTokens(text_for_fast(text))
        fast.begin()
        return text, Loaded(fast, Tokenizer.from_str(text))


def collect_seldom() -> None:
    """Else the cyclic collector looks through a vocabulary again and again."""
    gc.set_threshold(_OBJECTS)


@contextmanager
def collector_as_it_was() -> Iterator[None]:
    """What a job does to Python's collector, so that its workers share memory, ends with it: whoever called goes on as before."""
    threshold, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        if not frozen:
            gc.unfreeze()


class BegunTokenizer:
    """A build's tokenizer, which may still have to be told by Transformers, and fastokens with it."""

    def __init__(self, resolving: Resolving, *, fast: bool = False) -> None:
        """fast: load fastokens as soon as may be."""
        self._resolving, self._fast = resolving, fast
        self._guess = Guess(resolving.name) if fast and not resolving.known else None
        if resolving.known:
            _ = self.loaded

    @property
    def resolved(self) -> ResolvedTokenizer:
        """The tokenizer, once it is known. Raises TokenizerError."""
        _ = self.loaded
        return self._resolving.result()

    @cached_property
    def loaded(self) -> Loaded:
        """The libraries, loading, as far as they were begun. Raises TokenizerError where there is no such tokenizer."""
        resolved = self._resolving.result()
        if not self._fast:
            return NOT_LOADED
        loaded = self._guess.confirmed(resolved) if self._guess else NOT_LOADED
        if not loaded.fast:
            with suppress(TokenizerError):  # whoever needs fastokens will say why
                fast = FastTokens(text_for_fast(resolved.backend))
                fast.begin()
                loaded = loaded._replace(fast=fast)
        return loaded


def begin_tokenizer(name: str, *, trust_remote_code: bool, fast: bool) -> BegunTokenizer | None:
    """Begin to resolve a tokenizer that lies in a folder, and with `fast` to load it; None for a name on the hub, which can
    wait until the inputs are known to be there. Raises TokenizerError."""
    collect_seldom()
    is_folder, _ = look_at(name)
    return BegunTokenizer(Resolving(name, trust_remote_code=trust_remote_code), fast=fast) if is_folder else None
