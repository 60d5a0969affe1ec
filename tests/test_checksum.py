"""JSON that was changed says so."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.checksum import with_checksum, without_checksum

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
OBJECTS = st.dictionaries(st.text(max_size=4).filter(lambda key: key != "checksum"), VALUES, max_size=4)


@given(OBJECTS, st.sampled_from([None, 1]))
def test_what_was_written_is_read(stated: dict[str, Any], indent: int | None) -> None:
    data = json.dumps(with_checksum(stated), indent=indent).encode()
    assert without_checksum(data) == stated


@given(OBJECTS, st.data())
def test_a_changed_byte_is_seen_or_changes_nothing(stated: dict[str, Any], data: st.DataObject) -> None:
    whole = bytearray(json.dumps(with_checksum(stated)).encode())
    place = data.draw(st.integers(0, len(whole) - 1))
    whole[place] ^= 1 << data.draw(st.integers(0, 7))
    with suppress(ValueError):  # this, too, is an answer
        assert without_checksum(bytes(whole)) == stated


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b"{}", b'{"checksum": null}', b'{"checksum": NaN}', b"\xff"])
def test_other_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError):
        without_checksum(data)
