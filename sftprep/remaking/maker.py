"""Records -> the rows that a build makes of them, without a build; or what the record behind a row is trained as."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from sftprep.batches.exact_way import ExactWay
from sftprep.batches.prepare import Preparer
from sftprep.batches.templates import template_text
from sftprep.batches.toolbox import Toolbox, load, tokenizer_of
from sftprep.config import BuildConfig
from sftprep.containers.files import Source, find_sources
from sftprep.containers.record import Record
from sftprep.containers.splits import MOST_RECORDS, records_from
from sftprep.dataset.manifest import Manifest
from sftprep.dataset.receipt import Reject
from sftprep.dataset.shard_writer import Prepared
from sftprep.errors import InputError
from sftprep.jobs.plan import control_tokens_of, dated
from sftprep.jobs.rederive import stated_config
from sftprep.records.conversation import Conversation
from sftprep.stores.places import remembered_places
from sftprep.views.choosing import is_file
from sftprep.views.conversations import PLACE, RowConversation, take_out

_NEVER = 1 << 62  # of so many records one would be looked at both ways
_FEW = 16  # records of the first batch: one row is soon there


class Maker:
    """Makes rows as a build does. config: its options, with the day that the template sees; toolbox: what it loads."""

    def __init__(self, config: BuildConfig, toolbox: Toolbox, sources: Sequence[Source]) -> None:
        self.config, self.toolbox, self.sources = config, toolbox, sources
        self.exact = ExactWay(config, toolbox)
        self._preparer = Preparer(config, toolbox, [source.name for source in sources], check_every=_NEVER)

    @classmethod
    def open(cls, config: BuildConfig, sources: Sequence[Source]) -> Maker:
        """Load what a build with these options does. Raises SftprepError where tokenizer, template or options are at fault."""
        tokenizer = tokenizer_of(config)
        resolved = tokenizer.resolved
        config = dated(config, template_text(config, resolved))
        return cls(config, load(config, tokenizer, control_tokens_of(config, resolved)), sources)

    def records(self, numbers: Sequence[int] | None = None) -> Iterator[Record]:
        """Those of all sources, or of some, as far as they are asked for. Raises InputError for what it comes to."""
        for number in range(len(self.sources)) if numbers is None else numbers:
            yield from records_from(self.sources[number], number, self.config.selection)

    def rows(self, records: Iterable[Record]) -> Iterator[RowConversation | Reject]:
        """What comes of records, in their order: rows, counted from 0, and a reject for each record that gives none."""
        records, size, row = iter(records), _FEW, 0
        while batch := list(islice(records, size)):
            for prepared in self._preparer.prepare(batch):
                yield from self._parts(prepared, row)
                row += len(prepared.rows)
            size = min(2 * size, MOST_RECORDS)

    def _parts(self, prepared: Prepared, first_row: int) -> list[RowConversation | Reject]:
        """Rows and rejects in the order of their records."""
        rows, origins = prepared.rows, prepared.provenance
        found: list[tuple[tuple[int, int], RowConversation | Reject]] = [
            (each.place[:2], each) for each in prepared.rejects
        ]
        before, example = (-1, -1), 0
        for segment in range(len(rows.segments)):
            place = {name: getattr(origins, name)[segment] for name in PLACE}
            place["source"] = self.sources[origins.source[segment]].name
            here = int(origins.source[segment]), int(origins.line[segment])
            example, before = example + 1 if here == before else 0, here
            arrays = rows.as_rows()
            found.append((here, take_out(arrays, rows.segments, segment, first_row, "not built", example, place)))
        return [each for _, each in sorted(found, key=lambda pair: pair[0])]

    def examples(self, record: Record, home: str) -> tuple[Conversation, tuple[Conversation, ...]]:
        """As `Preparer.examples`."""
        return self._preparer.examples(record, home)


def maker_of(manifest: Manifest, dataset: Path, tokenizer: str, inputs: Sequence[str]) -> Maker:
    """What makes the rows of a dataset anew. inputs: where they lie; none: where they lay when it was built.

    Raises InputError where they are not there, DatasetError where the dataset's options are not what this version writes, and as
    `Maker.open`.
    """
    known = remembered_places(manifest.fingerprint)
    given = list(inputs) or [*known.get("inputs", ()), *known.get("validation_input", ())]
    if not given:
        raise InputError("where the inputs lay is not known on this machine")
    return Maker.open(stated_config(dataset, manifest, tokenizer), find_sources(given).sources)


def record_of(maker: Maker, shown: RowConversation) -> Record:
    """The record that a row was made from. Raises InputError where it is not there."""
    named = [source for source in maker.sources if source.name == shown.source]
    alike = named or [source for source in maker.sources if is_file(Path(source.path).as_posix(), shown.source)]
    chosen = alike or list(maker.sources)
    if len(chosen) != 1:
        raise InputError(f"{shown.source} is not among the inputs; --input FILE says where it lies now")
    place = shown.byte_offset, shown.line
    with suppress(InputError):  # where no line begins there
        for record in records_from(chosen[0], 0, maker.config.selection, place):
            if record.offset == shown.byte_offset:
                return record
            if record.offset > shown.byte_offset:
                break
    raise InputError(f"{chosen[0].path}: no record begins at byte {shown.byte_offset:,}, line {shown.line:,}, any more")
