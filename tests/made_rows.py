"""Rows made of single records for a small template, and what is told of their targets."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from typing import Any

from breeds import Breed
from published_templates import TODAY
from small_tokenizer import resolve as resolve_small
from small_tokenizer import special, train

from sftprep.batches.templates import Templates
from sftprep.batches.toolbox import Toolbox
from sftprep.characters.offsets import ExactEncoder
from sftprep.characters.tiling import TiledEncoder
from sftprep.config import BuildConfig
from sftprep.containers.files import Source
from sftprep.containers.record import Record
from sftprep.dataset.receipt import Reject
from sftprep.remaking.maker import Maker
from sftprep.remaking.reasons import Reasons
from sftprep.tokens.choose_engine import choose_engine
from sftprep.tokens.resolve import ResolvedTokenizer


def maker_with(resolved: ResolvedTokenizer, **options: Any) -> Maker:
    """What makes rows with a tokenizer that is known."""
    config = BuildConfig(("unused",), "tokenizer", **{"date": TODAY, "max_length": 4096, **options})
    engine = choose_engine(resolved, "fast")[0]
    templates = Templates(config, resolved)
    exact = ExactEncoder(resolved, templates.control_tokens, engine.reference)
    toolbox = Toolbox(resolved, templates, engine, exact, TiledEncoder(resolved, engine, exact), "")
    return Maker(config, toolbox, [Source("a.jsonl", "a.jsonl", 0)])


def resolved_of(breed: Breed, folder: Path) -> ResolvedTokenizer:
    """A small tokenizer with the template and the tokens of a breed."""
    tokenizer = resolve_small(train(added=[*special(*breed.controls), *special(*breed.plain)]), folder)
    return replace(tokenizer, chat_templates={"default": breed.source}, special_tokens=breed.special)


def record_of(given: Any) -> Record:
    return Record(json.dumps(given).encode(), 0, 1, 0)


def reasons_of(maker: Maker, given: Any) -> list[Reasons]:
    """Of each row that a record gives."""
    made = list(maker.rows([record_of(given)]))
    assert not any(isinstance(each, Reject) for each in made), made
    return [Reasons(maker, each, record_of(given)) for each in made if not isinstance(each, Reject)]


def told(reasons: Reasons) -> list[tuple[str, str, int | None]]:
    """The text in stretches of the same rule and message, from the first target on."""
    shown, printed = reasons.shown, reasons.printed
    found = []
    for position in range(shown.start, shown.stop):
        why = reasons.of(position)
        assert why.agrees, (position, why)
        begin, end = int(printed.starts[position + 1]), int(printed.stops[position + 1])
        found.append((printed.rendering.text[begin:end], why.rule, why.message))
    return [("".join(text for text, *_ in some), *key) for key, some in groupby(found, lambda each: (each[1], each[2]))]
