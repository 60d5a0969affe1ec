"""Inputs -> splits -> records: how the inputs are hashed, shared out to workers, and read by them.

A split is a run of whole records, cut from the inputs in the order given. It depends on the inputs' bytes and order
only, so any number of workers makes the same shards. Planning reads every file once, in chunks, at about the speed of
SHA-256.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from itertools import islice

from sftprep.checksum import Count, Hash
from sftprep.containers.compressed import CHUNK, codec_of, read_chunks
from sftprep.containers.files import Source
from sftprep.containers.first_bytes import check_file
from sftprep.containers.kinds import LINES, kind_of_file, kind_of_range
from sftprep.containers.record import THE_END, Index, Range, Record, Selection
from sftprep.errors import InputError
from sftprep.stores.kinds import store_of

MIN_SPLIT, MAX_SPLIT = 1 << 20, 64 << 20  # bytes
_ANY = Selection()
Advance = Callable[[int], None]
MOST_RECORDS = 512  # of a batch
SPLITS = 48  # wanted of a large job: 16 workers are busy to the end, each taking about three
COMPRESSED_RANGES = 8  # at most, of one compressed file: every range costs a decompression of all that lies before it


@dataclass(frozen=True, slots=True)
class SourceInfo(Source):
    """One input file, after it was read once."""

    sha256: Hash  # of the bytes on disk
    records: Count  # lines that are not blank, or values, or rows


@dataclass(frozen=True, slots=True)
class Split:
    """One task's share of the inputs."""

    index: Count
    ranges: tuple[Range, ...]  # in the order of the inputs
    records: Count | None = None  # at most so many of its first ones are read


def index_source(
    source: Source, selection: Selection, granularity: int = CHUNK, advance: Advance = lambda size: None
) -> tuple[SourceInfo, Index]:
    """One pass over a source: its SHA-256, its records, and where it may be cut, once in `granularity` bytes.

    advance: is told how many more of its bytes on disk were hashed. Raises InputError for a file that is not what its name
    says, for damage (a compressed stream or a JSON array that is not whole, say), and for one that changes meanwhile.
    """
    check_file(source.path)
    kind = kind_of_file(source.path, selection)
    digest = _Digest(advance)
    plain = codec_of(source.path) is None
    chunks = read_chunks(source.path, chunk=granularity)
    index = kind.index(source.path, digest.of(chunks) if plain else chunks, selection)
    if not plain:
        with closing(store_of(source.path).open_file(source.path)) as file:
            while data := file.read(CHUNK):
                digest.add(data)
    if digest.bytes != source.bytes:
        raise InputError(f"{source.path}: changed while it was read; {source.bytes} bytes became {digest.bytes}")
    return SourceInfo(source.path, source.name, source.bytes, digest.hex(), index.records), index


class _Digest:
    """The hash of the bytes that pass by."""

    def __init__(self, advance: Advance) -> None:
        self._hash, self._advance = hashlib.sha256(), advance
        self.hex = self._hash.hexdigest
        self.bytes = 0

    def add(self, data: bytes) -> None:
        self._hash.update(data)
        self.bytes += len(data)
        self._advance(len(data))

    def of(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            self.add(chunk)
            yield chunk


def plan_splits(
    sources: Sequence[Source],
    target: int | None = None,
    granularity: int = CHUNK,
    selection: Selection = _ANY,
    advance: Advance = lambda size: None,
) -> tuple[list[SourceInfo], list[Split]]:
    """Index every source and cut all of them into splits of about `target` uncompressed bytes.

    `target` is the total divided by 48, between 1 MiB and 64 MiB, unless given. Small files share a split. A compressed
    file is cut into at most 8 ranges, because each of them is reached by decompressing the file from its start. JSON that
    is laid out otherwise than in lines is never cut. Files without bytes are in no split. advance: as for `index_source`.
    """
    infos, indexes = [], []
    for source in sources:
        info, index = index_source(source, selection, granularity, advance)
        infos.append(info)
        indexes.append(index)
    if target is None:
        total = sum(index.size for index in indexes)
        target = min(max(-(-total // SPLITS), MIN_SPLIT), MAX_SPLIT)
    splits: list[Split] = []
    group: list[Range] = []
    held = 0
    for number, index in enumerate(indexes):
        most = COMPRESSED_RANGES if codec_of(sources[number].path) else index.size
        for place in _cut(number, index, min(-(-index.size // target), most)):
            if group and held + place.stop - place.start > target:
                splits.append(Split(len(splits), tuple(group)))
                group, held = [], 0
            group.append(place)
            held += place.stop - place.start
    if group:
        splits.append(Split(len(splits), tuple(group)))
    return infos, splits


def _cut(number: int, index: Index, parts: int) -> list[Range]:
    """A source in at most `parts` ranges of about equal size, each starting at one of the index's marks."""
    starts, lines = [0], [1]
    for part in range(1, parts):
        mark = bisect_left(index.offsets, index.size * part // parts)
        if mark < len(index.offsets) and starts[-1] < index.offsets[mark] < index.size:
            starts.append(index.offsets[mark])
            lines.append(index.lines[mark])
    stops = [*starts[1:], index.size]
    return [
        Range(number, start, stop, line) for start, stop, line in zip(starts, stops, lines, strict=True) if start < stop
    ]


def read_batches(
    split: Split,
    sources: Sequence[Source],
    selection: Selection = _ANY,
    max_records: int = MOST_RECORDS,
    max_bytes: int = 2 << 20,
) -> Iterator[list[Record]]:
    """The records of a split in lists: one is full at `max_records`, or once it holds `max_bytes` or more."""
    batch: list[Record] = []
    size = 0
    for record in read_records(split, sources, selection):
        batch.append(record)
        size += len(record.data)
        del record  # whoever gets the batch may let go of it
        if len(batch) >= max_records or size >= max_bytes:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def read_records(split: Split, sources: Sequence[Source], selection: Selection = _ANY) -> Iterator[Record]:
    """The records of a split, in order; `Record.source` is an index into `sources`. Holds a chunk and a record at a time.

    Raises InputError if a file is damaged or no longer what was planned.
    """
    return islice(_all_records(split, sources, selection), split.records)


def records_from(
    source: Source, number: int = 0, selection: Selection = _ANY, place: tuple[int, int] = (0, 1)
) -> Iterator[Record]:
    """The records of a source as far as they are asked for, from the start, or from where a line begins: for looking at a few,
    before the source is read through. number: the source's index. place: (byte offset, line), used where records are lines.

    Raises InputError as `index_source` does, for what it comes to.
    """
    check_file(source.path)
    kind = kind_of_file(source.path, selection)
    start, line = place if kind is LINES and place[1] > 1 else (0, 1)  # before the first there may be a byte order mark
    return kind.records(source.path, Range(number, start, THE_END, line), selection)


def first_records(
    splits: Sequence[Split], sources: Sequence[Source], limit: int, selection: Selection = _ANY
) -> list[Split]:
    """Splits of the first `limit` records. Reads these; raises as `read_records` does."""
    kept: list[Split] = []
    for split in splits:
        if limit <= 0:
            break
        first = replace(split, records=limit)
        count = sum(1 for _ in read_records(first, sources, selection))
        kept.append(first if count == limit else split)
        limit -= count
    return kept


def _all_records(split: Split, sources: Sequence[Source], selection: Selection) -> Iterator[Record]:
    for place in split.ranges:
        source = sources[place.source]
        try:
            size = store_of(source.path).size(source.path)
        except OSError as error:
            raise InputError(f"{source.path}: cannot be read: {error.strerror}") from error
        if size != source.bytes:
            raise InputError(f"{source.path}: changed since it was planned; {source.bytes} bytes became {size}")
        yield from kind_of_range(source.path, place, selection).records(source.path, place, selection)
