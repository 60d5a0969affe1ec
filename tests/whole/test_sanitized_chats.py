"""Text that spells control tokens becomes what Transformers makes of it with `sanitize_control_tokens`.

Where the ids differ the difference is of a kind that is judged in peer_differences.toml.
"""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from conftest import FULL, shared_data_folder
from hypothesis import given, settings
from hypothesis import strategies as st
from sanitized_chats import Sanitizers, spelled, spellings
from small_builds import TOKENIZER
from strategies import chats, tool_chats

JUDGED = tomllib.loads(Path(__file__).with_name("peer_differences.toml").read_text(encoding="utf-8"))["sanitized"]
NAMES = {each["name"] for each in JUDGED}
APART = "what stands around a spelled token is encoded apart from it"
STAY = "added tokens that are not special stay tokens"
TOKENIZERS = ("sample", "qwen3", "llama3_1", "deepseek_v3", "minimind-3")
TOKENS = 1000 if FULL else 5  # tried of a tokenizer
JOINS = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.name }}{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
JOINED = {"messages": [{"role": "user", "name": "<|im_", "content": "end|>"}, {"role": "assistant", "content": "Hi"}]}


@cache
def opened(name: str) -> Sanitizers:
    folder = shared_data_folder()
    if name != "sample" and folder is None:
        pytest.skip("needs the shared data folder (set SFTPREP_DATA)")
    return Sanitizers(TOKENIZER if folder is None or name == "sample" else folder / "tokenizers" / name)


def tokens_of(sanitizers: Sanitizers) -> list[str]:
    """Control tokens to try: those of the template, then others."""
    by_use = sorted(sanitizers.controls, key=lambda token: (token not in sanitizers.template, token))
    return [*by_use[: TOKENS - 1], *by_use[TOKENS - 1 :][-1:]]


def differences(sanitizers: Sanitizers, records: list[dict[str, Any]]) -> dict[str | None, list[str]]:
    """What the differences are, and the texts."""
    found: dict[str | None, list[str]] = {}
    for record, ours in zip(records, sanitizers.ours(records), strict=True):
        theirs = sanitizers.theirs(record)
        if ours is not None and theirs is not None:
            texts = "\n  ".join(["", *map(repr, map(sanitizers.tokenizer.decode, (ours, theirs)))])
            found.setdefault(sanitizers.difference(ours, theirs, record), []).append(texts)
    return found


@pytest.mark.parametrize("name", TOKENIZERS)
def test_every_difference_from_transformers_is_judged(name: str) -> None:
    sanitizers = opened(name)
    records = [record for token in tokens_of(sanitizers) for record in spelled(token)]
    found = differences(sanitizers, records)
    assert sum(map(len, found.values())) > 0.9 * len(records)  # both take nearly all
    assert found[None]
    assert found[APART]
    new = {each: texts for each, texts in found.items() if each is not None and each not in NAMES}
    assert new == {}


@pytest.mark.parametrize("name", TOKENIZERS)
def test_control_tokens_are_those_of_transformers_or_judged(name: str) -> None:
    sanitizers = opened(name)
    special = {token.content for token in sanitizers.tokenizer.added_tokens_decoder.values() if token.special}
    assert special <= sanitizers.controls
    assert STAY in NAMES
    assert sanitizers.more_of_theirs.isdisjoint(special)


def test_every_judged_difference_occurs() -> None:
    sanitizers = opened("sample")
    found = set(differences(sanitizers, list(spelled("<|im_end|>"))))
    found |= set(differences(Sanitizers(TOKENIZER, JOINS), [JOINED]))
    assert found - {None} | {STAY} == NAMES
    assert "<think>" in sanitizers.more_of_theirs
    assert all(each["reason"] and each["right"] in ("Transformers", "sftprep") for each in JUDGED)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_a_token_spelled_across_parts_is_what_it_is_in_one(name: str) -> None:
    sanitizers = opened(name)
    for token in tokens_of(sanitizers):
        cut = len(token) // 2
        texts = (f"Go{token[:cut]}", f"{token[cut:]} on", token)
        parts, whole = (
            {"messages": [{"role": role, "content": content} for role in ("user", "assistant")]}
            for content in ([{"type": "text", "text": text} for text in texts], "".join(texts))
        )
        ((ours,), theirs) = sanitizers.ours([parts]), sanitizers.theirs(whole)
        assert ours is not None
        assert theirs is not None
        assert sanitizers.difference(ours, theirs, whole) in (None, APART)


@pytest.mark.parametrize("name", TOKENIZERS)
@settings(max_examples=1000 if FULL else 25)
@given(data=st.data())
def test_any_chat_that_spells_tokens_is_what_transformers_makes_of_it(name: str, data: st.DataObject) -> None:
    sanitizers = opened(name)
    pieces = [piece for token in tokens_of(sanitizers)[:3] for piece in spellings(token)]
    words = st.sampled_from([*pieces, "Hi.", " ", "\n", "答案", "</think>"]) | st.text(
        st.characters(exclude_categories=("Cs", "Co", "Cn")), max_size=6
    )
    texts = st.lists(words, max_size=4).map("".join)
    messages = data.draw(chats(texts) | tool_chats(texts))
    assert set(differences(sanitizers, [{"messages": messages}])) <= {None, APART}
