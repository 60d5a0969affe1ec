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
from sftprep.workers.trial import run_apart


class Provenance(NamedTuple):
    """Where a batch's conversations came from, one entry per segment."""

    source: npt.NDArray[np.int32]  # (S,) index into the plan's inputs
    line: npt.NDArray[np.int64]  # (S,) counted from 1
    byte_offset: npt.NDArray[np.int64]  # (S,) of the record in its (uncompressed) input
    tokens: npt.NDArray[np.int32]  # (S,) ids kept
    trained_tokens: npt.NDArray[np.int32]  # (S,) targets with a mask above 0
    truncated: npt.NDArray[np.bool_]  # (S,) True where ids were cut off


def provenance_table(batches: list[Provenance], source_names: Sequence[str]) -> memoryview:
    """The provenance of a shard as a Parquet file: source, line, byte_offset, tokens, trained_tokens, truncated."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = {name: np.concatenate([getattr(batch, name) for batch in batches]) for name in Provenance._fields}
    used, indices = np.unique(columns["source"], return_inverse=True)
    names = pa.array([source_names[index] for index in used], pa.string())
    table = pa.table({**columns, "source": pa.DictionaryArray.from_arrays(indices.astype(np.int32), names)})
    sink = io.BytesIO()
    pq.write_table(table, sink, compression="zstd")
    return sink.getbuffer()


def warm_parquet() -> None:
    """Let Arrow take what it reserves at its first table, a gigabyte of address space: later it would count against the
    limits of a template that runs meanwhile."""
    long, short = np.zeros(0, np.int64), np.zeros(0, np.int32)
    provenance_table([Provenance(short, long, long, short, short, np.zeros(0, np.bool_))], [])


_MOST_FOOTER = 1 << 20  # bytes of a string, and entries of a list, in what the file states
_MEMORY = 400 << 20  # bytes
Origins = dict[str, npt.NDArray[Any]]


def read_origins(path: Path, size: int, segments: int) -> Origins:
    """(S,) arrays: source (str), line, byte_offset, tokens, trained_tokens, truncated, one entry for each segment.

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
            columns = {name: table[name].to_numpy() for name in table.column_names if name != "source"}
            return {"source": _names(table["source"]), **columns}
        except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
            raise DatasetError(f"{path}: not a readable Parquet file ({type(error).__name__})") from error


def _wrong_statement(parquet: Any, segments: int) -> str | None:
    """What is wrong with what a Parquet file states of itself."""
    import pyarrow as pa

    kinds = {"line": pa.int64(), "byte_offset": pa.int64(), "tokens": pa.int32(), "trained_tokens": pa.int32()}
    schema = pa.schema({"source": pa.dictionary(pa.int32(), pa.string()), **kinds, "truncated": pa.bool_()})
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
    """What so many rows and the names of their files may take, unpacked."""
    return (16 << 20) + 64 * segments


def _names(column: Any) -> npt.NDArray[np.object_]:
    """The strings of a dictionary column, each of them once in memory however often it stands there."""
    parts = [np.zeros(0, object)]
    for chunk in column.chunks:
        names = np.array([*chunk.dictionary.to_pylist(), None], object)  # with None its entries stay what they are
        parts.append(names[chunk.indices.to_numpy()])
    return np.concatenate(parts)
