"""Inputs -> splits -> records: every line once, in order, with its place."""

from __future__ import annotations

import gzip
import hashlib
import json
from dataclasses import asdict
from pathlib import Path

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from strategies import texts_of_lines

from sftprep.containers.files import find_sources
from sftprep.containers.record import Range, Record
from sftprep.containers.splits import (
    MIN_SPLIT,
    SourceInfo,
    Split,
    plan_splits,
    read_batches,
    read_records,
    records_from,
)
from sftprep.errors import InputError


def write_lines(path: Path, count: int, width: int = 100) -> Path:
    path.write_bytes(b"".join(b'{"n":%*d}\n' % (width - 7, number) for number in range(count)))
    return path


def plan(*paths: Path, target: int | None = None, granularity: int = 64) -> tuple[list[SourceInfo], list[Split]]:
    return plan_splits(find_sources([str(path) for path in paths]).sources, target, granularity)


def test_info_golden(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"{}\n\n{}\n \n{}")
    infos, splits = plan(path)
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    assert infos == [SourceInfo(str(path), "x.jsonl", 11, sha256, 3)]
    assert splits == [Split(0, (Range(0, 0, 11, 1),))]
    assert list(read_records(splits[0], infos)) == [
        Record(b"{}", 0, 1, 0),
        Record(b"{}", 0, 3, 4),
        Record(b"{}", 0, 5, 9),
    ]


def test_the_hash_is_of_the_file_not_of_what_it_unpacks_to(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b"{}\n" * 5))
    (info,), (split,) = plan(path)
    assert (info.bytes, info.records) == (path.stat().st_size, 5)
    assert info.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert split.ranges == (Range(0, 0, 15, 1),)


def test_a_large_file_is_cut_into_splits_of_the_target_size(tmp_path: Path) -> None:
    infos, splits = plan(write_lines(tmp_path / "x.jsonl", 1000), target=10_000)
    assert [split.index for split in splits] == list(range(10))
    assert [split.ranges for split in splits] == [
        (Range(0, start, start + 10_000, start // 100 + 1),) for start in range(0, 100_000, 10_000)
    ]
    assert infos[0].records == 1000


def test_splits_are_at_least_a_mebibyte_unless_told_otherwise(tmp_path: Path) -> None:
    _, splits = plan(write_lines(tmp_path / "x.jsonl", 3 * MIN_SPLIT // 100 + 1), granularity=1 << 14)
    assert len(splits) == 4
    _, splits = plan(write_lines(tmp_path / "y.jsonl", 100))
    assert len(splits) == 1


def test_small_files_share_a_split_and_empty_ones_are_in_none(tmp_path: Path) -> None:
    for number, count in enumerate([3, 0, 4, 9, 1, 25]):
        write_lines(tmp_path / f"{number}.jsonl", count)
    _, splits = plan(tmp_path, target=1000)
    assert [[(place.source, place.stop - place.start) for place in split.ranges] for split in splits] == [
        [(0, 300), (2, 400)],
        [(3, 900), (4, 100)],
        [(5, 900)],
        [(5, 800)],
        [(5, 800)],
    ]


def test_a_compressed_file_is_cut_into_few_ranges(tmp_path: Path) -> None:
    plain = write_lines(tmp_path / "x.jsonl", 2000)
    packed = tmp_path / "y.jsonl.gz"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    infos, splits = plan(packed, target=10_000)
    assert len(splits) == 8
    whole_infos, whole = plan(plain, target=10**9)
    records = [record for split in splits for record in read_records(split, infos)]
    assert records == list(read_records(whole[0], whole_infos))


def test_an_array_is_never_cut(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_text(json.dumps([{"n": number} for number in range(500)], indent=1))
    infos, splits = plan(path, target=1000)
    assert splits == [Split(0, (Range(0, 0, infos[0].bytes, 1),))]
    records = list(read_records(splits[0], infos))
    assert [json.loads(record.data)["n"] for record in records] == list(range(500))
    assert [record.line for record in records] == [2 + 3 * number for number in range(500)]
    assert infos[0].records == 500


def test_lines_in_a_json_file_are_read_as_lines(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b'{"a": 1}\n{"a": 2}\n')
    infos, splits = plan(path)
    assert [record.line for record in read_records(splits[0], infos)] == [1, 2]


def is_other_text(text: bytes) -> bool:
    """Whether none of the first ten lines begins as JSON does, and there are several: no file of JSON at all."""
    lines = [line.lstrip() for line in text.lstrip(b"\xef\xbb\xbf \t\r\n").split(b"\n") if line.strip()][:10]
    return len(lines) > 1 and not any(line.startswith(b"{") for line in lines)


@given(
    st.lists(texts_of_lines(), min_size=1, max_size=4),
    st.integers(1, 200),
    st.integers(3, 30),
    st.sampled_from([".jsonl", ".json", ".jsonl.gz"]),
)
def test_splits_partition_the_inputs(
    tmp_path: Path, texts: list[bytes], target: int, granularity: int, suffix: str
) -> None:
    assume(not any(is_other_text(text) for text in texts))
    paths = [tmp_path / f"{number}{suffix}" for number in range(len(texts))]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(gzip.compress(text, 1) if suffix.endswith(".gz") else text)
    infos, splits = plan(*paths, target=target, granularity=granularity)
    expected = []
    for number, text in enumerate(texts):
        offset = 0
        for line, data in enumerate(text.split(b"\n"), start=1):
            mark = 3 if line == 1 and data.startswith(b"\xef\xbb\xbf") else 0
            if data[mark:].strip():
                expected.append(Record(data[mark:], number, line, offset + mark))
            offset += len(data) + 1
    assert [record for split in splits for record in read_records(split, infos)] == expected
    assert [info.records for info in infos] == [
        sum(each.source == number for each in expected) for number in range(len(texts))
    ]
    ranges = [place for split in splits for place in split.ranges]
    for number, text in enumerate(texts):
        mine = [place for place in ranges if place.source == number]
        assert [place.start for place in mine] == [0, *(place.stop for place in mine)][: len(mine)]
        assert sum(place.stop - place.start for place in mine) == len(text)


def test_batches_hold_so_many_records_or_bytes(tmp_path: Path) -> None:
    infos, splits = plan(write_lines(tmp_path / "x.jsonl", 100), target=10**9)
    by_count = list(read_batches(splits[0], infos, max_records=30))
    assert [len(batch) for batch in by_count] == [30, 30, 30, 10]
    by_size = list(read_batches(splits[0], infos, max_bytes=1000))
    assert [len(batch) for batch in by_size] == [11] * 9 + [1]
    for batches in (by_count, by_size):
        assert [record for batch in batches for record in batch] == list(read_records(splits[0], infos))


def test_splits_and_infos_survive_json(tmp_path: Path) -> None:
    infos, splits = plan(write_lines(tmp_path / "x.jsonl", 100), target=3000)
    assert [msgspec.convert(json.loads(json.dumps(asdict(split))), Split) for split in splits] == splits
    assert [SourceInfo(**json.loads(json.dumps(asdict(info)))) for info in infos] == infos


def read_all(infos: list[SourceInfo], splits: list[Split]) -> None:
    for split in splits:
        list(read_records(split, infos))


def test_an_input_that_changed_since_planning_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", 100)
    infos, splits = plan(path, target=3000)
    read_all(infos, splits)
    text = path.read_bytes()
    start = splits[1].ranges[0].start
    path.write_bytes(text + b"\n")
    with pytest.raises(InputError, match=r"x\.jsonl: changed since it was planned; 10000 bytes became 10001"):
        read_all(infos, splits)
    path.write_bytes(text[: start - 1] + b"x" + text[start:])
    with pytest.raises(InputError, match=rf"x\.jsonl: changed since it was planned; no line starts at byte {start}"):
        read_all(infos, splits)
    path.unlink()
    with pytest.raises(InputError, match=r"x\.jsonl: cannot be read: No such file"):
        read_all(infos, splits)


def test_a_compressed_input_that_unpacks_to_less_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(b"[12]\n" * 5, 0))
    infos, splits = plan(path)
    shorter = gzip.compress(b"[12]\n" * 4, 0)
    path.write_bytes(shorter + gzip.compress(b"", 0)[: infos[0].bytes - len(shorter)])
    infos = [SourceInfo(infos[0].path, infos[0].name, path.stat().st_size, infos[0].sha256, 5)]
    with pytest.raises(InputError, match=r"x\.jsonl\.gz: "):
        read_all(infos, splits)


ARRAYS = {
    "not closed": b'[\n{"a": 1},\n{"a": 2}',
    "followed": b'[\n{"a": 1}\n]\n{"a": 2}',
    "closed by a brace": b'[\n{"a": 1}\n}',
}


@pytest.mark.parametrize("text", ARRAYS.values(), ids=ARRAYS)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_broken_array_ends_the_plan_with_its_line(tmp_path: Path, text: bytes, suffix: str) -> None:
    path = tmp_path / f"x.json{suffix}"
    path.write_bytes(gzip.compress(text) if suffix else text)
    with pytest.raises(InputError, match=rf"x\.json{suffix}:[34]: "):
        plan(path)


@pytest.mark.parametrize("text", ARRAYS.values(), ids=ARRAYS)
def test_an_array_that_is_broken_after_it_was_planned_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "x.json"
    path.write_bytes(b"[1" + b" " * (len(text) - 3) + b"]")
    infos, splits = plan(path)
    read_all(infos, splits)
    path.write_bytes(text)
    with pytest.raises(InputError, match=r"x\.json:[34]: "):
        read_all(infos, splits)


def test_a_compressed_input_that_is_damaged_after_it_was_planned_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", 2000)
    path = path.rename(tmp_path / "x.jsonl.gz")
    path.write_bytes(packed := gzip.compress(path.read_bytes()))
    infos, splits = plan(path, target=10_000)
    read_all(infos, splits)
    assert len(splits) == 8
    path.write_bytes(packed[:-6] + bytes(6))  # all text is there, its checksum and length are not
    with pytest.raises(InputError, match=r"x\.jsonl\.gz: cannot be read"):
        read_all(infos, splits[-1:])


def test_a_file_that_grows_while_it_is_planned_is_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "x.jsonl", 10)
    found = find_sources([str(path)]).sources
    write_lines(path, 11)
    with pytest.raises(InputError, match=r"x\.jsonl: changed while it was read; 1000 bytes became 1100"):
        plan_splits(found)


def test_the_real_corpus_is_read_line_by_line(corpus: Path) -> None:
    infos, splits = plan_splits(find_sources([str(corpus)]).sources)
    text = corpus.read_bytes()
    offset = count = 0
    lines = iter(enumerate(text.splitlines(keepends=True), start=1))
    for split in splits:
        for record in read_records(split, infos):
            number, line = next(lines)
            assert record == (line.rstrip(b"\n"), 0, number, offset, None, None)
            offset += len(line)
            count += 1
    assert (count, offset) == (24_196, len(text))
    assert infos[0].records == count
    assert len(splits) > 16


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.json", "a.parquet"])
def test_a_source_is_read_as_far_as_it_is_asked_for(name: str, tmp_path: Path) -> None:
    """All of it is what a plan reads; from a line on, where there are lines."""
    values = [{"messages": [{"role": "user", "content": f"{number}"}]} for number in range(50)]
    text = "\ufeff" + ("\n".join(map(json.dumps, values)) if name.startswith("a.jsonl") else json.dumps(values))
    path = tmp_path / name
    if name.endswith(".parquet"):
        pq.write_table(pa.Table.from_pylist(values), path)
    else:
        path.write_bytes(gzip.compress(text.encode()) if name.endswith(".gz") else text.encode())
    [source] = find_sources([str(path)]).sources
    infos, splits = plan_splits([source])
    planned = [record for split in splits for record in read_records(split, infos)]
    assert list(records_from(source)) == planned
    for each in planned[::7]:
        found = next(record for record in records_from(source, place=(each.offset, each.line)) if record == each)
        assert found == each
    if name.startswith("a.jsonl"):
        assert next(records_from(source, place=(planned[9].offset, planned[9].line))) == planned[9]


def test_what_is_not_come_to_is_not_looked_at(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text('[{"messages": 1}, {"messages": 2},' + " " * (1 << 21))
    [source] = find_sources([str(path)]).sources
    records = records_from(source)
    assert next(records).data == b'{"messages": 1}'
    with pytest.raises(InputError, match="not closed"):
        list(records)
