"""Files of a finished dataset, opened for reading without trusting them.

A file is opened only if it is a regular file and no symbolic link, so a folder from a stranger cannot point outside
itself. An .npy header is compared with the one that the manifest implies, never evaluated: no pickle, no object dtype,
no parser. A file is mapped only after its size on disk is exactly header plus data: touching a page past the end of a
file is a SIGBUS, which no handler turns into an error.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from sftprep.errors import DatasetError, StorageError
from sftprep.regular_files import NotRegularError, open_regular

_MAGIC = b"\x93NUMPY"
_LONGEST_HEADER = 4096  # numpy writes 128 bytes for any array of a dataset


@contextmanager
def open_file(path: Path, size: int | None = None) -> Iterator[BinaryIO]:
    """Open a regular file of exactly `size` bytes (None: any size) for the body of a `with`.

    Raises DatasetError where it is missing, a link, no regular file or of another size; StorageError where the system
    fails to open it, or to read it in the body.
    """
    try:
        with open_regular(path) as file:
            found = os.fstat(file.fileno()).st_size
            if size not in (None, found):
                raise DatasetError(f"{path}: {found:,} bytes; its manifest says {size:,}")
            yield file
    except (FileNotFoundError, NotADirectoryError):
        raise DatasetError(f"{path}: missing") from None
    except NotRegularError as error:
        raise DatasetError(f"{path}: {error}; a dataset holds regular files only") from None
    except OSError as error:
        raise StorageError(f"{path}: {error.strerror}") from error


def map_file(file: BinaryIO, size: int) -> Any:
    """Its first `size` bytes as a read-only buffer. Raises ValueError where it has fewer."""
    return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ)


def open_array(
    path: Path,
    size: int,
    shape: tuple[int, ...],
    dtypes: tuple[str, ...],
    map_file: Callable[[BinaryIO, int], Any] = map_file,
) -> npt.NDArray[Any]:
    """Map an .npy file of exactly `size` bytes, which holds an array of `shape` in one of `dtypes` ("<u2", "|b1", ...).

    Returns a read-only array over the map, of that shape and dtype; no element is read. Raises DatasetError, naming the
    file, where it is anything else.
    """
    with open_file(path, size) as file:
        start, header = _read_header(path, file)
        allowed = {_header(shape, dtype): np.dtype(dtype) for dtype in dtypes}
        if header not in allowed:
            raise DatasetError(f"{path}: header {header[:120]!r}; expected {' or '.join(map(repr, allowed))}")
        dtype = allowed[header]
        expected = start + math.prod(shape) * dtype.itemsize
        if size != expected:
            raise DatasetError(f"{path}: {size:,} bytes; header and data take {expected:,}")
        try:
            mapped = map_file(file, size)
        except ValueError:  # it shrank since its size was read
            raise DatasetError(f"{path}: truncated while it was opened") from None
    array: npt.NDArray[Any] = np.ndarray(shape, dtype, mapped, start)
    return array


def _header(shape: tuple[int, ...], dtype: str) -> bytes:
    """What numpy.lib.format writes for a C-contiguous array, without the padding."""
    return f"{{'descr': {dtype!r}, 'fortran_order': False, 'shape': {shape!r}, }}".encode()


def _read_header(path: Path, file: BinaryIO) -> tuple[int, bytes]:
    """Where the data starts, and the header without its padding (numpy.lib.format, versions 1.0 and 2.0)."""
    start = file.read(_LONGEST_HEADER)
    length_bytes = {b"\x01\x00": 2, b"\x02\x00": 4}.get(start[6:8])
    if not start.startswith(_MAGIC) or length_bytes is None:
        raise DatasetError(f"{path}: not an .npy file of format 1.0 or 2.0")
    begin = 8 + length_bytes
    end = begin + int.from_bytes(start[8:begin], "little")
    if not begin < end <= len(start) or start[end - 1 : end] != b"\n":
        raise DatasetError(f"{path}: its .npy header does not end where it says")
    return end, start[begin : end - 1].rstrip(b" ")
