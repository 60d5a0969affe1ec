"""Where each conversation of a shard came from: its provenance file, read without trusting it.

What a Parquet file states is looked at before any of it is unpacked: a page of a few bytes may unpack to gigabytes. Since
it may state what is not so, it is unpacked in a child process that has only so much memory.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sftprep.apart import run_apart
from sftprep.arrays import open_file
from sftprep.errors import DatasetError

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
