"""Inputs -> splits -> records: how the inputs are hashed, shared out to workers, and read by them.

A split is a run of whole records, cut from the inputs in the order given. It depends on the inputs' bytes and order
only, so any number of workers makes the same shards. Planning reads every file once, in chunks, at about the speed of
SHA-256.
"""

from __future__ import annotations

import hashlib
from array import array
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

from sftprep.checksum import Count, Hash
from sftprep.containers.compressed import CHUNK, codec_of, read_chunks
from sftprep.containers.files import Source
from sftprep.containers.json_text import MAX_RECORD, LineCounter, Record, Start
from sftprep.containers.kinds import kind_of_file
from sftprep.errors import InputError
from sftprep.stores.kinds import store_of

MIN_SPLIT, MAX_SPLIT = 1 << 20, 64 << 20  # bytes
SPLITS = 48  # wanted of a large job: 16 workers are busy to the end, each taking about three
COMPRESSED_RANGES = 8  # at most, of one compressed file: every range costs a decompression of all that lies before it


@dataclass(frozen=True, slots=True)
class SourceInfo(Source):
    """One input file, after it was read once."""

    sha256: Hash  # of the bytes on disk
    records: Count  # lines that are not blank, or elements of the file's array


@dataclass(frozen=True, slots=True)
class Range:
    """Whole lines of one source."""

    source: Count  # index into the sources
    start: Count  # bytes of the uncompressed text, the start of a line
    stop: Count  # bytes, the start of the next range's line or the end
    first_line: Count  # 1-based line number at `start`


@dataclass(frozen=True, slots=True)
class Split:
    """One task's share of the inputs."""

    index: Count
    ranges: tuple[Range, ...]  # in the order of the inputs


@dataclass(frozen=True, slots=True)
class SourceIndex:
    """What one pass over a source finds."""

    info: SourceInfo
    size: int  # uncompressed bytes
    offsets: array[int]  # starts of lines where a range may begin, ascending; empty if the source must stay whole
    lines: array[int]  # their 1-based line numbers


def index_source(source: Source, granularity: int = CHUNK) -> SourceIndex:
    """One pass over a source: its SHA-256, its records, and where it may be cut, once in `granularity` bytes.

    Raises InputError for damage: a compressed stream or a JSON array that is not whole, a file that changes meanwhile.
    """
    digest = hashlib.sha256()
    plain = codec_of(source.path) is None
    counter = LineCounter()
    offsets, lines = array("q"), array("q")
    size = 0
    for chunk in read_chunks(source.path, chunk=granularity):
        if plain:
            digest.update(chunk)
        newlines = counter.newlines
        first = counter.add(chunk)
        if first is not None:
            offsets.append(size + first + 1)
            lines.append(newlines + 2)
        size += len(chunk)
    on_disk = size if plain else 0
    if not plain:
        with closing(store_of(source.path).open_file(source.path)) as file:
            while data := file.read(CHUNK):
                digest.update(data)
                on_disk += len(data)
    if on_disk != source.bytes:
        raise InputError(f"{source.path}: changed while it was read; {source.bytes} bytes became {on_disk}")
    kind = kind_of_file(source.path)
    if not kind.cut:
        offsets, lines = array("q"), array("q")
    info = SourceInfo(source.path, source.name, source.bytes, digest.hexdigest(), kind.count(source.path, counter))
    return SourceIndex(info, size, offsets, lines)


def plan_splits(
    sources: Sequence[Source], target: int | None = None, granularity: int = CHUNK
) -> tuple[list[SourceInfo], list[Split]]:
    """Index every source and cut all of them into splits of about `target` uncompressed bytes.

    `target` is the total divided by 48, between 1 MiB and 64 MiB, unless given. Small files share a split. A compressed
    file is cut into at most 8 ranges, because each of them is reached by decompressing the file from its start. A file
    that is one JSON array is never cut. Files without bytes are in no split.
    """
    indexes = [index_source(source, granularity) for source in sources]
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
    return [index.info for index in indexes], splits


def _cut(number: int, index: SourceIndex, parts: int) -> list[Range]:
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
    max_records: int = 512,
    max_bytes: int = 2 << 20,
    max_record: int = MAX_RECORD,
) -> Iterator[list[Record]]:
    """The records of a split in lists: one is full at `max_records`, or once it holds `max_bytes` or more."""
    batch: list[Record] = []
    size = 0
    for record in read_records(split, sources, max_record):
        batch.append(record)
        size += len(record.data)
        del record  # whoever gets the batch may let go of it
        if len(batch) >= max_records or size >= max_bytes:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def read_records(split: Split, sources: Sequence[Source], max_record: int = MAX_RECORD) -> Iterator[Record]:
    """The records of a split, in order; `Record.source` is an index into `sources`. Holds a chunk and a record at a time.

    Raises InputError if a file is damaged or no longer what was planned.
    """
    for place in split.ranges:
        source = sources[place.source]
        where = Start(place.source, source.path, place.start, place.first_line)
        yield from kind_of_file(source.path).records(_range_chunks(place, source), where, max_record)


def _range_chunks(place: Range, source: Source) -> Iterator[bytes]:
    """The bytes of a range, checked against the plan: the file's size, the line's start, the range's length."""
    try:
        size = store_of(source.path).size(source.path)
    except OSError as error:
        raise InputError(f"{source.path}: cannot be read: {error.strerror}") from error
    if size != source.bytes:
        raise InputError(f"{source.path}: changed since it was planned; {source.bytes} bytes became {size}")
    chunks = read_chunks(source.path, max(place.start - 1, 0), place.stop)
    length = place.stop - place.start
    if place.start:
        before = next(chunks, b"")
        if not before.startswith(b"\n"):
            raise InputError(f"{source.path}: changed since it was planned; no line starts at byte {place.start}")
        length -= len(before) - 1
        yield before[1:]
    for chunk in chunks:
        length -= len(chunk)
        yield chunk
    if length:
        raise InputError(f"{source.path}: changed since it was planned; {length} bytes are missing at its end")
