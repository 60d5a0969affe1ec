"""Files, folders and globs -> the files to read, and their uncompressed bytes, chunk by chunk."""

from __future__ import annotations

import glob
import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from sftprep.compressed import CODECS, ERRORS, codec_of, open_stream
from sftprep.errors import InputError

# Records are lines or the elements of one JSON array. Columnar kinds (.parquet, .arrow) belong in a table of their own:
# their records are rows, and their splits row groups.
SUFFIXES = (".jsonl", ".ndjson", ".json")

CHUNK = 1 << 18  # bytes read at a time: what is read, hashed and split stays in the cache


@dataclass(frozen=True, slots=True)
class Source:
    """One input file."""

    path: str  # absolute, for workers
    name: str  # written into the dataset: relative to the folder that all inputs share, with "/" on every system
    bytes: int  # on disk


def find_sources(inputs: Sequence[str]) -> list[Source]:
    """Files, folders and globs -> the files to read, in the order given; a folder's and a glob's files are sorted.

    Folders are searched with their subfolders for files of a known suffix; hidden files and folders are passed over.
    Names depend on the set of files alone, not on the working directory or on how the files were named.
    Raises InputError for what is missing, unreadable, empty, of an unknown suffix, or given twice.
    """
    paths: list[str] = []
    for given in inputs:
        if os.path.exists(given) or not glob.has_magic(given):  # noqa: PTH110 - Path.exists raises for odd names
            paths += _expand(given)
        else:
            found = glob.iglob(given, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
            matches = sorted(found, key=lambda match: Path(match).parts)
            if not matches:
                raise InputError(f"{given}: matches no file")
            paths += [path for match in matches for path in _expand(match)]
    if not paths:
        raise InputError("no input; give files, folders or globs of .jsonl, .ndjson or .json, plain or compressed")
    seen: set[str] = set()
    for path in paths:
        if path in seen:
            raise InputError(f"{path}: given twice; every file may be read once")
        seen.add(path)
    root = Path(os.path.commonpath([Path(path).parent for path in paths]))
    return [_source(path, root) for path in paths]


def _expand(given: str) -> list[str]:
    """One existing file or folder -> absolute paths of files of a known suffix."""
    if not os.path.exists(given):  # noqa: PTH110
        raise InputError(f"{given!r}: no such file or folder")
    # Links of folders only: a file's own name has the suffix, the target of a link (in a content-addressed store, say)
    # may not. Never normpath(): `link/../x` is beside the link's target.
    path = Path(given)
    path = path.resolve() if path.is_dir() else path.parent.resolve() / path.name
    if not path.is_dir():
        if _text_suffix(path.name) is None:
            known = ", ".join(SUFFIXES)
            raise InputError(f"{given}: unknown kind of file; expected {known}, plain or with {', '.join(CODECS)}")
        return [str(path)]
    found: list[Path] = []
    for folder, subfolders, files in os.walk(path, onerror=_refuse):
        subfolders[:] = [name for name in subfolders if not name.startswith(".")]
        found += [Path(folder, name) for name in files if not name.startswith(".") and _text_suffix(name)]
    if not found:
        raise InputError(f"{given}: holds no {', '.join(SUFFIXES)} file")
    return [str(file) for file in sorted(found, key=lambda file: file.parts)]


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be listed: {error.strerror}") from error


def _source(path: str, root: Path) -> Source:
    name = Path(path).relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{path!r}: the name is not UTF-8 and cannot be written into a dataset; rename it") from error
    if not Path(path).is_file():
        raise InputError(f"{path}: not a regular file")
    try:
        with Path(path).open("rb") as file:
            return Source(path, name, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error


def _text_suffix(name: str) -> str | None:
    """The suffix of the uncompressed name, if it is a known one."""
    path = Path(name.lower())
    suffix = (path.with_suffix("") if path.suffix in CODECS else path).suffix
    return suffix if suffix in SUFFIXES else None


def read_chunks(path: str, start: int = 0, stop: int | None = None, chunk: int = CHUNK) -> Generator[bytes, None, None]:
    """Uncompressed bytes [start, stop) of a file, `chunk` at a time and the rest at last; fewer if the file ends earlier.

    In a compressed file everything before `start` is decompressed and thrown away. Raises InputError for damage.
    """
    try:
        with closing(open_stream(path)) as stream:
            if codec_of(path) is None:
                cast(BinaryIO, stream).seek(start)
                position = start
            else:
                position = 0
                while position < start and (data := stream.read(min(chunk, start - position))):
                    position += len(data)
            while data := stream.read(chunk if stop is None else min(chunk, stop - position)):
                position += len(data)
                yield data
    except ERRORS as error:
        raise InputError(f"{path}: cannot be read: {error}") from error


def holds_array(path: str) -> bool:
    """True if the records of a .json file are the elements of one array, False if they are its lines."""
    if _text_suffix(path) != ".json":
        return False
    with closing(read_chunks(path)) as chunks:
        for chunk in chunks:
            text = chunk.lstrip(b"\xef\xbb\xbf \t\r\n")  # a byte order mark, white space
            if text:
                return text.startswith(b"[")
    return False
