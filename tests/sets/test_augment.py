"""Which conversations are varied, and how."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sftprep.records.conversation import Conversation
from sftprep.sets.augment import EMPTY_THINK, Augmentation

TALK = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yo"}]


def talk(number: int, *before: dict[str, str]) -> Conversation:
    messages = [*before, {"role": "user", "content": str(number)}, TALK[1]]
    roles = tuple(message["role"] for message in messages)
    return Conversation(messages, None, {}, (0.5, *[None] * (len(messages) - 1)), plain_roles=roles)


def test_nothing_is_varied_unless_it_is_asked_for() -> None:
    assert not Augmentation(seed=3)
    assert Augmentation(system_prompts=("S",), system_prompt_ratio=0.1)
    assert Augmentation(drop_empty_think=0.1)


def test_a_system_prompt_comes_first_with_what_belongs_to_it() -> None:
    varied = Augmentation(system_prompts=("S",), system_prompt_ratio=1.0).of(talk(1))
    assert [message["role"] for message in varied.messages] == ["system", "user", "assistant"]
    assert varied.plain_roles == ("system", "user", "assistant")
    assert varied.weights == (None, 0.5, None)
    for role in ("system", "developer"):
        own = talk(1, {"role": role, "content": "mine"})
        assert Augmentation(system_prompts=("S",), system_prompt_ratio=1.0).of(own) == own


@given(st.integers(0, 2**31))
def test_shares_are_about_what_was_asked_for_and_draws_are_independent(seed: int) -> None:
    augmentation = Augmentation(seed, ("A", "B"), 0.3, 0.6)
    varied = [augmentation.of(talk(number)) for number in range(400)]
    added = [len(each.messages) == 3 for each in varied]
    dropped = [each.left_out == EMPTY_THINK for each in varied]
    both = sum(map(min, added, dropped))
    chosen = sum(each.messages[0]["content"] == "A" for each in varied)
    # seven standard deviations: once in 10**11
    assert abs(sum(added) - 120) < 65
    assert abs(sum(dropped) - 240) < 69
    assert abs(both - 72) < 54
    assert abs(chosen - 60) < 50
