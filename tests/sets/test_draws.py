"""Draws are uniform, and depend on nothing but the seed, the purpose and what is said."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sftprep.records.conversation import Conversation
from sftprep.sets.draws import draw


def talk(text: str) -> Conversation:
    return Conversation([{"role": "user", "content": text}], None, {}, None, place=(0, 1, 0))


def drawn(seed: int, purpose: str, count: int) -> np.ndarray:
    return np.array([draw(seed, purpose, talk(f"Question {number}")) for number in range(count)])


def test_draws_are_uniform_and_independent() -> None:
    count = 20_000
    of_one, of_other, for_else = drawn(0, "validation", count), drawn(1, "validation", count), drawn(0, "prompt", count)
    for each in (of_one, of_other, for_else):
        shares = np.histogram(each, 20, (0, 1))[0]
        assert shares.sum() == count
        assert (abs(shares - 1000) < 5 * np.sqrt(950)).all()  # five standard deviations
        assert all(abs((each < share).mean() - share) < 0.02 for share in (0.01, 0.1, 0.5, 0.99))
    assert abs(np.corrcoef([of_one, of_other, for_else])[np.triu_indices(3, 1)]).max() < 0.04


@given(st.text(max_size=20), st.integers(0, 2**70), st.text(max_size=9))
def test_a_draw_can_be_had_again(text: str, seed: int, purpose: str) -> None:
    first = draw(seed, purpose, talk(text))
    assert 0 <= first < 1
    elsewhere = replace(talk(text), place=(9, 9, 9), weights=(0.0,), plain_roles=("user",))
    assert draw(seed, purpose, elsewhere) == first
    assert draw(seed + 1, purpose, talk(text)) != first
    assert draw(seed, purpose + "x", talk(text)) != first


def test_how_it_is_made() -> None:
    """What is built today is drawn alike tomorrow."""
    content = blake2b(b'[[{"content":"Who?","role":"user"}],[],{}]', digest_size=16).digest()
    digest = blake2b(b"7 validation " + content, digest_size=8).digest()
    assert abs(draw(7, "validation", talk("Who?")) - int.from_bytes(digest, "big") / 2**64) < 1e-15
