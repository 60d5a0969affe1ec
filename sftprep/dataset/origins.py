"""Where each segment of a shard came from: written as a Parquet file, and read back from one that may be hostile.

Parquet is a format that a hostile file can make unpack to any size. So it is read in a process of its own, with a limit of
memory, after its own statements about its size were looked at.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sftprep.dataset.safe_open import open_file
from sftprep.errors import DatasetError
from sftprep.unread import OTHERS
from sftprep.workers.trial import run_apart


class Provenance(NamedTuple):
    """Where a batch's conversations came from, and what they are, one entry per segment."""

    source: npt.NDArray[np.int32]  # (S,) index into the plan's inputs
    line: npt.NDArray[np.int64]  # (S,) counted from 1
    byte_offset: npt.NDArray[np.int64]  # (S,) of the record in its (uncompressed) input
    tokens: npt.NDArray[np.int32]  # (S,) ids kept
    tokens_in_all: npt.NDArray[np.int32]  # (S,) ids of the example before any were cut off
    trained_tokens: npt.NDArray[np.int32]  # (S,) targets with a mask above 0
    truncated: npt.NDArray[np.bool_]  # (S,) True where ids were cut off
    turns: npt.NDArray[np.int32]  # (S,) the assistant's messages in the example
    tools: npt.NDArray[np.bool_]  # (S,) True: it has tools, or calls of tools
    reasoning: npt.NDArray[np.bool_]  # (S,) True: one of its messages has reasoning
    forged: npt.NDArray[np.bool_]  # (S,) True: its text spells a control token
    other_context: npt.NDArray[np.bool_]  # (S,) True: a turn is trained in another context than it is asked for in
    record_key: npt.NDArray[np.int64]  # (S,) a hash of the record's bytes: it is found again wherever it stands
    group: npt.NDArray[np.object_]  # (S,) str: what the record has under the key of --by; "" where that is nothing


class ShardProvenance:
    """The provenance of a shard while it is made: of so many groups the first MOST_GROUPS keep their names."""

    def __init__(self) -> None:
        self._batches: list[Provenance] = []
        self._groups: dict[str, int] = {}

    def append(self, batch: Provenance) -> None:
        """Add the segments of a batch."""
        self._batches.append(batch._replace(group=np.array([self._code(name) for name in batch.group], np.int32)))

    def put_in_order(self, order: npt.NDArray[np.int64]) -> None:
        """From now on the segments are these, by their index until now."""
        whole = [np.concatenate([getattr(batch, name) for batch in self._batches]) for name in Provenance._fields]
        self._batches = [Provenance(*(column[order] for column in whole))]

    def to_parquet(self, source_names: Sequence[str]) -> memoryview:
        """A Parquet file with the columns of Provenance, in which sources and groups are names."""
        import pyarrow as pa
        import pyarrow.parquet as pq

        columns = {
            name: np.concatenate([np.zeros(0, kind), *(getattr(batch, name) for batch in self._batches)])
            for name, kind in _KINDS.items()
        }
        used, indices = np.unique(columns["source"], return_inverse=True)
        names = pa.array([source_names[index] for index in used], pa.string())
        columns["source"] = pa.DictionaryArray.from_arrays(indices.astype(np.int32), names)
        columns["group"] = pa.DictionaryArray.from_arrays(columns["group"], pa.array(list(self._groups), pa.string()))
        sink = io.BytesIO()
        # numbers that seldom repeat need no dictionary, and nobody looks for a few rows of many
        pq.write_table(pa.table(columns), sink, compression="zstd", use_dictionary=[*_NAMED], write_statistics=False)
        return sink.getbuffer()

    def _code(self, group: str) -> int:
        if group not in self._groups and len(self._groups) >= MOST_GROUPS:
            group = OTHERS
        return self._groups.setdefault(group, len(self._groups))


def warm_parquet() -> None:
    """Let Arrow take what it reserves at its first table, a gigabyte of address space: later it would count against the
    limits of a template that runs meanwhile."""
    ShardProvenance().to_parquet([])


MOST_GROUPS = 4096  # that keep their names in a shard; all further ones are OTHERS
_KINDS = {
    "source": np.int32,
    "line": np.int64,
    "byte_offset": np.int64,
    "tokens": np.int32,
    "tokens_in_all": np.int32,
    "trained_tokens": np.int32,
    "truncated": np.bool_,
    "turns": np.int32,
    "tools": np.bool_,
    "reasoning": np.bool_,
    "forged": np.bool_,
    "other_context": np.bool_,
    "record_key": np.int64,
    "group": np.int32,
}
_NAMED = ("source", "group")  # columns whose numbers stand for names
_MOST_FOOTER = 1 << 20  # bytes of a string, and entries of a list, in what the file states
_MEMORY = 400 << 20  # bytes
Origins = dict[str, npt.NDArray[Any]]


def read_origins(path: Path, size: int, segments: int) -> Origins:
    """The columns of Provenance, (S,) arrays, but source and group as str; one entry for each segment.

    size: bytes of the file. Raises DatasetError, naming the file, where it is anything else.
    """
    import pyarrow.parquet  # noqa: F401 - here, so that not every child does

    return run_apart(partial(_unpack, path, size, segments), what=f"{path}: unpacking it", memory=_MEMORY)


def _unpack(path: Path, size: int, segments: int) -> Origins:
    """`read_origins`, in the process that may be ended."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    with open_file(path, size) as file:
        try:
            limits = {"thrift_string_size_limit": _MOST_FOOTER, "thrift_container_size_limit": _MOST_FOOTER}
            with pq.ParquetFile(file, **limits) as parquet:
                if wrong := _wrong_statement(parquet, segments):
                    raise DatasetError(f"{path}: {wrong}")
                table = parquet.read(use_threads=False)
            table.validate(full=True)
            if table.num_rows != segments or table.nbytes > _most_bytes(segments):
                raise DatasetError(f"{path}: holds {table.num_rows} rows of {table.nbytes:,} bytes, and states others")
            if any(column.null_count for column in table.columns):
                raise DatasetError(f"{path}: holds nulls")
            return {name: _names(table[name]) if name in _NAMED else _numbers(table[name]) for name in _KINDS}
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise DatasetError(f"{path}: not a readable Parquet file ({type(error).__name__})") from error


def _wrong_statement(parquet: Any, segments: int) -> str | None:
    """What is wrong with what a Parquet file states of itself."""
    import pyarrow as pa

    named = dict.fromkeys(_NAMED, pa.dictionary(pa.int32(), pa.string()))
    schema = pa.schema({name: pa.from_numpy_dtype(kind) for name, kind in _KINDS.items()} | named)
    stated = parquet.metadata
    groups = [stated.row_group(number) for number in range(stated.num_row_groups)]
    if stated.num_rows != segments or sum(group.num_rows for group in groups) != segments:
        return f"{stated.num_rows} rows; the shard has {segments} segments"
    if not parquet.schema_arrow.equals(schema):
        return f"columns {', '.join(parquet.schema_arrow.names)}; expected {', '.join(schema.names)}, of their types"
    unpacked = sum(max(0, group.column(at).total_uncompressed_size) for group in groups for at in range(len(schema)))
    if unpacked > _most_bytes(segments):
        return f"unpacks to {unpacked:,} bytes; {segments} rows take {_most_bytes(segments):,} at most"
    return None


def _most_bytes(segments: int) -> int:
    """What so many rows and the names of their files and groups may take, unpacked."""
    return (16 << 20) + 128 * segments


def _names(column: Any) -> npt.NDArray[np.object_]:
    """The strings of a dictionary column, each of them once in memory however often it stands there."""
    parts = [np.zeros(0, object)]
    for chunk in column.chunks:
        names = np.array([*chunk.dictionary.to_pylist(), None], object)  # with None its entries stay what they are
        parts.append(names[_array(chunk.indices)])
    return np.concatenate(parts)


def _numbers(column: Any) -> npt.NDArray[Any]:
    """A column of numbers or truth values without nulls."""
    import pyarrow as pa

    if pa.types.is_boolean(column.type):
        return np.array(column.to_pylist(), np.bool_)
    empty = np.zeros(0, column.type.to_pandas_dtype())
    return np.concatenate([empty, *map(_array, column.chunks)])


def _array(chunk: Any) -> npt.NDArray[Any]:
    """As its `to_numpy`, which would first import pandas where that is installed: a quarter of a second in every child."""
    return np.from_dlpack(chunk)
