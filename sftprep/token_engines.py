"""Texts -> TokenBatch, by one of two libraries that have to agree.

`hf` is the `tokenizers` library, the reference: what it gives is right. `fast` is `fastokens`, some twenty times faster,
and trusted only as far as it was compared: never for a tokenizer of a kind on which it was seen to differ in silence,
never before it encoded several hundred hostile texts and the first conversations of a job as the reference does.
"""

from __future__ import annotations

import hashlib
import os
import re
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cached_property
from importlib.metadata import version
from itertools import islice
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import orjson

from sftprep.cache import read_entry, write_entry
from sftprep.errors import TokenizerError
from sftprep.hostile_text import hostile_texts
from sftprep.tokenizer import AddedToken, ResolvedTokenizer, TokenBatch

SAMPLE = 1000  # conversations that both engines encode before `fast` is used for the first time with a tokenizer

_CATEGORIES = "L Lu Ll Lt Lm Lo M Mn Mc Me N Nd Nl No P Pc Pd Ps Pe Pi Pf Po S Sm Sc Sk So Z Zs Zl Zp C Cc Cf Co Cn"
_SAFE_PROPERTIES = frozenset(_CATEGORIES.split())  # compared over all code points
_SAFE_ESCAPES = frozenset("rntsSdD")  # not \w and \b: 1,520 code points differ
_ESCAPE = re.compile(r"\\[pP](?:\{\^?(?P<long>[^}]*)\}|(?P<short>.))|\\(?P<letter>[a-zA-Z0-9])|\\.", re.DOTALL)
_CLASS = re.compile(r"\[\^?\]?[^\]]*\]")
# A class in a class, a class intersection, anchors, the dot, `{1,3}+` and rare groups mean other things to the two; so
# does ignoring case (`(?i:ss)` is ß to one of them), but for these contractions.
_UNLIKE = re.compile(r"\[[^\]]*\[|&&")
_CONTRACTIONS = r"i:'s\|'t\|'re\|'ve\|'m\|'ll\|'d\)"
_UNLIKE_OUTSIDE_CLASSES = re.compile(r"[$^.]|\}\+|\(\?(?!" + _CONTRACTIONS + "|:|!|=)")

# What fastokens reads in another way inside of patterns that are equal otherwise: the long s as a contraction's s, and
# the Mongolian vowel separator as white space. Found by comparing every code point in 17 surroundings.
_LONG_S, _SEPARATOR = "'\u017f", "\u180e"


class TokenEngine(Protocol):
    """Tokenizes texts as they are: no BOS or EOS is added, nothing is cut or padded."""

    @property
    def name(self) -> str:
        """`hf` or `fast`."""

    @property
    def reference(self) -> HfEngine:
        """The `tokenizers` engine to compare with: the engine itself, if it is that one."""

    def begin(self) -> None:
        """Load in the background from now on, if that helps: the engine will be used."""

    def encode(self, texts: Sequence[str]) -> TokenBatch:
        """Raises TokenizerError if one of the texts cannot be encoded."""


class HfEngine:
    """The `tokenizers` library: the reference. Batches of about a thousand texts are 1.5 times as fast as small ones."""

    name = "hf"

    def __init__(self, resolved: ResolvedTokenizer) -> None:
        self._resolved = resolved

    @property
    def reference(self) -> HfEngine:
        """Itself."""
        return self

    @cached_property
    def tokenizer(self) -> Any:
        """A `tokenizers.Tokenizer`, loaded when it is first needed.

        Raises TokenizerError where the library in use reads the file in another way than the one that wrote it.
        """
        from tokenizers import Tokenizer

        with typed_errors("tokenizers cannot load it"):
            tokenizer = Tokenizer.from_str(self._resolved.backend)
        tokenizer.post_processor = None  # it could trim offsets, and adds nothing that is asked for here
        for token in self._resolved.added_tokens:
            if tokenizer.token_to_id(token.content) != token.id:
                raise TokenizerError(f"added token {token.id} gets another id when the tokenizer is loaded again")
        return tokenizer

    def begin(self) -> None:
        """Nothing: `tokenizers` holds Python's lock while it loads."""

    def encode(self, texts: Sequence[str]) -> TokenBatch:
        """Ids by the `tokenizers` library."""
        tokenizer = self.tokenizer
        with typed_errors("tokenizers cannot encode a text"):
            encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return batch_of(encodings)


class FastEngine:
    """The `fastokens` library. One thread: cores are used by processes, each with an engine of its own.

    The few texts that hold something which it is known to read in another way go to the reference.
    """

    name = "fast"

    def __init__(self, resolved: ResolvedTokenizer) -> None:
        """Raises TokenizerError where fastokens is not installed."""
        os.environ.setdefault("FASTOKENS_BPE_THREADS", "1")  # read when the library is imported
        try:
            import fastokens
        except ImportError as error:
            raise TokenizerError(f"the fastokens package cannot be imported: {error}") from error
        self._load = fastokens.Tokenizer.from_json_str
        self._resolved = resolved
        self._loading: Future[Any] | None = None
        self.reference = HfEngine(resolved)

    def begin(self) -> None:
        """Load in a thread: fastokens does not hold Python's lock while it does."""
        if self._loading is None:
            thread = ThreadPoolExecutor(1)
            self._loading = thread.submit(self._load, self._resolved.backend)
            thread.shutdown(wait=False)

    @cached_property
    def tokenizer(self) -> Any:
        """A `fastokens.Tokenizer`, loaded when it is first needed: that takes up to two seconds of processor time.

        Raises TokenizerError where fastokens refuses the tokenizer.
        """
        with typed_errors("fastokens cannot load it"):
            return self._loading.result() if self._loading else self._load(self._resolved.backend)

    def encode(self, texts: Sequence[str]) -> TokenBatch:
        """Ids by fastokens. The arrays are read-only views of its buffers."""
        tokenizer = self.tokenizer
        with typed_errors("fastokens cannot encode a text"):
            ids, offsets = tokenizer.encode_batch_flat(texts)
        batch = TokenBatch(np.frombuffer(ids, "<u4"), np.frombuffer(offsets, "<u8").view(np.int64))
        unlike = [row for row, text in enumerate(texts) if _LONG_S in text or _SEPARATOR in text]
        if not unlike:
            return batch
        rows = split_rows(batch)
        for row, own in zip(unlike, split_rows(self.reference.encode([texts[row] for row in unlike])), strict=True):
            rows[row] = own
        return join_rows(rows)


@contextmanager
def typed_errors(what: str) -> Iterator[None]:
    """Whatever a library raises, a Rust panic included, as a TokenizerError. Its own words may quote the text."""
    try:
        yield
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        raise TokenizerError(f"{what}: {type(error).__name__}") from error


def batch_of(encodings: Sequence[Any]) -> TokenBatch:
    """The ids of `tokenizers.Encoding`s, flat."""
    ids = array("I")
    for encoding in encodings:
        ids.fromlist(encoding.ids)
    offsets = np.zeros(len(encodings) + 1, np.int64)
    np.cumsum([len(encoding) for encoding in encodings], out=offsets[1:])
    return TokenBatch(np.frombuffer(ids, np.uint32), offsets)


def split_rows(batch: TokenBatch) -> list[npt.NDArray[np.uint32]]:
    """The ids of each text."""
    return np.split(batch.ids, batch.offsets[1:-1])


def join_rows(rows: Sequence[npt.NDArray[np.uint32]]) -> TokenBatch:
    """A batch of texts with these ids."""
    offsets = np.cumsum([0, *(ids.size for ids in rows)], dtype=np.int64)
    return TokenBatch(np.concatenate([np.zeros(0, np.uint32), *rows]), offsets)


def encode_apart(engine: TokenEngine, texts: Sequence[str]) -> tuple[TokenBatch, list[int]]:
    """Tokens of texts of which some cannot be encoded, and the indices of these; they have no tokens."""
    rows, failed = [], []
    for index, text in enumerate(texts):
        try:
            rows.append(engine.encode([text]).ids)
        except TokenizerError:
            rows.append(np.zeros(0, np.uint32))
            failed.append(index)
    return join_rows(rows), failed


def choose_engine(
    resolved: ResolvedTokenizer, wanted: str = "auto", sample_texts: Iterable[str] = ()
) -> tuple[TokenEngine, str]:
    """The engine to use, which loads when it is first used, and the reason, for the log. wanted: `auto`, `fast`, `hf`.

    `auto` takes `fast` where it is known and shown to be equal, else `hf`. sample_texts: the first rendered
    conversations of the job; at most SAMPLE are taken, and none once that many were compared for this tokenizer.
    Raises TokenizerError where `fast` is wanted and cannot be trusted.
    """
    if wanted == HfEngine.name:
        return HfEngine(resolved), "asked for"
    try:
        engine, compared = _compared_engine(resolved, sample_texts)
    except TokenizerError as error:
        if wanted == FastEngine.name:
            raise TokenizerError(f"engine fast cannot be used: {error}; use auto or hf") from error
        return HfEngine(resolved), f"fast cannot be used: {error}"
    return engine, f"fast gave the same ids as hf for hostile texts and {compared:,} conversations"


def check_equal(engine: TokenEngine, reference: TokenEngine, texts: Sequence[str]) -> None:
    """Raise TokenizerError, naming the index of the first text, where the two engines give different ids."""
    given, expected = engine.encode(texts), reference.encode(texts)
    if np.array_equal(given.ids, expected.ids) and np.array_equal(given.offsets, expected.offsets):
        return
    pairs = zip(split_rows(given), split_rows(expected), strict=True)
    first = next(index for index, (ids, others) in enumerate(pairs) if not np.array_equal(ids, others))
    raise TokenizerError(f"engines {engine.name} and {reference.name} give different ids for text {first}")


def _compared_engine(resolved: ResolvedTokenizer, sample_texts: Iterable[str]) -> tuple[FastEngine, int]:
    """`fast`, once it has been compared with the reference on whatever it was not before, and on how many conversations.

    Raises TokenizerError where it cannot be trusted.
    """
    engine = FastEngine(resolved)
    hostile = hostile_texts([token.content for token in resolved.added_tokens])
    facts = [resolved.sha256, version("fastokens"), version("tokenizers"), _digest(hostile)]
    entry = f"engines-{_digest(facts)}"
    passed: dict[str, Any] = orjson.loads(read_entry(entry) or b'{"count": -1, "sample": null}')
    if passed["count"] >= SAMPLE:
        return engine, int(passed["count"])
    sample = list(islice(sample_texts, SAMPLE))
    if passed["sample"] != _digest(sample):
        if passed["count"] < 0 and (trait := unsafe_trait(resolved)):
            raise TokenizerError(trait)
        if passed["count"] < 0:
            check_equal(engine, engine.reference, hostile)
        check_equal(engine, engine.reference, sample)
        if len(sample) > passed["count"]:
            write_entry(entry, orjson.dumps({"count": len(sample), "sample": _digest(sample)}))
    return engine, len(sample)


def _digest(texts: Sequence[str]) -> str:
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\xff")  # no UTF-8 holds that byte
    return digest.hexdigest()


def unsafe_trait(resolved: ResolvedTokenizer) -> str | None:
    """What about a tokenizer makes `fast` unsafe, in words; None if nothing is known.

    Seen to differ in silence: script properties in a pattern (\\p{Han}), word classes, and overlapping added tokens of
    which one is looked for in the normalized text and another one is not. Of a pattern, only what is known is let through.
    """
    for pattern in _patterns(list(resolved.steps().values())):
        if construct := _unsafe_construct(pattern):
            return f"its pattern has {construct}, which fastokens may read in another way"
    if _overlap(resolved.added_tokens):
        return "it has overlapping added tokens, one normalized and one not, which fastokens may find in another order"
    return None


def _unsafe_construct(pattern: str) -> str | None:
    """The first construct of a regular expression that is not known to mean the same to both libraries."""
    for found in _ESCAPE.finditer(pattern):
        name, letter = found["long"] or found["short"], found["letter"]
        if (name and name not in _SAFE_PROPERTIES) or (letter and letter not in _SAFE_ESCAPES):
            return found[0]
    plain = _ESCAPE.sub("", pattern)
    unlike = _UNLIKE.search(plain) or _UNLIKE_OUTSIDE_CLASSES.search(_CLASS.sub("", plain))
    return unlike[0] if unlike else None


def _patterns(part: Any) -> Iterator[str]:
    """Every regular expression in a part of a tokenizer.json."""
    if isinstance(part, list):
        for each in part:
            yield from _patterns(each)
    elif isinstance(part, Mapping):
        if isinstance(part.get("Regex"), str):
            yield part["Regex"]
        yield from _patterns(list(part.values()))


def _overlap(tokens: Sequence[AddedToken]) -> bool:
    """Whether a normalized token and one that is not can share characters: one in the other, or end on start."""
    kinds = [{token.content.casefold() for token in tokens if token.normalized is kind} for kind in (True, False)]
    for kind, others in (kinds, kinds[::-1]):
        starts = {content[:stop] for content in others for stop in range(1, len(content) + 1)} if kind else set()
        for content in kind:
            for start in range(len(content)):
                within = (content[start:stop] in others for stop in range(start + 1, len(content) + 1))
                if content[start:] in starts or any(within):
                    return True
    return False
