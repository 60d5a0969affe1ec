"""What a conversation says, as a key of 16 bytes: the same wherever it stands, and in whatever form it was written.

What it says are its messages, tools and template variables, as they were read: not its line, its file or its form, nor the
order of keys in an object. Two conversations that say something else have the same key once in 2**64 conversations.
"""

from __future__ import annotations

import json
from hashlib import blake2b
from typing import Any

import orjson

from sftprep.records.conversation import Conversation

KEY_BYTES = 16


def content_key(conversation: Conversation) -> bytes:
    """Of all that it says."""
    return _key(_said(conversation))


def training_key(conversation: Conversation) -> bytes:
    """Of all that it says and the loss weights that it gives: who has the same trains the same."""
    return _key([_said(conversation), conversation.weights or []])


def near_key(conversation: Conversation) -> bytes:
    """Of all that it says but for white space and case: each run of white space is a blank, at the ends of a text nothing."""
    return _key(_folded(_said(conversation)))


def _said(conversation: Conversation) -> list[Any]:
    return [conversation.messages, conversation.tools or [], conversation.template_kwargs]


def _key(value: Any) -> bytes:
    return blake2b(_canonical(value), digest_size=KEY_BYTES).digest()


def _canonical(value: Any) -> bytes:
    """The one JSON text of a value. orjson writes no integers above 64 bits, and null for a number that is infinite."""
    try:
        text = orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        if b"null" not in text:
            return text
    except orjson.JSONEncodeError:
        pass
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def _folded(value: Any) -> Any:
    if type(value) is str:
        return " ".join(value.split()).casefold()
    if type(value) is list:
        return [_folded(each) for each in value]
    if type(value) is dict:
        return {key: _folded(each) for key, each in value.items()}
    return value
