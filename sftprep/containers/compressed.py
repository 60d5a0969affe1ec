"""Files, compressed or not -> the bytes in them, as streams or chunk by chunk."""

from __future__ import annotations

import lzma
import zlib
from collections.abc import Callable, Generator
from contextlib import closing
from pathlib import Path
from typing import cast

from sftprep.errors import InputError
from sftprep.stores.kinds import store_of
from sftprep.stores.types import OpenFile, Stream

CODECS = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd", ".xz": "xz"}
# What a stream raises for damage; pyarrow's errors are the first two.
ERRORS = (OSError, ValueError, lzma.LZMAError, zlib.error)
CHUNK = 1 << 18  # bytes read at a time: what is read, hashed and split stays in the cache
_CHUNK = 1 << 16  # bytes read at a time: what a decoder leaves of them is copied
_XZ_MEMORY = 256 << 20  # bytes; `xz -9` needs 65 MiB


def codec_of(path: str) -> str | None:
    """How a file is compressed, by its last suffix; None if it is plain."""
    return CODECS.get(Path(path).suffix.lower())


def open_stream(path: str) -> Stream:
    """The uncompressed bytes of a file. Opening and reading raise one of ERRORS where it is damaged."""
    store, codec = store_of(path), codec_of(path)
    if codec is None:
        return store.open_file(path)
    if not store.size(path):  # pyarrow would take it for a text of no lines
        raise OSError(f"it has no bytes, and even an empty {codec} file has some")
    if codec in _DECODERS:
        return _PaddedStream(store.open_file(path), _DECODERS[codec])
    import pyarrow as pa  # 0.2 s, which other files need not pay

    return cast(Stream, pa.input_stream(pa.PythonFile(store.open_file(path), "r"), compression=codec))


class _GzipDecoder:
    """`zlib` with the interface of `lzma`."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(16 + zlib.MAX_WBITS)  # with a gzip header and its checksum

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._zlib.decompress(self._zlib.unconsumed_tail + data, max_length)

    @property
    def needs_input(self) -> bool:
        return not self._zlib.unconsumed_tail

    @property
    def eof(self) -> bool:
        return self._zlib.eof

    @property
    def unused_data(self) -> bytes:
        return self._zlib.unused_data


_Decoder = lzma.LZMADecompressor | _GzipDecoder
_DECODERS: dict[str, Callable[[], _Decoder]] = {
    "gzip": _GzipDecoder,
    "xz": lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY),
}


class _PaddedStream:
    """A file of streams that may each be padded with zero bytes.

    pyarrow refuses padding, `gzip.open` reads it a byte at a time, `lzma.open` drops in silence what follows it and has
    no memory limit.
    """

    def __init__(self, file: OpenFile, new_decoder: Callable[[], _Decoder]) -> None:
        self._file = file
        self._new_decoder = new_decoder
        self._decoder: _Decoder | None = new_decoder()
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
            data = self._raw or self._file.read(_CHUNK)
            if not data:
                return False
            self._raw = data.lstrip(b"\0")
            if self._raw:
                self._decoder = self._new_decoder()
        return True

    def _decode(self, size: int) -> bytes:
        decoder = cast(_Decoder, self._decoder)
        if decoder.needs_input and not self._raw:
            self._raw = self._file.read(_CHUNK)
            if not self._raw:
                raise OSError("Truncated compressed stream")
        data = decoder.decompress(self._raw, max_length=size)
        self._raw = b""
        if decoder.eof:
            self._raw, self._decoder = decoder.unused_data, None
        return data

    def close(self) -> None:
        self._file.close()


def read_chunks(path: str, start: int = 0, stop: int | None = None, chunk: int = CHUNK) -> Generator[bytes, None, None]:
    """Uncompressed bytes [start, stop) of a file, `chunk` at a time and the rest at last; fewer if the file ends earlier.

    In a compressed file everything before `start` is decompressed and thrown away. Raises InputError for damage.
    """
    try:
        with closing(open_stream(path)) as stream:
            if codec_of(path) is None:
                cast(OpenFile, stream).seek(start)
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
