"""Tokens of a batch, flat, and the narrowest type that holds their ids."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.tokens.batch import dtype_for, join_rows

pytestmark = pytest.mark.usefixtures("cache")


@given(st.lists(st.lists(st.integers(0, 2**32 - 1), max_size=5)))
def test_rows_join_and_split(rows: list[list[int]]) -> None:
    batch = join_rows([np.array(row, np.uint32) for row in rows])
    assert (batch.ids.dtype, batch.offsets.dtype) == (np.uint32, np.int64)
    assert [batch.ids[a:b].tolist() for a, b in zip(batch.offsets, batch.offsets[1:], strict=False)] == rows


@pytest.mark.parametrize(
    ("size", "dtype"), [(0, np.uint16), (1, np.uint16), (65536, np.uint16), (65537, np.uint32), (2**32, np.uint32)]
)
def test_dtype_holds_the_largest_id(size: int, dtype: type) -> None:
    assert dtype_for(size) == dtype
    assert max(size - 1, 0) <= np.iinfo(dtype_for(size)).max
