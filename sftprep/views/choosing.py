"""Which conversations of a dataset are looked at: by row, by where they came from, by what they hold; or drawn.

Told by segments and provenance, a shard at a time; tokens are read only where text is looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import chain, islice

import numpy as np
import numpy.typing as npt

from sftprep.dataset.manifest import REJECTS
from sftprep.dataset.rejects import rejected_at
from sftprep.errors import ConfigError
from sftprep.views.conversations import OpenSet, RowConversation, Shard, has_rows
from sftprep.views.spelling import Spelling

FIRST_ROWS, FIRST_FOUND = 3, 10  # that are shown where nothing is asked for; of those that are looked for
_READ = 128  # conversations that are looked into together
_ROWS = re.compile(r"(-?\d{1,18})(?:-(-?\d{1,18}))?")
_PLACE = re.compile(r"(.+):(\d{1,18})", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Choice:
    """What is asked for; all of it has to hold."""

    rows: tuple[tuple[int, int], ...] = ()  # first and last of each stretch, negative ones from the end; none: all
    source: str | None = None  # a file, or file:line
    grep: str | None = None  # text that a conversation holds
    untrained: bool = False  # nothing of it is trained
    truncated: bool = False
    longest: int | None = None  # of those the longest so many
    random: int | None = None  # or so many that are drawn
    seed: int = 0
    limit: int | None = None  # at most so many, in the dataset's order

    @property
    def is_search(self) -> bool:
        """Whether there may be any number of them."""
        return bool(self.source or self.grep or self.untrained or self.truncated)

    @property
    def most(self) -> int | None:
        """How many are shown at most."""
        if self.limit is not None or self.rows or self.longest is not None or self.random is not None:
            return self.limit
        return FIRST_FOUND if self.is_search else None


def rows_named(text: str) -> tuple[int, int] | None:
    """The first and last row that `3`, `0-9`, `-1` or `-5--1` names; None for other text."""
    found = _ROWS.fullmatch(text)
    return (int(found[1]), int(found[2] or found[1])) if found else None


def place_named(text: str) -> tuple[str, int | None]:
    """The file, and the line if there is one, of `chat.jsonl:17`."""
    found = _PLACE.fullmatch(text)
    return (found[1], int(found[2])) if found else (text, None)


def is_file(name: str, asked: str) -> bool:
    """Whether the name of an input, as a dataset has it, is what is asked for: whole, or its last parts."""
    return name == asked or name.endswith(f"/{asked}") or asked.endswith(f"/{name}")


def choose(opened: OpenSet, choice: Choice, decode: Spelling | None = None) -> Iterator[RowConversation]:
    """The conversations chosen: rows in the order in which they are named, the longest first, others in the dataset's order.

    Raises ConfigError for rows and files that are not there, and for text that is looked for without a tokenizer.
    """
    choice = checked(opened, choice)
    if choice.grep is not None and decode is None:
        raise ConfigError("--grep looks for text: give the tokenizer with -t")
    return islice(_chosen(opened, choice, decode), choice.most)


def why_none(opened: OpenSet, choice: Choice) -> str:
    """Why nothing was chosen, in words."""
    if choice.source:
        name, line = place_named(choice.source)
        names = [each.name for each in opened.manifest.inputs if is_file(each.name, name)]
        if line is not None and (said := rejected_at(opened.folder / REJECTS, names, line)):
            return f"{choice.source} gives no row: {said}"
    if choice.untrained:
        return f"none is like that; without --keep-untrained a build leaves them out, and lists them in {REJECTS}"
    return "no conversation is like that" if opened.rows else f"{opened.folder} {has_rows(0)}"


def checked(opened: OpenSet, choice: Choice) -> Choice:
    """The choice with rows counted from the start, and the first ones where nothing is asked for. Raises ConfigError for rows
    and files that are not there."""
    rows = []
    for stretch in choice.rows:
        first, last = (row + opened.rows if row < 0 else row for row in stretch)
        for row, given in zip((first, last), stretch, strict=True):
            if not 0 <= row < opened.rows:
                raise ConfigError(f"row {given}: {opened.folder} {has_rows(opened.rows)}")
        if first > last:
            raise ConfigError(f"rows {stretch[0]}-{stretch[1]}: the first of them comes after the last")
        rows.append((first, last))
    if choice.source is not None:
        name, _ = place_named(choice.source)
        known = [each.name for each in opened.manifest.inputs]
        if not any(is_file(each, name) for each in known):
            more = f" and {len(known) - 5} more" if len(known) > 5 else ""
            raise ConfigError(f"--source {choice.source}: inputs are {', '.join(known[:5])}{more}")
    whole = not rows and not choice.is_search and choice.longest is None and choice.random is None
    if whole and opened.rows:
        rows = [(0, min(choice.limit or FIRST_ROWS, opened.rows) - 1)]
    return replace(choice, rows=tuple(rows))


def _chosen(opened: OpenSet, choice: Choice, decode: Spelling | None) -> Iterator[RowConversation]:
    places: Iterable[tuple[int, int]]
    if choice.longest is not None or choice.random is not None:
        places = _best(opened, choice, decode)
    elif choice.rows:
        places = chain.from_iterable(_in_rows(opened, choice, decode, *stretch) for stretch in choice.rows)
    else:
        places = _in_rows(opened, choice, decode, 0, opened.rows - 1)
    for index, segment in places:
        yield opened.shard(index).conversation(segment)


def _in_rows(
    opened: OpenSet, choice: Choice, decode: Spelling | None, first: int, last: int
) -> Iterator[tuple[int, int]]:
    """Shard and segment of what is asked for in a stretch of rows, in order."""
    for index in range(opened.shard_of(first), opened.shard_of(last) + 1) if first <= last else ():
        shard = opened.shard(index)
        rows = shard.rows + shard.first_row
        fits = np.flatnonzero(_fits(shard, choice) & (rows >= first) & (rows <= last))
        yield from ((index, segment) for segment in _holding(shard, fits.tolist(), choice, decode))


def _fits(shard: Shard, choice: Choice) -> npt.NDArray[np.bool_]:
    """(S,) True for the segments that are like that, as far as provenance says."""
    origins = shard.origins
    fits = np.ones(len(shard.segments), np.bool_)
    if choice.untrained:
        fits &= origins["trained_tokens"] == 0
    if choice.truncated:
        fits &= origins["truncated"]
    if choice.source is not None:
        name, line = place_named(choice.source)
        own = [each for each in dict.fromkeys(origins["source"].tolist()) if is_file(each, name)]
        fits &= np.isin(origins["source"].astype(str), own)
        if line is not None:
            fits &= origins["line"] == line
    return fits


def _holding(shard: Shard, segments: list[int], choice: Choice, decode: Spelling | None) -> Iterator[int]:
    """Those of the segments that hold the text that is looked for, some read at a time."""
    if choice.grep is None or decode is None:
        yield from segments
        return
    for at in range(0, len(segments), _READ):
        some = segments[at : at + _READ]
        yield from (some[index] for index in decode.holding([shard.ids(each) for each in some], choice.grep))


def _best(opened: OpenSet, choice: Choice, decode: Spelling | None) -> list[tuple[int, int]]:
    """Shard and segment of the longest, the longest first; or of those drawn, in order. Holds as many as are asked for, and a
    shard's."""
    most = (choice.random if choice.longest is None else choice.longest) or 0
    stretches = choice.rows or ((0, opened.rows - 1),)
    found: list[tuple[float, int, int]] = []
    for index in range(len(opened.shards)):
        keys: Iterable[tuple[float, int]]
        draws = np.random.default_rng([choice.seed, index]).random(opened.shards[index].segments)
        if choice.longest is None and not choice.rows and not choice.is_search:
            keys = zip(draws.tolist(), range(len(draws)), strict=True)  # no shard need be opened
        else:
            shard = opened.shard(index)
            first, last = shard.first_row, shard.first_row + opened.shards[index].rows - 1
            own = {
                segment
                for begin, end in stretches
                for _, segment in _in_rows(opened, choice, decode, max(begin, first), min(end, last))
            }
            lengths = -shard.origins["tokens_in_all"].astype(np.float64)
            ranked = draws if choice.longest is None else lengths
            keys = ((float(ranked[segment]), segment) for segment in own)
        found = sorted([*found, *((key, index, segment) for key, segment in keys)])[:most]
    places = [(index, segment) for _, index, segment in found]
    return places if choice.longest is not None else sorted(places)
