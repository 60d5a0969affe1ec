"""The bytes in files, compressed or not."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from sftprep.containers.compressed import CHUNK, read_chunks
from sftprep.errors import InputError

TEXT = b"".join(b'{"line": %d, "noise": "%s"}\n' % (number, os.urandom(40).hex().encode()) for number in range(12_000))


def zstd(data: bytes) -> bytes:
    compressed: bytes = pytest.importorskip("zstandard").ZstdCompressor(write_checksum=True).compress(data)
    return compressed


CODECS: dict[str, Callable[[bytes], bytes]] = {
    ".gz": lambda data: gzip.compress(data, 1),
    ".bz2": lambda data: bz2.compress(data, 1),
    ".zst": zstd,
    ".xz": lambda data: lzma.compress(data, preset=0),
}


@pytest.mark.parametrize("suffix", ["", *CODECS])
@pytest.mark.parametrize(("start", "stop"), [(0, None), (1, 2), (CHUNK - 1, CHUNK + 1), (700_000, None), (5, 700_001)])
def test_chunks_are_the_uncompressed_bytes(tmp_path: Path, suffix: str, start: int, stop: int | None) -> None:
    path = tmp_path / f"x.jsonl{suffix}"
    path.write_bytes(CODECS[suffix](TEXT) if suffix else TEXT)
    chunks = list(read_chunks(str(path), start, stop))
    assert b"".join(chunks) == TEXT[start:stop]
    assert {len(chunk) for chunk in chunks[:-1]} <= {CHUNK}


@pytest.mark.parametrize("suffix", CODECS)
def test_several_compressed_streams_in_a_file_are_read_one_after_another(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.jsonl{suffix}"
    path.write_bytes(CODECS[suffix](TEXT[:100]) + CODECS[suffix](TEXT[100:300_000]) + CODECS[suffix](b"end"))
    assert b"".join(read_chunks(str(path))) == TEXT[:300_000] + b"end"


@pytest.mark.parametrize("suffix", [".gz", ".xz"])
@pytest.mark.parametrize("padding", [4, 512, 2 * CHUNK])
def test_gzip_and_xz_streams_may_be_padded(tmp_path: Path, suffix: str, padding: int) -> None:
    path, pack = tmp_path / f"x.jsonl{suffix}", CODECS[suffix]
    path.write_bytes(pack(b"one") + bytes(padding) + pack(TEXT) + bytes(padding))
    assert b"".join(read_chunks(str(path))) == b"one" + TEXT


@pytest.mark.parametrize("suffix", CODECS)
def test_a_text_of_no_bytes_may_be_compressed(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"x.jsonl{suffix}"
    path.write_bytes(CODECS[suffix](b""))
    assert list(read_chunks(str(path))) == []


def test_a_gzip_stream_is_unpacked_in_bounded_steps(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.gz"
    path.write_bytes(gzip.compress(bytes(100 * CHUNK)))  # a hundredth of a chunk
    assert [len(chunk) for chunk in read_chunks(str(path))] == [CHUNK] * 100


@pytest.mark.parametrize("suffix", CODECS)
@pytest.mark.parametrize(
    "damage",
    [
        lambda packed: packed[:-3],
        lambda packed: packed[: len(packed) // 2],
        lambda packed: packed + b"trailing bytes that are no stream",
        lambda packed: packed + bytes(512) + packed[:-1],
        lambda packed: packed[:-6] + bytes([packed[-6] ^ 1]) + packed[-5:],
        lambda packed: b"{}\n" + packed,
        lambda packed: bytes(512),
        lambda packed: b"",
    ],
    ids=["cut", "halved", "extended", "second cut", "checksum", "not compressed", "zeros", "no bytes"],
)
def test_a_damaged_stream_is_an_error_and_no_short_file(
    tmp_path: Path, suffix: str, damage: Callable[[bytes], bytes]
) -> None:
    path = tmp_path / f"x.jsonl{suffix}"
    path.write_bytes(damage(CODECS[suffix](TEXT)))
    with pytest.raises(InputError, match=rf"x\.jsonl\{suffix}: cannot be read"):
        list(read_chunks(str(path)))


def test_xz_may_not_ask_for_much_memory(tmp_path: Path) -> None:
    path = tmp_path / "x.jsonl.xz"
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 512 << 20}]
    path.write_bytes(lzma.compress(b"{}\n", filters=filters))
    with pytest.raises(InputError, match=r"x\.jsonl\.xz: cannot be read"):
        list(read_chunks(str(path)))
