"""Chance that can be had again: what is drawn for a conversation depends on the seed and on what it says."""

from __future__ import annotations

from hashlib import blake2b

from sftprep.records.conversation import Conversation
from sftprep.sets.contents import content_key

_BITS = 53  # of a float's fraction


def draw(seed: int, purpose: str, conversation: Conversation) -> float:
    """A number in [0, 1), uniform over conversations; draws for different purposes or seeds are independent."""
    return draw_by_key(seed, purpose, content_key(conversation))


def draw_by_key(seed: int, purpose: str, key: bytes) -> float:
    """The same, by the `content_key` of the conversation, which takes longer to make than a draw."""
    digest = blake2b(f"{seed} {purpose} ".encode() + key, digest_size=8).digest()
    return (int.from_bytes(digest, "big") >> (64 - _BITS)) / (1 << _BITS)
