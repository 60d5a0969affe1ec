"""Files, folders and globs -> the files to read, and their uncompressed bytes, chunk by chunk."""

from __future__ import annotations

import glob
import lzma
import os
from collections.abc import Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, cast

from sftprep.errors import InputError

# Records are lines or the elements of one JSON array. Columnar kinds (.parquet, .arrow) belong in a table of their own:
# their records are rows, and their splits row groups.
SUFFIXES = (".jsonl", ".ndjson", ".json")
CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz"}

CHUNK = 1 << 18  # bytes read at a time: what is read, hashed and split stays in the cache
XZ_MEMORY = 256 << 20  # bytes; `xz -9` needs 65 MiB


@dataclass(frozen=True, slots=True)
class Source:
    """One input file."""

    path: str  # absolute, for workers
    name: str  # written into the dataset: relative to the folder that all inputs share, with "/" on every system
    bytes: int  # on disk


class Stream(Protocol):
    """What is needed of an open file."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` bytes, b'' at the end."""

    def close(self) -> None:
        """Release the file."""


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


def codec_of(path: str) -> str | None:
    """How a file is compressed, by its last suffix; None if it is plain."""
    return CODECS.get(Path(path).suffix.lower())


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
        with closing(_open(path)) as stream:
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
    except (OSError, ValueError, lzma.LZMAError) as error:  # pyarrow's errors are OSError or ValueError
        raise InputError(f"{path}: cannot be read: {error}") from error


def _open(path: str) -> Stream:
    codec = codec_of(path)
    if codec is None:
        return Path(path).open("rb", buffering=0)
    if codec == "xz":
        return _XzStream(path)
    import pyarrow as pa  # 0.2 s, which plain files need not pay

    return cast(Stream, pa.input_stream(path, compression=codec))


class _XzStream:
    """An .xz file, every stream of it. `lzma.open` drops what follows padding in silence and has no memory limit."""

    def __init__(self, path: str) -> None:
        self._file = Path(path).open("rb")  # noqa: SIM115 - closed by close()
        self._decoder: lzma.LZMADecompressor | None = None
        self._raw = b""

    def read(self, size: int) -> bytes:
        parts = []
        while size and self._find_stream():
            data = self._decode(size)
            size -= len(data)
            parts.append(data)
        return b"".join(parts)

    def _find_stream(self) -> bool:
        """Be inside a stream, past any padding of zero bytes. False at the end of the file."""
        while self._decoder is None:
            self._raw = (self._raw or self._file.read(CHUNK)).lstrip(b"\0")
            if self._raw:
                self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=XZ_MEMORY)
            elif not self._file.peek(1):
                return False
        return True

    def _decode(self, size: int) -> bytes:
        decoder = cast(lzma.LZMADecompressor, self._decoder)
        if decoder.needs_input and not self._raw:
            self._raw = self._file.read(CHUNK)
            if not self._raw:
                raise OSError("Truncated compressed stream")
        data = decoder.decompress(self._raw, max_length=size)
        self._raw = b""
        if decoder.eof:
            self._raw, self._decoder = decoder.unused_data, None
        return data

    def close(self) -> None:
        self._file.close()


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
