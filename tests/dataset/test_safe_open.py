"""Files of a dataset are opened as what they have to be, or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sftprep.dataset.safe_open import open_array, open_file
from sftprep.errors import DatasetError, StorageError


def test_an_error_of_the_system_is_told_from_damage(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"x")
    with pytest.raises(StorageError, match=r"file: Input/output error"), open_file(path, 1):
        raise OSError(5, "Input/output error")


def _header(text: str, version: bytes = b"\x01\x00") -> bytes:
    length = 118 if version == b"\x01\x00" else 116
    padded = text.encode().ljust(length - 1) + b"\n"
    return b"\x93NUMPY" + version + length.to_bytes(2 if length == 118 else 4, "little") + padded


def test_array_of_both_header_versions(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    for version in (b"\x01\x00", b"\x02\x00"):
        path.write_bytes(
            _header("{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3), }", version) + bytes(range(12))
        )
        array = open_array(path, 140, (2, 3), ("<u4", "<u2"))
        assert array.dtype == np.uint16
        assert np.array_equal(array, np.load(path))
        assert not array.flags.writeable


@pytest.mark.parametrize(
    "header",
    [
        _header("{'descr': '|O', 'fortran_order': False, 'shape': (2, 3), }"),
        _header("{'descr': '<u2', 'fortran_order': True, 'shape': (2, 3), }"),
        _header("{'descr': '>u2', 'fortran_order': False, 'shape': (2, 3), }"),
        _header("{'descr': '<i2', 'fortran_order': False, 'shape': (2, 3), }"),
        _header("{'descr': [('a', '<u2')], 'fortran_order': False, 'shape': (2, 3), }"),
        _header("{'descr': '<u2', 'fortran_order': False, 'shape': (3, 2), }"),
        _header("{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3, 1), }"),
        _header("{'descr': '<u2', 'fortran_order': False, 'shape': (99999999999, 99999999999), }"),
        _header("__import__('os').system('true')"),
        _header("(" * 100),
        _header("{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3), }", b"\x03\x00"),
        b"\x93NUMPY\x01\x00\xff\xff" + bytes(118),
        b"\x93NUMPY\x02\x00\xff\xff\xff\xff" + bytes(116),
        b"\x93NUMPY\x01\x00\x00\x00" + bytes(118),
        b"\x80\x04\x95pickle".ljust(128),
        bytes(128),
    ],
)
def test_array_with_another_header(tmp_path: Path, header: bytes) -> None:
    path = tmp_path / "a.npy"
    path.write_bytes(header + bytes(12))
    with pytest.raises(DatasetError, match=r"a\.npy: "):
        open_array(path, 140, (2, 3), ("<u2",))


@pytest.mark.parametrize("size", [0, 1, 9, 100, 127, 128, 138, 139, 141, 200])
def test_array_file_of_another_size(tmp_path: Path, size: int) -> None:
    path = tmp_path / "a.npy"
    whole = _header("{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3), }") + bytes(100)
    path.write_bytes(whole[:size])
    with pytest.raises(DatasetError, match=r"a\.npy: "):
        open_array(path, 140, (2, 3), ("<u2",))
    with pytest.raises(DatasetError, match=r"a\.npy: "):  # nor if the manifest tells the same tale
        open_array(path, size, (2, 3), ("<u2",))
