"""Numbers are read as they were written, and whatever else is in their place is nothing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.sets.number_files import publish_numbers, read_numbers

FINGERPRINT = "ab" * 32


@given(st.lists(st.tuples(*[st.integers(-(2**63), 2**63 - 1)] * 3), max_size=5))
def test_read_as_written(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, int, int]]) -> None:
    path = tmp_path_factory.mktemp("numbers") / "00000.repeats"
    publish_numbers(path, FINGERPRINT, np.array(rows, np.int64).reshape(-1, 3))
    for trusted in (False, True):
        found = read_numbers(path, FINGERPRINT, 3, trusted=trusted)
        assert found is not None
        assert list(map(tuple, found.tolist())) == rows


def test_what_is_damaged_or_of_another_plan_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "00000.contents"
    assert read_numbers(path, FINGERPRINT, 2) is None
    publish_numbers(path, FINGERPRINT, np.arange(8).reshape(4, 2))
    data = path.read_bytes()
    assert read_numbers(path, "cd" * 32, 2) is None
    assert read_numbers(path, FINGERPRINT, 3) is None
    for damaged in (b"", data[:-1], data[:-8], data[:-16], data[:20], data[:40] + b"x" + data[41:], data + b"\0" * 16):
        path.write_bytes(damaged)
        assert read_numbers(path, FINGERPRINT, 2) is None
    path.write_bytes(data)
    (tmp_path / "link").symlink_to(path)
    assert read_numbers(tmp_path / "link", FINGERPRINT, 2) is None
    assert read_numbers(path, FINGERPRINT, 2) is not None
