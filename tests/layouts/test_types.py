"""Windows of a flat array against slices, one row at a time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.errors import DatasetError
from sftprep.layouts.types import check_fit, windows


def test_windows() -> None:
    flat = np.array([1, 2, 3, 4, 5], np.uint32)
    rows = windows(flat, np.array([0, 3, 5]), np.array([2, 2, 0]), 4, 9, np.dtype(np.uint16))
    assert rows.tolist() == [[1, 2, 9, 9], [4, 5, 9, 9], [9, 9, 9, 9]]
    assert rows.dtype == np.uint16


@given(st.data(), st.lists(st.integers(0, 9), max_size=12), st.integers(1, 6), st.sampled_from([np.bool_, np.uint16]))
def test_windows_are_slices_and_filling(data: st.DataObject, values: list[int], width: int, dtype: type) -> None:
    starts = data.draw(st.lists(st.integers(0, len(values)), max_size=5))
    lengths = [data.draw(st.integers(0, min(width, len(values) - start))) for start in starts]
    flat = np.array(values, dtype)
    rows = windows(flat, np.array(starts, np.int64), np.array(lengths, np.int64), width, 0, np.dtype(dtype))
    slices = [flat[start : start + length].tolist() for start, length in zip(starts, lengths, strict=True)]
    assert rows.tolist() == [kept + [0] * (width - len(kept)) for kept in slices]
    assert rows.shape == (len(starts), width)


def test_the_flat_array_is_not_written_to() -> None:
    flat = np.arange(1, 4, dtype=np.uint16)
    windows(flat, np.array([0]), np.array([1]), 3, 0, np.dtype(np.uint16))
    assert flat.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("ids", "pad", "fits"),
    [([65535], 0, True), ([65536], 0, False), ([], 65535, True), ([], 65536, False), ([0], -1, False)],
)
def test_what_a_dtype_holds(ids: list[int], pad: int, fits: bool) -> None:
    given_ids, dtype = np.array(ids, np.uint32), np.dtype(np.uint16)
    if fits:
        check_fit(given_ids, pad, dtype)
    else:
        with pytest.raises(DatasetError, match=f"pad id {pad}: uint16 holds 0 to 65535"):
            check_fit(given_ids, pad, dtype)
