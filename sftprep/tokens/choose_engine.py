"""Which engine tokenizes: `fast` only where it is known and shown to give what `hf` gives.

Never for a tokenizer of a kind on which it was seen to differ in silence, never before it encoded several hundred hostile
texts and the first conversations of a job as the reference does.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from itertools import islice
from typing import Any

import numpy as np
import orjson

from sftprep.errors import TokenizerError
from sftprep.tokens.batch import split_rows
from sftprep.tokens.cache import read_entry, write_entry
from sftprep.tokens.engines import FastEngine, HfEngine, TokenEngine
from sftprep.tokens.hostile_texts import hostile_texts
from sftprep.tokens.load_early import FastTokens
from sftprep.tokens.resolve import AddedToken, ResolvedTokenizer
from sftprep.workers.limits import UNLIMITED, LimitError
from sftprep.workers.trial import run_apart

_log = logging.getLogger(__name__)
_ENTRY_FORMAT = "3"  # changes with what is compared, and with the form in which fastokens gets a tokenizer
SAMPLE = 1000  # conversations that both engines encode before `fast` is used for the first time with a tokenizer
_SAMPLED = 1 << 14  # characters from the start of each
_SECONDS = 300.0  # of processor time for a comparison, which takes some
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


def choose_engine(
    resolved: ResolvedTokenizer,
    wanted: str = "auto",
    sample_texts: Iterable[str] = (),
    tokens: FastTokens | None = None,
) -> tuple[TokenEngine, str]:
    """The engine to use, which loads when it is first used, and the reason, for the log. wanted: `auto`, `fast`, `hf`.

    `auto` takes `fast` where it is known and shown to be equal, else `hf`. sample_texts: the first rendered
    conversations of the job; the start of at most SAMPLE is taken, and none once that many were compared for this tokenizer.
    tokens: fastokens with this tokenizer, if it is loading already.
    Raises TokenizerError where `fast` is wanted and cannot be trusted.
    """
    if wanted == HfEngine.name:
        return HfEngine(resolved), "asked for"
    try:
        engine, compared = _compared_engine(resolved, sample_texts, tokens)
    except TokenizerError as error:
        if wanted == FastEngine.name:
            raise TokenizerError(f"engine fast cannot be used: {error}; use auto or hf") from error
        return HfEngine(resolved), f"fast cannot be used: {error}"
    return engine, f"fast gave the same ids as hf for hostile texts and {compared:,} conversations"


def check_equal(engine: TokenEngine, reference: TokenEngine, texts: Sequence[str]) -> None:
    """Raise TokenizerError, naming the index of the first text, where the two engines give different ids."""
    expected, given = reference.encode(texts), engine.encode(texts)  # the engine may still be loading
    if np.array_equal(given.ids, expected.ids) and np.array_equal(given.offsets, expected.offsets):
        return
    pairs = zip(split_rows(given), split_rows(expected), strict=True)
    first = next(index for index, (ids, others) in enumerate(pairs) if not np.array_equal(ids, others))
    raise TokenizerError(f"engines {engine.name} and {reference.name} give different ids for text {first}")


def _compared_engine(
    resolved: ResolvedTokenizer, sample_texts: Iterable[str], tokens: FastTokens | None
) -> tuple[FastEngine, int]:
    """`fast`, once it has been compared with the reference on whatever it was not before, and on how many conversations.

    Raises TokenizerError where it cannot be trusted.
    """
    engine = FastEngine(resolved, tokens)
    hostile = hostile_texts([token.content for token in resolved.added_tokens])
    entry = _digest([_ENTRY_FORMAT, resolved.sha256, version("fastokens"), version("tokenizers"), _digest(hostile)])
    count, compared = read_entry("engines", entry, _passed) or (-1, "")
    if count >= SAMPLE:
        return engine, count
    sample = [text[:_SAMPLED] for text in islice(sample_texts, SAMPLE)]
    if compared != _digest(sample):
        _log.info("comparing fastokens with tokenizers, on hostile texts and %s conversations", f"{len(sample):,}")
        if count < 0 and (trait := unsafe_trait(resolved)):
            raise TokenizerError(trait)
        _compare_apart(engine, sample if count >= 0 else [*sample, *hostile])
        if len(sample) > count:
            write_entry("engines", entry, orjson.dumps({"count": len(sample), "sample": _digest(sample)}))
    return engine, len(sample)


def _compare_apart(engine: FastEngine, texts: Sequence[str]) -> None:
    """`check_equal` where it can be ended: a pattern may come to no end on some text. Raises TokenizerError."""
    _ = engine.tokenizer, engine.reference.tokenizer  # loaded here: a child has no threads to do it
    step = partial(check_equal, engine, engine.reference, texts)
    try:
        run_apart(step, what="comparing the engines", seconds=_SECONDS, memory=UNLIMITED)
    except LimitError as error:
        raise TokenizerError(str(error)) from error


def _passed(contents: bytes) -> tuple[int, str]:
    """How many conversations an entry says were compared, and their digest. Raises an exception of some kind for others."""
    stated = orjson.loads(contents)
    if type(stated["count"]) is not int or type(stated["sample"]) is not str or stated["count"] < 0:
        raise TypeError("not what this version writes")
    return stated["count"], stated["sample"]


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
