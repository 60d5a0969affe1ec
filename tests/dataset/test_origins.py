"""Provenance files from strangers: what they hold is read, what they would unpack to is not."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_dataset import origins, parquet

from sftprep.dataset.origins import MOST_GROUPS, Provenance, ShardProvenance, read_origins
from sftprep.errors import DatasetError
from sftprep.unread import OTHERS

HUGE = 64 << 20  # bytes


def write(folder: Path, data: bytes) -> tuple[Path, int]:
    path = folder / "shard-00000.provenance.parquet"
    path.write_bytes(data)
    return path, len(data)


def packed(table: pa.Table, **options: Any) -> bytes:
    stream = io.BytesIO()
    pq.write_table(table, stream, compression="zstd", **options)
    return stream.getvalue()


SMALL, LARGE, FLAG = st.integers(0, 2**31 - 1), st.integers(-(2**63), 2**63 - 1), st.booleans()
VALUES = dict.fromkeys(("tokens", "tokens_in_all", "trained_tokens", "turns"), SMALL) | {
    "source": st.integers(0, 3),
    "line": LARGE,
    "byte_offset": LARGE,
    "record_key": LARGE,
    "group": st.text(max_size=3),
}


def provenance(rows: Sequence[dict[str, Any]]) -> Provenance:
    """A batch of segments, each with its value in each column."""
    kinds = dict.fromkeys(("line", "byte_offset", "record_key"), np.int64) | {"group": object}
    kinds |= dict.fromkeys(("source", "tokens", "tokens_in_all", "trained_tokens", "turns"), np.int32)
    return Provenance(
        **{name: np.array([row[name] for row in rows], kinds.get(name, np.bool_)) for name in Provenance._fields}
    )


@settings(max_examples=15)  # a process each
@given(
    st.lists(st.fixed_dictionaries({name: VALUES.get(name, FLAG) for name in Provenance._fields}), min_size=1),
    st.integers(0, 9),
    st.integers(1, 7),
)
def test_what_a_build_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: Sequence[dict[str, Any]], cut: int, group: int
) -> None:
    names = ["a.jsonl", "b/ü.jsonl", "\x1b.jsonl", "d"]
    written = ShardProvenance()
    for part in (rows[:cut], rows[cut:]):
        written.append(provenance(part))
    data = bytes(written.to_parquet(names))
    for contents in (data, packed(pq.read_table(io.BytesIO(data)), row_group_size=group)):
        read = read_origins(*write(tmp_path_factory.mktemp("origins"), contents), len(rows))
        assert read.pop("source").tolist() == [names[row["source"]] for row in rows]
        for name, column in read.items():
            expected = getattr(provenance(rows), name)
            assert np.array_equal(column, expected)
            assert column.dtype == expected.dtype


def test_of_very_many_groups_the_first_keep_their_names(tmp_path: Path) -> None:
    row = {**dict.fromkeys(Provenance._fields, 0)}
    written, groups = ShardProvenance(), [*map(str, range(MOST_GROUPS + 5)), "7"]
    for part in (groups[:100], groups[100:]):
        written.append(provenance([{**row, "group": group} for group in part]))
    read = read_origins(*write(tmp_path, bytes(written.to_parquet(["a"]))), len(groups))
    assert read["group"].tolist() == [*map(str, range(MOST_GROUPS)), *[OTHERS] * 5, "7"]


def test_no_row(tmp_path: Path) -> None:
    read = read_origins(*write(tmp_path, parquet(origins(["a"]).slice(1))), 0)
    assert {name: len(column) for name, column in read.items()} == dict.fromkeys(Provenance._fields, 0)


def other_type(name: str, kind: pa.DataType) -> pa.Table:
    table = origins(["a"])
    return table.set_column(table.column_names.index(name), name, table[name].cast(kind))


@pytest.mark.parametrize(
    ("make", "what"),
    [
        (lambda: parquet(origins(["a"] * 3)), "3 rows; the shard has 1 segments"),
        (lambda: parquet(origins([])), "0 rows; the shard has 1 segments"),
        (lambda: parquet(origins(["a"]).drop_columns("line")), "columns source, byte_offset"),
        (lambda: parquet(other_type("line", pa.string())), "columns source, line"),
        (lambda: parquet(other_type("source", pa.string())), "columns source, line"),
        (lambda: parquet(origins(["a"]).set_column(1, "line", pa.nulls(1, pa.int64()))), "holds nulls"),
        (lambda: b"PAR1" * 9, "not a readable Parquet file"),
        (lambda: parquet(origins(["a"]))[:-40], "not a readable Parquet file"),
        (lambda: packed(origins(["a" * HUGE])), "unpacks to 67,"),
        (lambda: packed(origins(["a" * HUGE]), use_dictionary=False), "unpacks to 67,"),
        (lambda: understated(packed(origins(["a" * HUGE]))), "holds 1 rows of 67,"),
    ],
)
def test_other_files_are_refused(tmp_path: Path, make: Callable[[], bytes], what: str) -> None:
    path, size = write(tmp_path, make())
    with pytest.raises(DatasetError) as caught:
        read_origins(path, size, 1)
    assert str(caught.value).startswith(f"{path}: {what}")


def test_rows_that_no_file_of_that_size_can_hold_are_not_read(tmp_path: Path) -> None:
    """A million rows take a few hundred bytes: they are counted before a column is read."""
    table = pa.table({**{name: pa.nulls(0) for name in ()}, "line": np.zeros(10**6, np.int64)})
    path, size = write(tmp_path, packed(table))
    assert size < 10_000
    with pytest.raises(DatasetError, match="1000000 rows; the shard has 1 segments"):
        read_origins(path, size, 1)


def understated(data: bytes) -> bytes:
    """The same file, whose footer states that the column `source` unpacks to one byte."""
    column = pq.ParquetFile(io.BytesIO(data)).metadata.row_group(0).column(0)
    stated = varint(2 * column.total_uncompressed_size)
    assert data.count(stated) == 1
    one = bytes([2 | 0x80, *[0x80] * (len(stated) - 2), 0])  # as long, which is all that the format asks for
    return data.replace(stated, one)


def varint(number: int) -> bytes:
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])
