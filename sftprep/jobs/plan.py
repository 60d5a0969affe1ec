"""What a build has to do: inputs, splits, options and the fingerprint of all that decides the bytes (plan.json)."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path
from typing import Annotated, Any, TypedDict

import msgspec

from sftprep import FORMAT_VERSION, __version__
from sftprep.batches.templates import probe, template_text
from sftprep.batches.toolbox import Toolbox, load, tokenizer_of
from sftprep.checksum import Count, Hash, with_checksum, without_checksum
from sftprep.config import BuildConfig, fingerprint
from sftprep.containers.files import PassedOver, Source, find_sources
from sftprep.containers.splits import SourceInfo, Split, first_records, plan_splits, read_records
from sftprep.dataset.manifest import InputEntry, shard_name
from sftprep.errors import ConfigError, ConversationError, DatasetError, InputError, TemplateError
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.tokens.load_early import BegunTokenizer
from sftprep.tokens.resolve import ResolvedTokenizer
from sftprep.workers.limits import Item, LimitError
from sftprep.workers.trial import run_apart
from sftprep.workers.worker import Report

_MADE = ("sftprep-plan", FORMAT_VERSION, __version__)  # its format, version and sftprep
_MUCH = 1 << 30  # bytes: reading so much takes some seconds, and is begun only when the template is known to work
_CHECKED_SHARE, _CHECKED_LEAST = 250, 200  # rows masked both ways: 1 in 250, at least 200


class PlannedTokenizer(TypedDict):
    """What the manifest says of tokenizer and template."""

    sha256: Hash
    chat_template_sha256: Hash
    vocab_size: Annotated[int, msgspec.Meta(ge=1, le=2**32)]
    pad_id: Annotated[int, msgspec.Meta(ge=0, lt=2**32)]
    tokenizers: str  # versions
    transformers: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything the workers need to know, and the fingerprint of everything that decides the bytes."""

    config: BuildConfig
    sources: tuple[SourceInfo, ...]
    splits: tuple[Split, ...]
    tokenizer: PlannedTokenizer
    fingerprint: str
    passed_over: tuple[PassedOver, ...] = ()  # files of the inputs' folders that are not read
    validation_sources: Count = 0  # how many of the sources, the last, are the validation set

    @property
    def records(self) -> int:
        """Lines of all inputs, an upper bound of the records that are read."""
        found = sum(source.records for source in self.sources)
        return found if self.config.limit is None else min(found, self.config.limit)

    @property
    def check_every(self) -> int:
        """Every how many-th record is masked and tokenized both ways."""
        return max(1, min(_CHECKED_SHARE, self.records // _CHECKED_LEAST))

    def describe(self, item: Item) -> str:
        """Where the record of that place is: `file:line`."""
        source, line, _ = item
        return f"{self.sources[source].name}:{line}"

    @property
    def inputs(self) -> tuple[InputEntry, ...]:
        """The sources, as the manifest states them."""
        return tuple(
            InputEntry(each.name, each.bytes, each.sha256, each.records, self._set_of(number))
            for number, each in enumerate(self.sources)
        )

    def size(self, tasks: Iterable[int]) -> int:
        """Bytes of uncompressed input in some splits."""
        return sum(place.stop - place.start for task in tasks for place in self.splits[task].ranges)

    def home(self, task: int) -> str:
        """The set that a split's records are for, if they are not drawn for another."""
        return self._set_of(max((place.source for place in self.splits[task].ranges), default=0))

    def shard_names(self, task: int) -> dict[str, str]:
        """The name of the shard of each set that a split may have rows for. Shards are numbered set by set."""
        home = self.home(task)
        number = task if home == "train" else task - sum(self.home(each) == "train" for each in range(len(self.splits)))
        names = {home: shard_name(number, home)}
        return names | ({"validation": shard_name(number, "validation")} if self.config.validation else {})

    def _set_of(self, source: int) -> str:
        return "validation" if source >= len(self.sources) - self.validation_sources else "train"

    def facts(self) -> dict[str, Any]:
        """What the fingerprint is made of and the manifest states."""
        inputs = [asdict(each) for each in self.inputs]
        return {"config": self.config.content_options(), "inputs": inputs, "tokenizer": self.tokenizer}

    def to_bytes(self) -> bytes:
        """plan.json: also holds where inputs and tokenizer lie on this machine, which no dataset file does."""
        stated = {
            **dict(zip(("format", "version", "sftprep"), _MADE, strict=True)),
            "fingerprint": self.fingerprint,
            "config": self.config.planned_options(),
            "tokenizer": self.tokenizer,
            "sources": [asdict(source) for source in self.sources],
            "splits": [asdict(split) for split in self.splits],
            "passed_over": [asdict(each) for each in self.passed_over],
            "validation_sources": self.validation_sources,
        }
        return json.dumps(with_checksum(stated), indent=1).encode() + b"\n"

    @classmethod
    def from_bytes(cls, data: bytes, path: Path) -> Plan:
        """Raises DatasetError where the bytes are no plan this version can follow, or were changed."""
        try:
            stated = without_checksum(data)
            if (stated["format"], stated["version"], stated["sftprep"]) != _MADE:
                made = f"made by sftprep {stated['sftprep']}, this is {__version__}"
                raise DatasetError(f"{path}: {made}; use that version, or --overwrite")
            plan = msgspec.convert(stated, cls)
            plan.check()
        except (ValueError, TypeError, KeyError, ConfigError) as error:
            raise DatasetError(
                f"{path}: not a plan of sftprep, or it was changed ({error}); use --overwrite"
            ) from error
        return plan

    def check(self) -> None:
        """Raise ValueError where one part of the plan contradicts another."""
        if fingerprint(self.facts()) != self.fingerprint:
            raise ValueError("its fingerprint is another's")
        if [split.index for split in self.splits] != list(range(len(self.splits))) or not self.splits:
            raise ValueError("splits are missing")
        for split in self.splits:
            for place in split.ranges:
                if place.source >= len(self.sources) or place.start > place.stop:
                    raise ValueError("a split goes beyond the inputs")
            if len({self._set_of(place.source) for place in split.ranges}) > 1:
                raise ValueError("a split is of two sets")
        homes = [self.home(task) for task in range(len(self.splits))]
        if homes != sorted(homes):  # "train" comes first
            raise ValueError("splits are not in order")


class Watch:
    """Is told how a build goes, and does nothing about it: a subclass may show it."""

    def reading(self, size: int) -> Callable[[int], None]:
        """The inputs are read for the first time: so many bytes. What is returned is told how many more were read."""
        return lambda more: None

    def begin(self, plan: Plan, step: str, left: int) -> None:
        """A step begins: so many bytes of input are left to do. Not called where the dataset is complete already."""

    def update(self, report: Report) -> None:
        """What happened since the last call."""


NOBODY = Watch()


def make_plan(
    config: BuildConfig,
    tokenizer: BegunTokenizer | None = None,
    spooled: Source | None = None,
    watch: Watch = NOBODY,
) -> tuple[Plan, Toolbox]:
    """Look at inputs and tokenizer and say what is to be done. Writes nothing.

    tokenizer: if it is known already. spooled: what was read from standard input. watch: is told of the reading. Raises
    InputError, TokenizerError, TemplateError or ConfigError where the job cannot be done.
    """
    found = find_sources((*config.inputs, *config.validation_input), strict=config.strict, spooled=spooled)
    held_out = len(find_sources(config.validation_input).sources) if config.validation_input else 0
    tokenizer = tokenizer or tokenizer_of(config)
    size = sum(source.bytes for source in found.sources)
    read_through = partial(_read_through, config, found.sources, held_out, watch)
    read = None if size >= _MUCH else read_through()  # Transformers may still be asked
    resolved = tokenizer.resolved
    template = template_text(config, resolved)
    config = dated(config, template)
    control_tokens = control_tokens_of(config, resolved)
    if read is None:
        read = read_through()
    sources, splits = read
    toolbox = load(config, tokenizer, control_tokens, first_conversations(config, sources, splits))
    config = replace(config, tokenizer_engine=toolbox.engine.name)
    planned = _planned(resolved, template)
    plan = Plan(config, tuple(sources), tuple(splits), planned, "", found.passed_over, held_out)
    return replace(plan, fingerprint=fingerprint(plan.facts())), toolbox


def dated(config: BuildConfig, template: str) -> BuildConfig:
    """With today's date where the template asks for one and none was given, and with none where it asks for none."""
    if "strftime_now" not in template:
        return replace(config, date=None)
    return replace(config, date=config.date or date.today().isoformat())


def control_tokens_of(config: BuildConfig, resolved: ResolvedTokenizer) -> frozenset[str]:
    """The control tokens, found by running the template where it can be ended. Raises TemplateError or ConfigError."""
    try:
        return run_apart(partial(probe, config, resolved), what="the chat template")
    except LimitError as error:
        raise TemplateError(f"{error} on plain talk") from error


def _read_through(
    config: BuildConfig, found: Sequence[Source], held_out: int, watch: Watch
) -> tuple[list[SourceInfo], list[Split]]:
    """The inputs, hashed, and their splits, each of one set. held_out: how many of them, the last, are the validation set."""
    sources: list[SourceInfo] = []
    splits: list[Split] = []
    first, advance = len(found) - held_out, watch.reading(sum(source.bytes for source in found))
    for group in filter(None, (found[:first], found[first:])):
        some, cut = plan_splits(group, selection=config.selection, advance=advance)
        if not sum(source.records for source in some):
            raise InputError(f"{', '.join(source.path for source in some)}: no record in it")
        if config.limit is not None:  # of each set
            cut = first_records(cut, some, config.limit, config.selection)
        splits += [_shifted(split, len(splits), len(sources)) for split in cut]
        sources += some
    return sources, splits


def _shifted(split: Split, splits: int, sources: int) -> Split:
    """A split of which the first has so many splits and sources before it."""
    ranges = tuple(replace(place, source=place.source + sources) for place in split.ranges)
    return replace(split, index=split.index + splits, ranges=ranges)


def _planned(resolved: ResolvedTokenizer, template: str) -> PlannedTokenizer:
    return {
        "sha256": resolved.sha256,
        "chat_template_sha256": hashlib.sha256(template.encode()).hexdigest(),
        "vocab_size": resolved.size,
        "pad_id": resolved.pad_id,
        "tokenizers": resolved.versions["tokenizers"],
        "transformers": resolved.versions["transformers"],
    }


def first_conversations(
    config: BuildConfig, sources: Sequence[SourceInfo], splits: Sequence[Split]
) -> Iterator[Conversation]:
    """The inputs' conversations from the start; records that cannot be used are passed over."""
    reading = config.reading
    for split in splits:
        for record in read_records(split, sources, config.selection):
            with suppress(ConversationError):
                yield parse_conversation(record.data, reading)
