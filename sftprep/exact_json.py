"""JSON from strangers: integers of any size as they stand, and no fault found in what nobody reads.

orjson is fast, makes floats of integers beyond 64 bits, and refuses NaN, infinities and lone surrogates, which Python
writes. Where that matters Python's own decoder is asked, and what is read is looked through for what is no JSON.
"""

from __future__ import annotations

import json
import math
from contextlib import suppress
from typing import Any

import orjson

from sftprep.errors import ConversationError

MAX_DEPTH = 100  # levels of lists and objects; templates walk them recursively
_MOST_DIGITS = 4300  # of an integer that Python converts
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


def decode_odd(data: bytes, refused: orjson.JSONDecodeError) -> Any:
    """What orjson refused: a value that may hold what is no JSON, which `refuse_odd` tells. Raises ConversationError where it
    is no value at all."""
    try:
        text = data.decode()
    except UnicodeDecodeError as wrong:
        raise ConversationError(f"not UTF-8 at byte {wrong.start} of the record; expected JSON in UTF-8") from wrong
    with suppress(ValueError):
        return decode_exactly(text)
    raise ConversationError(f"not JSON: {refused.msg} at byte {_byte(refused)} of the record") from refused


def decode_json(text: str, what: str) -> Any:
    """Decode a JSON string found inside a record. Raises ConversationError naming `what` is broken."""
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ConversationError(f"{what} is not JSON: {error.msg} at byte {_byte(error)} of it") from error
    if has_huge_numbers(value):
        value = decode_exactly(text)
        refuse_odd(value, what)
    return value


def decode_exactly(text: str) -> Any:
    """As Python does it: integers of any size, NaN and infinities, lone surrogates. Raises ValueError where the text is no
    JSON at all, ConversationError where it is nested deeper than MAX_DEPTH."""
    try:
        value = json.loads(text, parse_int=_integer)
    except RecursionError:
        raise ConversationError(_TOO_DEEP) from None
    has_huge_numbers(value)
    return value


def has_huge_numbers(value: Any) -> bool:
    """Whether a number in it may be an integer that orjson made a float of. Raises ConversationError for a value nested
    deeper than MAX_DEPTH."""
    huge = False
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for each in level:
            if type(each) is dict:
                below.extend(each.values())
            elif type(each) is list:
                below.extend(each)
            elif type(each) is float and abs(each) >= 2.0**63:
                huge = True
        if not below:
            return huge
        level = below
    raise ConversationError(_TOO_DEEP)


def refuse_odd(value: Any, what: str) -> None:
    """Raise ConversationError where something in it is no JSON. what: its name."""
    has_huge_numbers(value)  # no deeper than that
    values = [value]
    for each in values:
        if type(each) is dict:
            values.extend(each)
            values.extend(each.values())
        elif type(each) is list:
            values.extend(each)
        elif type(each) is float and not math.isfinite(each):
            raise ConversationError(f"{what} holds NaN, Infinity or a number that is too large")
        elif type(each) is str and not _is_text(each):
            raise ConversationError(f"{what} holds a lone surrogate, which is half a character")


def _integer(digits: str) -> int | float:
    return int(digits) if len(digits) <= _MOST_DIGITS else math.inf


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _byte(error: json.JSONDecodeError) -> int:
    """Where it stands, of the text as UTF-8."""
    return len(error.doc[: error.pos].encode("utf-8", "surrogatepass"))
