"""Which engine tokenizes: `fast` only where it is known and shown to give what `hf` gives.

Never for a tokenizer of a kind on which it was seen to differ in silence, never before it encoded several hundred hostile
texts and the first conversations of a job as the reference does; and no engine before the reference, which is read back
from what Transformers wrote, gave for the hostile texts what Transformers gave. Work begins only then, so that there is
never any that would have to be undone.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from importlib.metadata import version
from itertools import islice
from typing import Any, TypeVar

import numpy as np
import orjson

from sftprep.cache import read_entry, write_entry
from sftprep.errors import TokenizerError
from sftprep.tokens.batch import TokenBatch, join_rows, split_rows
from sftprep.tokens.engines import FastEngine, HfEngine, TokenEngine
from sftprep.tokens.hostile_texts import hostile_texts, texts_sha256
from sftprep.tokens.load_early import NOT_LOADED, Loaded
from sftprep.tokens.resolve import AddedToken, ResolvedTokenizer
from sftprep.workers.limits import UNLIMITED, LimitError
from sftprep.workers.trial import run_apart

T = TypeVar("T")
_log = logging.getLogger(__name__)
_ENTRY_FORMAT = "4"  # changes with what is compared, and with the form in which fastokens gets a tokenizer
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
    loaded: Loaded = NOT_LOADED,
) -> tuple[TokenEngine, str]:
    """The engine to use, which loads when it is first used, and the reason, for the log. wanted: `auto`, `fast`, `hf`.

    `auto` takes `fast` where it is known and shown to be equal, else `hf`. sample_texts: the first rendered
    conversations of the job; the start of at most SAMPLE is taken, and none once that many were compared for this tokenizer.
    loaded: what of this tokenizer is loading already.
    Raises TokenizerError where `fast` is wanted and cannot be trusted, or where `hf` does not give what Transformers gives.
    """
    if wanted == HfEngine.name:
        return _read_back(resolved, loaded), "asked for"
    try:
        engine, compared = _compared_engine(resolved, sample_texts, loaded)
    except TokenizerError as error:
        if wanted == FastEngine.name:
            raise TokenizerError(f"engine fast cannot be used: {error}; use auto or hf") from error
        return _read_back(resolved, loaded), f"fast cannot be used: {error}"
    return engine, f"fast gave the same ids as hf for hostile texts and {compared:,} conversations"


def check_equal(engine: TokenEngine, texts: Sequence[str], expected: TokenBatch) -> None:
    """Raise TokenizerError, naming the index of the first text, where an engine gives other ids than expected."""
    given = engine.encode(texts)
    if np.array_equal(given.ids, expected.ids) and np.array_equal(given.offsets, expected.offsets):
        return
    pairs = zip(split_rows(given), split_rows(expected), strict=True)
    first = next(index for index, (ids, others) in enumerate(pairs) if not np.array_equal(ids, others))
    raise TokenizerError(f"engines {engine.name} and {HfEngine.name} give different ids for text {first}")


def _compared_engine(
    resolved: ResolvedTokenizer, sample_texts: Iterable[str], loaded: Loaded
) -> tuple[FastEngine, int]:
    """`fast`, once it has been compared with the reference on whatever it was not before, and on how many conversations.

    Raises TokenizerError where it cannot be trusted.
    """
    engine = FastEngine(resolved, loaded)
    entry = _entry(resolved, version("fastokens"))
    count, compared = read_entry("engines", entry, _passed) or (-1, "")
    if count >= SAMPLE:
        return engine, count
    sample = [text[:_SAMPLED] for text in islice(sample_texts, SAMPLE)]
    if compared != texts_sha256(sample):
        _log.info("comparing fastokens with tokenizers, on hostile texts and %s conversations", f"{len(sample):,}")
        if count < 0 and (trait := unsafe_trait(resolved)):
            raise TokenizerError(trait)
        _compare(engine, sample, _hostile_texts(resolved) if count < 0 else [])
        if len(sample) > count:
            _remember(entry, sample)
    return engine, len(sample)


def _read_back(resolved: ResolvedTokenizer, loaded: Loaded) -> HfEngine:
    """`hf`, once it has been compared with Transformers. Raises TokenizerError where it gives something else."""
    engine = HfEngine(resolved, loaded)
    entry = _entry(resolved, "")
    if read_entry("engines", entry, _passed) is None:
        _log.info("comparing tokenizers with Transformers, on hostile texts")
        _ = engine.tokenizer  # loaded here: whoever encodes later has it, too
        hostile = _hostile_texts(resolved)
        _apart(partial(_checked_ids, engine, [], hostile))
        _remember(entry, [])
    return engine


def _compare(engine: FastEngine, sample: Sequence[str], hostile: Sequence[str]) -> None:
    """Compare `fast` with the reference on some texts. Raises TokenizerError where they differ, or where the reference does
    not give for the hostile ones, if there are any, what Transformers gives."""
    engine.begin()  # it loads while the reference does
    _ = (
        engine.reference.tokenizer,
        engine.tokenizer,
    )  # loaded here, for whoever encodes later; a child has no threads to do it

    def both() -> None:
        check_equal(engine, [*sample, *hostile], _checked_ids(engine.reference, sample, hostile))

    _apart(both)


def _checked_ids(reference: HfEngine, sample: Sequence[str], hostile: Sequence[str]) -> TokenBatch:
    batch = reference.encode([*sample, *hostile])
    if hostile:
        reference.check_read_back(join_rows(split_rows(batch)[len(sample) :]))
    return batch


def _apart(step: Callable[[], T]) -> T:
    """Do a step where it can be ended: a pattern may come to no end on some text. Raises TokenizerError then."""
    try:
        return run_apart(step, what="comparing the engines", seconds=_SECONDS, memory=UNLIMITED)
    except LimitError as error:
        raise TokenizerError(str(error)) from error


def _hostile_texts(resolved: ResolvedTokenizer) -> list[str]:
    return hostile_texts([token.content for token in resolved.added_tokens])


def _entry(resolved: ResolvedTokenizer, engine_version: str) -> str:
    """The name of what is remembered of an engine with a tokenizer."""
    shown = [resolved.sha256, resolved.hostile_texts, resolved.hostile_ids]
    return texts_sha256([_ENTRY_FORMAT, *shown, engine_version, version("tokenizers")])


def _remember(entry: str, sample: Sequence[str]) -> None:
    write_entry("engines", entry, orjson.dumps({"count": len(sample), "sample": texts_sha256(sample)}))


def _passed(contents: bytes) -> tuple[int, str]:
    """How many conversations an entry says were compared, and their digest. Raises an exception of some kind for others."""
    stated = orjson.loads(contents)
    if type(stated["count"]) is not int or type(stated["sample"]) is not str or stated["count"] < 0:
        raise TypeError("not what this version writes")
    return stated["count"], stated["sample"]


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
