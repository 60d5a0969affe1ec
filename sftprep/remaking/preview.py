"""Rows before any build: the inputs are read as far as a row needs it, and nothing is written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import islice, takewhile

from sftprep.config import BuildConfig
from sftprep.containers.files import Source
from sftprep.containers.record import Record
from sftprep.dataset.receipt import Reject
from sftprep.errors import ConfigError
from sftprep.layouts.kinds import layout
from sftprep.remaking.maker import Maker, record_of
from sftprep.remaking.reasons import Reasons
from sftprep.views.choosing import FIRST_ROWS, Choice, is_file, place_named
from sftprep.views.conversations import RowConversation
from sftprep.views.spelling import Spelling


class Preview:
    """The rows that a build would write. rejects: of records that were come to on the way, and give none."""

    def __init__(self, config: BuildConfig, sources: Sequence[Source]) -> None:
        self.maker = Maker.open(config, sources)
        self.rejects: list[Reject] = []

    def rows(self, choice: Choice, decode: Spelling) -> Iterator[RowConversation]:
        """Those chosen, in order. Raises ConfigError for what only a dataset can tell, and for a row that is not there."""
        for what, asked in (
            ("--longest", choice.longest is not None),
            ("--random", choice.random is not None),
            ("a row counted from the end", any(min(stretch) < 0 for stretch in choice.rows)),
            ("rows together with --source", bool(choice.rows and choice.source)),
            ("a row of several conversations", layout(self.maker.config.layout).by_split and bool(choice.rows)),
        ):
            if asked:
                raise ConfigError(f"{what} needs a dataset: build it first")
        found = self._made(choice)
        last = max((last for _, last in choice.rows), default=None)
        if last is None and not choice.is_search:
            last = (choice.limit or FIRST_ROWS) - 1
        return islice(self._those(found, choice, decode, last), choice.most)

    def _made(self, choice: Choice) -> Iterator[RowConversation]:
        """All rows; or those of the records asked for, which are not counted."""
        counts = not layout(self.maker.config.layout).by_split  # else it is not known which conversations share a row
        records = self.maker.records() if choice.source is None else self._of_place(choice.source)
        for made in self.maker.rows(records):
            if isinstance(made, Reject):
                self.rejects.append(made)
            else:
                yield made if counts and choice.source is None else replace(made, row=-1)

    def _of_place(self, asked: str) -> Iterator[Record]:
        """The records of a file, or of a line of it. Raises ConfigError where there are none."""
        name, line = place_named(asked)
        sources = self.maker.sources
        chosen = [number for number, source in enumerate(sources) if is_file(source.name, name)]
        if not chosen:
            raise ConfigError(f"--source {asked}: inputs are {', '.join(each.name for each in sources)}")
        found = 0
        for number in chosen:
            own = takewhile(lambda record: line is None or record.line <= line, self.maker.records([number]))
            for record in own if line is None else (each for each in own if each.line == line):
                found += 1
                yield record
        if not found:
            raise ConfigError(f"--source {asked}: no record begins there")

    def _those(
        self, found: Iterator[RowConversation], choice: Choice, decode: Spelling, last: int | None
    ) -> Iterator[RowConversation]:
        seen = -1
        for made in found:
            seen = made.row
            named = not choice.rows or any(first <= made.row <= stop for first, stop in choice.rows)
            if named and _is_like(made, choice, decode):
                yield made
            if seen == last:
                return
        if last is not None and choice.rows and seen < last:
            raise ConfigError(f"row {last}: the inputs give {f'rows 0 to {seen}' if seen >= 0 else 'no rows'}")

    def reasons(self, shown: RowConversation) -> Reasons:
        """The reasons for its targets."""
        return Reasons(self.maker, shown, record_of(self.maker, shown))

    def where(self, reject: Reject) -> str:
        """`file:line` of a reject."""
        return f"{self.maker.sources[reject.place[0]].name}:{reject.place[1]}"


def _is_like(made: RowConversation, choice: Choice, decode: Spelling) -> bool:
    """Whether it is what is searched for."""
    if (choice.truncated and not made.truncated) or (choice.untrained and made.trained.any()):
        return False
    return choice.grep is None or bool(decode.holding([made.ids], choice.grep))
