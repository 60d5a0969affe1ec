"""Parquet and Arrow files -> rows as JSON, against the rows that were written."""

from __future__ import annotations

import json
import mmap
import random
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.containers.files import find_sources
from sftprep.containers.record import RECORD_KEYS, Range, Record, Selection
from sftprep.containers.splits import SourceInfo, Split, plan_splits, read_records
from sftprep.errors import InputError

CALL = {"type": "function", "function": {"name": "f", "arguments": {"city": "Oslo"}}}
OTHER = {"type": "function", "function": {"name": "g", "arguments": {"n": 3}}}
TOOL = {"name": "f", "parameters": {"properties": {"city": {"type": "string"}}}}
ROWS: list[dict[str, Any]] = [
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "tool_calls": [CALL]}], "tools": [TOOL]},
    {"messages": [{"role": "assistant", "content": "ü", "tool_calls": [OTHER]}]},
    {"prompt": "x", "completion": "y", "chat_template_kwargs": {"a": None, "b": 1}, "system": "s"},
    {"prompt": "x", "completion": "y", "chat_template_kwargs": {"a": 2, "b": None}, "weight": 0.5},
]


def write_parquet(path: Path, table: pa.Table, rows: int) -> None:
    pq.write_table(table, path, row_group_size=rows)


def write_arrow(path: Path, table: pa.Table, rows: int, form: Any = pa.ipc.new_file, codec: str | None = None) -> None:
    options = pa.ipc.IpcWriteOptions(compression=codec)
    with pa.OSFile(str(path), "wb") as file, form(file, table.schema, options=options) as writer:
        writer.write_table(table, max_chunksize=rows)


def write_stream(path: Path, table: pa.Table, rows: int) -> None:
    write_arrow(path, table, rows, pa.ipc.new_stream)


def write_packed(path: Path, table: pa.Table, rows: int) -> None:
    write_arrow(path, table, rows, pa.ipc.new_stream, "zstd")


Write = Callable[[Path, pa.Table, int], None]
WRITERS: dict[str, tuple[str, Write]] = {
    "parquet": ("x.parquet", write_parquet),
    "arrow file": ("x.arrow", write_arrow),
    "arrow stream": ("x.arrow", write_stream),
    "arrow stream, packed": ("x.arrow", write_packed),
}


def plan(path: Path, target: int = 1 << 30, selection: Selection | None = None) -> tuple[list[SourceInfo], list[Split]]:
    return plan_splits(find_sources([str(path)]).sources, target, selection=selection or Selection())


def read(path: Path, target: int = 1 << 30, selection: Selection | None = None) -> list[Record]:
    infos, splits = plan(path, target, selection)
    found = [record for split in splits for record in read_records(split, infos, selection or Selection())]
    assert infos[0].records == len(found)
    return found


@pytest.fixture(params=WRITERS)
def written(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[..., Path]:
    name, write = WRITERS[request.param]

    def written(table: pa.Table, rows: int = 100) -> Path:
        write(tmp_path / name, table, rows)
        return tmp_path / name

    return written


def test_rows_golden(written: Callable[..., Path]) -> None:
    """Nulls that Arrow adds are gone, but in chat_template_kwargs; columns that nobody reads are not read."""
    table = pa.Table.from_pylist(ROWS).append_column("image", pa.array([b"\xff"] * 4))
    columns = {key for row in ROWS for key in row} | {"image"}
    table = pa.table({name: pa.array([row.get(name) for row in ROWS]) for name in sorted(columns - {"image"})})
    path = written(table.append_column("image", pa.array([b"\xff"] * 4)), 3)
    records = read(path)
    assert [json.loads(record.data) for record in records] == ROWS
    assert [record[1:] for record in records] == [(0, row + 1, row, None, None) for row in range(4)]


@given(
    st.lists(st.sampled_from([*range(6)]), max_size=40),
    st.integers(1, 9),
    st.integers(1, 2000),
    st.sampled_from(sorted(WRITERS)),
)
def test_splits_partition_the_rows(tmp_path: Path, lengths: list[int], rows: int, target: int, kind: str) -> None:
    name, write = WRITERS[kind]
    said = [{"answer": "x" * 20 * length, "system": str(number)} for number, length in enumerate(lengths)]
    write(
        tmp_path / name,
        pa.table({key: pa.array([each[key] for each in said], pa.string()) for key in ("answer", "system")}),
        rows,
    )
    infos, splits = plan(tmp_path / name, target)
    records = [record for split in splits for record in read_records(split, infos)]
    assert [json.loads(record.data) for record in records] == said
    assert [(record.line, record.offset) for record in records] == [(row + 1, row) for row in range(len(said))]
    ranges = [place for split in splits for place in split.ranges]
    assert [place.start for place in ranges] == [0, *(place.stop for place in ranges)][: len(ranges)]


def test_columns_of_json_and_maps_are_what_they_hold(written: Callable[..., Path]) -> None:
    """`datasets` keeps objects of mixed keys as JSON, in which a null is one."""
    objects = ['{"a": null, "n": 12345678901234567890123}', '{"b": [1]}']
    json_type = pa.json_(pa.string())
    table = pa.table(
        {
            "messages": pa.array([objects, None], pa.list_(pa.string())).cast(pa.list_(json_type)),
            "tools": pa.array([[("k", 1), ("l", None)], []], pa.map_(pa.string(), pa.int64())),
            "answer": pa.array(["x", "x"]).dictionary_encode(),
        }
    )
    assert [record.data for record in read(written(table))] == [
        f'{{"messages":[{",".join(objects)}],"tools":{{"k":1,"l":null}},"answer":"x"}}'.encode(),
        b'{"tools":{},"answer":"x"}',
    ]


def test_a_row_that_cannot_be_read_costs_itself(tmp_path: Path) -> None:
    texts = pa.array([b"a", b"\xff", b"c" * 99], pa.binary())
    broken = pa.Array.from_buffers(pa.string(), 3, texts.buffers())
    pq.write_table(pa.table({"answer": broken, "train": pa.array([b"x", None, None])}), tmp_path / "x.parquet")
    first, second, third = read(tmp_path / "x.parquet", selection=Selection(80))
    assert first.error == "a value of the row cannot be JSON: Type is not JSON serializable: bytes"
    assert second.error == "a value of the row cannot be read, such as text that is not UTF-8"
    assert third.error == "record of 112 bytes; at most 80 are read"
    assert {record.data for record in (first, second, third)} == {b""}


def test_columns_are_those_of_records(tmp_path: Path) -> None:
    pq.write_table(pa.table({f"c{number}": [1] for number in range(9)}), tmp_path / "x.parquet")
    with pytest.raises(
        InputError, match=r"no column that is read, such as messages or conversations; it has c0, c1, .* c7, \.\.\."
    ):
        plan(tmp_path / "x.parquet")
    (record,) = read(tmp_path / "x.parquet", selection=Selection(keys=RECORD_KEYS | {"c3"}))
    assert record.data == b'{"c3":1}'


def damaged(path: Path, change: Callable[[bytes], bytes]) -> Path:
    path.write_bytes(change(path.read_bytes()))
    return path


@pytest.mark.parametrize(
    "change", [lambda data: data[:-200], lambda data: data[:150] + b"\xff" * 60 + data[210:]], ids=["cut", "changed"]
)
def test_damage_ends_the_plan(written: Callable[..., Path], change: Callable[[bytes], bytes]) -> None:
    path = damaged(written(pa.table({"answer": ["abc def" * 9] * 20}), 10), change)
    with pytest.raises(InputError, match=r"x\.(parquet|arrow): (cannot be read|is cut off|reading it)"):
        plan(path)


def test_any_damage_is_an_error_or_other_rows(written: Callable[..., Path]) -> None:
    """What a library does with it, a crash included, happens elsewhere."""
    path = written(pa.table({"messages": [[{"role": "user", "content": "a"}]] * 9, "text": ["abc"] * 9}))
    whole, chance = path.read_bytes(), random.Random(3)
    for _ in range(15):
        data = bytearray(whole)
        data[chance.randrange(len(data))] = chance.choice([0, 255])
        path.write_bytes(data)
        with suppress(InputError):
            read(path)


def test_what_changed_since_it_was_planned_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.arrow"
    write_stream(path, pa.table({"answer": ["a"] * 40}), 10)
    infos, splits = plan(path, 1)
    assert len(splits) == 4
    write_stream(path, pa.table({"answer": ["a"] * 40}), 20)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"\0" * (infos[0].bytes - size))
    with pytest.raises(InputError, match="changed since it was planned"):
        for split in splits:
            list(read_records(split, infos))
    with pytest.raises(InputError, match="rows are missing"):
        list(read_records(Split(0, (Range(0, 0, 10**6, 1),)), infos))


BOMBS = {
    "page": pa.table({"answer": pa.array(["x" * (9 << 20)] * 40)}),
    "dictionary": pa.table({"answer": pa.DictionaryArray.from_arrays([0] * 5000, ["x" * (9 << 20)])}),
}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="limits of memory are kept on Linux")
@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_within_its_memory(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.parquet"
    pq.write_table(BOMBS[name], path, compression="zstd")
    assert path.stat().st_size < 50_000
    with pytest.raises(InputError, match=r"x\.parquet: reading it needs more than 132 MB of memory on it"):
        plan(path, selection=Selection(1 << 20))


@pytest.mark.skipif(not hasattr(mmap, "MADV_DONTNEED"), reason="memory of a map is given back on Linux")
@pytest.mark.parametrize("kind", ["parquet", "arrow file"])
def test_one_large_group_is_read_in_little_memory(tmp_path: Path, kind: str) -> None:
    """150 MB in one row group, or batch."""
    name, write = WRITERS[kind]
    write(tmp_path / name, pa.table({"answer": pa.array([str(number) * 2500 for number in range(10_000)])}), 10_000)
    rows = 0
    infos, splits = plan(tmp_path / name)
    before, most = resident(), 0
    for split in splits:
        for rows, _ in enumerate(read_records(split, infos), start=1):
            most = max(most, resident()) if rows % 100 == 0 else most
    assert rows == 10_000
    assert most - before < 60 << 20


def resident() -> int:
    """Bytes of this process that are in memory."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE
