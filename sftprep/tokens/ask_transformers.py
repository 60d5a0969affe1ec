"""The short-lived process that asks Transformers what a tokenizer is.

It is given as little room as it needs: PyTorch and the like are kept out (they take seconds to import and no built-in
tokenizer uses them), memory is limited, and the parent ends it when its time is up. Before it answers, it compares what
the tokenizer gives with what its backend alone gives: from then on, only the backend is used, and whoever reads that back
compares what it gives then (`choose_engine`).
"""

from __future__ import annotations

import contextlib
import functools
import gc
import hashlib
import os
import sys
from collections.abc import Callable
from importlib.metadata import version
from itertools import chain
from typing import Any

import numpy as np
import orjson

from sftprep.errors import TokenizerError, first_line, typed_errors
from sftprep.tokens.batch import join_rows
from sftprep.tokens.hostile_texts import hostile_texts, texts_sha256
from sftprep.tokens.load_early import with_short_merges
from sftprep.tokens.resolve import AddedToken, ResolvedTokenizer, to_json
from sftprep.visible import visible

_KEPT_OUT = ("torch", "tensorflow", "jax", "flax")


def answer(ask: dict[str, Any]) -> None:
    """Write a ResolvedTokenizer, or {"error": a sentence}, to standard output, where nothing else goes from now on."""
    own_output = os.dup(1)
    os.dup2(2, 1)
    _hurry()
    if not ask["trust_remote_code"]:
        sys.modules.update(dict.fromkeys(_KEPT_OUT))  # type: ignore[arg-type]  # None is what makes an import fail
        _limit_memory(ask["memory"])
    try:
        silent = why_the_hub_is_silent(ask["name"]) if ask["hub"] else None
        contents = to_json(resolve_here(ask["name"], trust_remote_code=ask["trust_remote_code"], no_hub=silent))
    except TokenizerError as error:
        contents = orjson.dumps({"error": visible(str(error))})  # which makes text of it, whatever it quotes
    with os.fdopen(own_output, "wb") as output:
        output.write(contents)


def _hurry() -> None:
    """What spares a process that soon ends a third of its time: nothing is collected, and `@lru_cache` forgets nothing.
    (Transformers looks through its 3,000 files twice as it is imported: its own memory of the first time is too short.)"""
    gc.disable()
    cached = functools.lru_cache

    def endless(maxsize: Callable[..., Any] | int | None = None, typed: bool = False) -> Any:
        return cached(None, typed)(maxsize) if callable(maxsize) else cached(maxsize, typed)

    functools.lru_cache = endless


def why_the_hub_is_silent(name: str) -> str | None:
    """Why nothing can be had from the hub now; None if it answers, whatever it says. Transformers itself would try again
    and again, for minutes: it is told to look at what was downloaded before, instead. $HF_HUB_ETAG_TIMEOUT: seconds."""
    from huggingface_hub import constants, get_session

    address = f"{constants.ENDPOINT}/{name}/resolve/main/tokenizer_config.json"
    try:
        with typed_errors(f"the hub ({constants.ENDPOINT}) does not answer", in_its_words=True):
            get_session().head(address, timeout=constants.HF_HUB_ETAG_TIMEOUT)  # raises under HF_HUB_OFFLINE, too
    except TokenizerError as error:
        return str(error)
    return None


def resolve_here(name: str, *, trust_remote_code: bool = False, no_hub: str | None = None) -> ResolvedTokenizer:
    """What `resolve_tokenizer` returns, by Transformers, in this process and without limits. Raises TokenizerError.

    no_hub: why only what is on this machine can be had.
    """
    tokenizer = _load(name, trust_remote_code, no_hub)
    backend = getattr(tokenizer, "backend_tokenizer", None)
    kind = type(tokenizer).__name__
    if backend is None or not hasattr(backend, "to_str"):
        raise TokenizerError(
            f"its class {kind} is not backed by the tokenizers library; expected a folder with a tokenizer.json"
        )
    if tokenizer.split_special_tokens:
        raise TokenizerError("it sets split_special_tokens, so that no chat could have turns; expected it to be false")
    backend.no_truncation()
    backend.no_padding()
    text = backend.to_str()
    stated = orjson.loads(text)
    if stated["model"].get("dropout"):
        raise TokenizerError("its model has dropout, so that ids would be random; expected it to be null")
    added = tuple(AddedToken(**token) for token in sorted(stated["added_tokens"], key=lambda token: int(token["id"])))
    hostile = hostile_texts([token.content for token in added])
    ids = _ids_of(tokenizer, hostile)
    vocabulary = stated["model"]["vocab"]
    largest = max(vocabulary.values(), default=-1) if isinstance(vocabulary, dict) else len(vocabulary) - 1
    return ResolvedTokenizer(
        backend=with_short_merges(stated),
        sha256=hashlib.sha256(text.encode()).hexdigest(),
        chat_templates=_chat_templates(tokenizer.chat_template),
        special_tokens=tokenizer.special_tokens_map,
        added_tokens=added,
        bos_id=tokenizer.bos_token_id,
        eos_id=tokenizer.eos_token_id,
        pad_id=next((i for i in (tokenizer.pad_token_id, tokenizer.eos_token_id) if i is not None), 0),
        size=max([largest, *(token.id for token in added)]) + 1,
        versions={package: version(package) for package in ("tokenizers", "transformers")},
        hostile_texts=texts_sha256(hostile),
        hostile_ids=join_rows([np.array(each, np.uint32) for each in ids]).sha256(),
    )


def _chat_templates(stated: object) -> dict[str, str]:
    """By name. Raises TokenizerError for what is no text."""
    templates: dict[Any, Any] = stated if isinstance(stated, dict) else {"default": stated} if stated else {}
    for part in chain.from_iterable(templates.items()):
        if not isinstance(part, str):
            raise TokenizerError(f"its chat_template has a part of type {type(part).__name__}; expected text")
        with typed_errors("its chat_template is no text"):  # but half of a character
            part.encode()
    return templates


def _limit_memory(size: int) -> None:
    with contextlib.suppress(ImportError, ValueError, OSError):  # not on this system, or a lower limit is in force
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, resource.getrlimit(resource.RLIMIT_AS)[1]))


def _load(name: str, trust_remote_code: bool, no_hub: str | None) -> Any:
    from transformers import AutoTokenizer

    own = {"trust_remote_code": trust_remote_code, "local_files_only": no_hub is not None}
    try:
        return AutoTokenizer.from_pretrained(name, **own)
    except ImportError as error:
        raise TokenizerError(f"it needs a package that is not installed: {first_line(error)}") from error
    except Exception as error:  # files from strangers: whatever they make Transformers raise
        if no_hub:
            what = "it is no folder here, and was not downloaded before"
            raise TokenizerError(f"{what}; {no_hub}; expected a folder with a tokenizer in it") from error
        if not trust_remote_code and "trust_remote_code" in str(error):
            raise TokenizerError("it runs code of its own; if you trust it, ask for trust_remote_code") from error
        raise TokenizerError(f"Transformers cannot load it: {type(error).__name__}: {first_line(error)}") from error


def _ids_of(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    """Raises TokenizerError where the tokenizer does more to a text than its backend does."""
    with typed_errors("it cannot encode a text", in_its_words=True):
        ids: list[list[int]] = tokenizer(texts, add_special_tokens=False)["input_ids"]
        own_ids = [
            encoding.ids for encoding in tokenizer.backend_tokenizer.encode_batch(texts, add_special_tokens=False)
        ]
    if ids != own_ids:
        raise TokenizerError(
            f"its class {type(tokenizer).__name__} changes what its tokenizer.json gives; not supported"
        )
    return ids
