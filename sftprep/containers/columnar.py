"""Parquet and Arrow files -> records: each row as JSON, so that all that follows is the same for every container.

A file is cut between its row groups (Parquet) or record batches (Arrow), and one of them, however large, is read in batches
of a few megabytes, only the columns that records are made of. When it is indexed it is read through once, in a process of
its own within a limit of memory: a file may be damaged, or a few kilobytes of it unpack to gigabytes.

Arrow gives all objects of a column the same keys, with nulls where an object has none. Those nulls are left out again, but
not in `chat_template_kwargs` and `documents`, which go to the template as they are.
"""

from __future__ import annotations

import mmap
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager
from functools import partial
from itertools import accumulate
from typing import Any, NamedTuple, Protocol

import orjson

from sftprep.containers.record import THE_END, Index, Range, Record, Selection, group_of, oversized
from sftprep.errors import InputError, first_line
from sftprep.stores.kinds import store_of
from sftprep.workers.limits import LimitError
from sftprep.workers.trial import run_apart

_BATCH_BYTES, _BATCH_ROWS = 4 << 20, 512  # at most, of what is unpacked at a time, if rows are of one size
_BUFFER = 1 << 20  # bytes read at a time
_MEMORY = 128 << 20  # bytes that reading a file may take, beside that of a few records of the largest size
_SECONDS, _BYTES_A_SECOND = 60.0, 4e6  # of processor time, for any file and for what it has on disk
_MOST_FOOTER = 256 << 20  # bytes of a string, and entries of a list, in what a Parquet file states of itself
_NULLS_STAY = frozenset({"chat_template_kwargs", "documents"})
_SHARED = ("dictionary", "view", "run_end")  # in the names of types whose rows may be the same bytes, repeated
_NAMED = 8  # columns, in an error


Batches = Iterator[Any]  # of pyarrow.RecordBatch


class Group(NamedTuple):
    """A row group, or a record batch: the least that a range of the file is."""

    rows: int
    bytes: int  # of the columns that are read, unpacked; at least 1
    batches: Callable[[], Batches]  # reads its rows


class _Opened(Protocol):
    """A columnar file that is open."""

    schema: Any

    def groups(self, columns: list[str]) -> Iterator[Group]:
        """All groups in order, with these columns."""


class _Parquet:
    def __init__(self, file: Any) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        limits = {"thrift_string_size_limit": _MOST_FOOTER, "thrift_container_size_limit": _MOST_FOOTER}
        self._file = pq.ParquetFile(pa.PythonFile(file, "r"), pre_buffer=False, buffer_size=_BUFFER, **limits)
        self.schema: Any = self._file.schema_arrow

    def groups(self, columns: list[str]) -> Iterator[Group]:
        stated = self._file.metadata
        for number in range(stated.num_row_groups):
            group = stated.row_group(number)
            leaves = map(group.column, range(group.num_columns))
            sizes = [leaf.total_uncompressed_size for leaf in leaves if leaf.path_in_schema.split(".")[0] in columns]
            size = max(1, sum(sizes))
            options = {"row_groups": [number], "columns": columns, "use_threads": False}
            read = partial(self._file.iter_batches, _rows_at_once(group.num_rows, size), **options)
            yield Group(group.num_rows, size, read)


class _Arrow:
    """Either form, a file of batches or a stream of them, mapped into memory."""

    def __init__(self, file: Any) -> None:
        import pyarrow as pa

        self._mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._is_file = self._mapped[:6] == b"ARROW1"
        options = pa.ipc.IpcReadOptions(use_threads=False)  # with included_fields it would copy what is mapped
        open_form = pa.ipc.open_file if self._is_file else pa.ipc.open_stream
        self._reader = open_form(pa.py_buffer(self._mapped), options=options)
        self.schema: Any = self._reader.schema

    def groups(self, columns: list[str]) -> Iterator[Group]:
        reader = self._reader
        whole = map(reader.get_batch, range(reader.num_record_batches)) if self._is_file else iter(reader)
        for batch in (each.select(columns) for each in whole):
            size = max(1, batch.get_total_buffer_size())
            yield Group(batch.num_rows, size, partial(self._slices, batch, _rows_at_once(batch.num_rows, size)))

    def _slices(self, batch: Any, rows: int) -> Batches:
        for start in range(0, batch.num_rows, rows):
            yield batch.slice(start, rows)
            if hasattr(mmap, "MADV_DONTNEED"):
                self._mapped.madvise(mmap.MADV_DONTNEED)  # what was read need not stay in this process's memory


Form = Callable[[Any], _Opened]
PARQUET: Form = _Parquet
ARROW: Form = _Arrow


def _rows_at_once(rows: int, size: int) -> int:
    return max(1, min(_BATCH_ROWS, _BATCH_BYTES * rows // size))


def index(form: Form, path: str, chunks: Iterable[bytes], selection: Selection) -> Index:
    """Where a file of a form may be cut: between its groups.

    Raises InputError where it is damaged, has no column that is read, or takes too much memory.
    """
    import pyarrow.parquet  # noqa: F401 - here, so that not every child does

    size = sum(map(len, chunks))
    memory = _MEMORY + 4 * selection.most
    mapped = size if form is ARROW else 0
    seconds = _SECONDS + size / _BYTES_A_SECOND
    step = partial(_read_through, form, path, selection)
    try:
        groups = run_apart(step, what="reading it", seconds=seconds, memory=memory + mapped)
    except LimitError as error:
        remedy = "is it whole? If so, write it again with fewer rows in a row group or batch"
        raise InputError(f"{path}: {error}; {remedy}") from None
    ends = list(accumulate((size for _, size in groups), initial=0))
    rows = list(accumulate((count for count, _ in groups), initial=0))
    marks = range(1, len(groups))
    offsets, lines = array("q", [ends[at] for at in marks]), array("q", [rows[at] + 1 for at in marks])
    return Index(ends[-1], rows[-1], offsets, lines)


def _read_through(form: Form, path: str, selection: Selection) -> list[tuple[int, int]]:
    """Rows and bytes of all groups, after every row was unpacked once."""
    import pyarrow as pa

    pa.set_memory_pool(pa.system_memory_pool())  # the default one first reserves a gigabyte of address space
    found = []
    with _opened(form, path) as file:
        columns = _columns(file, path, selection)
        shared = any(word in str(file.schema.field(name).type) for name in columns for word in _SHARED)
        for group in file.groups(columns):
            rows = 0
            for batch in group.batches():
                rows += batch.num_rows
                if shared:
                    batch.to_pylist()
                elif form is ARROW:  # which is read as it lies there; what is unpacked of Parquet is valid
                    _compact(batch).validate(full=True)
            if rows != group.rows:
                raise InputError(f"{path}: a row group holds {rows} rows, and states {group.rows}")
            found.append((group.rows, group.bytes))
    return found


def _compact(batch: Any) -> Any:
    """A copy without what a slice leaves out, which would be validated each time."""
    import pyarrow as pa

    return pa.ipc.read_record_batch(batch.serialize(), batch.schema)


def records(form: Form, path: str, place: Range, selection: Selection) -> Iterator[Record]:
    """The rows of a range as JSON objects. Raises InputError if the file is damaged or no longer what was planned."""
    position = row = 0
    with _opened(form, path) as file:
        columns = _columns(file, path, selection)
        shape = _shape_of_rows(file.schema, [name for name in columns if name != selection.by])
        for group in file.groups(columns):
            if position >= place.stop:
                break
            if position == place.start and row + 1 != place.first_line:
                raise InputError(f"{path}: changed since it was planned; row {place.first_line} is another's")
            if position >= place.start:
                for data, of in (each for batch in group.batches() for each in _rows(batch, shape, selection.by)):
                    row += 1
                    yield _record(data, place.source, row, selection.most)._replace(group=of)
            else:
                row += group.rows
            position += group.bytes
    if position != place.stop != THE_END:
        raise InputError(f"{path}: changed since it was planned; rows are missing at its end")


def _record(data: bytes | str, source: int, row: int, most: int) -> Record:
    """data: a row as JSON, or why it cannot be."""
    if isinstance(data, str):
        return Record(b"", source, row, row - 1, data)
    return oversized(source, row, row - 1, len(data), most) if len(data) > most else Record(data, source, row, row - 1)


@contextmanager
def _opened(form: Form, path: str) -> Iterator[_Opened]:
    import pyarrow as pa

    try:
        with closing(store_of(path).open_file(path)) as file:
            yield form(file)
    except MemoryError:
        raise
    except (pa.ArrowException, OSError, ValueError, EOFError) as error:
        remedy = "" if getattr(error, "errno", None) else "; is it whole? Fetch it or write it again"
        raise InputError(f"{path}: cannot be read: {first_line(error)}{remedy}") from error


def _columns(file: _Opened, path: str, selection: Selection) -> list[str]:
    """The columns that are read. Raises InputError where there are none."""
    names: list[str] = file.schema.names
    if columns := [name for name in names if name in selection.keys]:
        return columns + [name for name in names if name == selection.by and _has_names(file.schema.field(name).type)]
    has = f"{', '.join(names[:_NAMED])}{', ...' if len(names) > _NAMED else ''}" if names else "none"
    raise InputError(f"{path}: no column that is read, such as messages or conversations; it has {has}")


def _has_names(kind: Any) -> bool:
    """Whether values of an Arrow type can name a group."""
    import pyarrow as pa

    of, kind = pa.types, kind.value_type if pa.types.is_dictionary(kind) else kind
    kinds = (of.is_string, of.is_large_string, of.is_integer, of.is_floating, of.is_boolean)
    return any(is_one(kind) for is_one in kinds)


# --- a row as JSON ------------------------------------------------------------------------------------------------
Shape = Callable[[Any], Any]  # a value as Arrow gives it -> as JSON has it


def _rows(batch: Any, shape: Shape, by: str | None) -> Iterator[tuple[bytes | str, str | None]]:
    """Each row as JSON, or why it cannot be; and its group, by a column that is no part of that, if one is named."""
    import pyarrow as pa

    try:
        rows = batch.to_pylist()
    except (UnicodeDecodeError, pa.ArrowException, ValueError, OverflowError):
        if batch.num_rows == 1:
            yield "a value of the row cannot be read, such as text that is not UTF-8", None
            return
        for each in range(batch.num_rows):
            yield from _rows(batch.slice(each, 1), shape, by)
        return
    for row in rows:
        group = None if by is None else group_of(row.pop(by, None))
        try:
            yield orjson.dumps(shape(row)), group
        except TypeError as error:  # orjson's error is one
            yield f"a value of the row cannot be JSON: {first_line(error)}", group


def _shape_of_rows(schema: Any, columns: list[str]) -> Shape:
    shapes = {name: _shape(schema.field(name).type, nulls=name in _NULLS_STAY) or _as_is for name in columns}
    return lambda row: {name: shapes[name](value) for name, value in row.items() if value is not None}


def _as_is(value: Any) -> Any:
    return value


def _shape(kind: Any, *, nulls: bool) -> Shape | None:
    """What to do with values of an Arrow type; None: nothing. nulls: whether objects keep theirs."""
    import pyarrow as pa

    if isinstance(kind, getattr(pa, "JsonType", ())):
        return orjson.Fragment
    if pa.types.is_dictionary(kind):
        return _shape(kind.value_type, nulls=nulls)
    if pa.types.is_map(kind):
        item = _shape(kind.item_type, nulls=nulls) or _as_is
        return lambda pairs: {key: _or_none(item, value) for key, value in pairs}
    if pa.types.is_struct(kind):
        return _shape_of_objects({field.name: _shape(field.type, nulls=nulls) for field in kind}, nulls=nulls)
    if inner := _shape(kind.value_type, nulls=nulls) if hasattr(kind, "value_type") else None:
        return lambda items: [None if each is None else inner(each) for each in items]
    return None


def _shape_of_objects(fields: dict[str, Shape | None], *, nulls: bool) -> Shape | None:
    given = {name: shape for name, shape in fields.items() if shape}
    if nulls and not given:
        return None
    if nulls:
        return lambda value: {key: _or_none(given.get(key, _as_is), each) for key, each in value.items()}
    if not given:  # most messages
        return lambda value: {key: each for key, each in value.items() if each is not None}
    return lambda value: {key: given.get(key, _as_is)(each) for key, each in value.items() if each is not None}


def _or_none(shape: Shape, value: Any) -> Any:
    return None if value is None else shape(value)
