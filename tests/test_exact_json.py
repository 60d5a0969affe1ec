"""Exact numbers, limits, and what Python writes that is no JSON."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from strategies import json_documents

from sftprep.errors import ConversationError
from sftprep.exact_json import MAX_DEPTH, decode_exactly, decode_json, decode_odd, has_huge_numbers, refuse_odd


def test_integers_of_any_size_stay_exact() -> None:
    text = '{"a": [18446744073709551616, -9223372036854775809, 1e30, 7]}'
    value = decode_json(text, "it")
    assert value == {"a": [18446744073709551616, -9223372036854775809, 1e30, 7]}
    assert type(value["a"][0]) is int


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def test_nesting_has_a_limit() -> None:
    assert not has_huge_numbers(nested(MAX_DEPTH))
    for look in (has_huge_numbers, lambda value: refuse_odd(value, "it")):
        with pytest.raises(ConversationError, match="nested deeper than 100 levels"):
            look(nested(MAX_DEPTH + 1))
    for depth in (MAX_DEPTH + 2, 100_000):
        with pytest.raises(ConversationError, match="nested deeper than 100 levels"):
            decode_exactly("[" * depth + "]" * depth)


def refused(data: bytes) -> orjson.JSONDecodeError:
    with pytest.raises(orjson.JSONDecodeError) as caught:
        orjson.loads(data)
    return caught.value


@pytest.mark.parametrize("odd", ["NaN", "-Infinity", "1e999", "9" * 5000, '"\\ud800"', '{"\\udfff": 1}'])
def test_what_is_no_json_is_read_and_told(odd: str) -> None:
    data = f'["\u00e9", {odd}]'.encode()
    value = decode_odd(data, refused(data))
    assert value[0] == "\u00e9"
    with pytest.raises(ConversationError, match=r"^it holds (NaN, Infinity or|a lone surrogate)"):
        refuse_odd(value, "it")
    with pytest.raises(ConversationError, match=r"^it is not JSON: .* at byte "):
        decode_json(data.decode(), "it")


@pytest.mark.parametrize(
    ("data", "byte"), [(b"[1,]", 2), ('{"\u00e9\U0001f44d": x}'.encode(), 11), (b"", 0), (b"[NaN] x", 1)]
)
def test_places_are_in_bytes(data: bytes, byte: int) -> None:
    with pytest.raises(ConversationError, match=rf"^not JSON: .* at byte {byte} of the record$"):
        decode_odd(data, refused(data))


@given(json_documents())
def test_python_and_orjson_agree_on_json(value: Any) -> None:
    text = json.dumps(value)
    assert decode_json(text, "it") == decode_exactly(text) == value
    refuse_odd(value, "it")


def test_an_integer_that_takes_long_to_convert_is_too_large() -> None:
    assert decode_exactly("[" + "9" * 5000 + "]") == [math.inf]
    assert decode_exactly("9" * 4300) == int("9" * 4300)
