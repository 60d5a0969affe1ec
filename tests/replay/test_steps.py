"""Steps, each known once."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.replay.steps import MAX_REPEATS, Forms, Recording, Steps, Untraceable, growth


def test_constants_are_told_apart_by_type() -> None:
    steps = Steps(Forms({}))

    assert len({steps.constant(value) for value in (1, 1.0, True, "1", None, "None", 0, -0.0, 0.0)}) == 9


def test_the_same_step_is_kept_once() -> None:
    steps = Steps(Forms({}))
    text = steps.input("text")
    assert steps.input("text") == text
    trimmed = steps.step("{0}.strip()", (text,))
    assert steps.step("{0}.strip()", (text,)) == trimmed
    assert steps.step("{0}.lstrip()", (text,)) != trimmed
    assert [steps.forms[step] for step in (text, trimmed)] == ["text", "{0}.strip()"]


def test_messages_own_what_is_made_of_them() -> None:
    steps = Steps(Forms({}))
    first, second = (steps.part("{0}[{1}]", (steps.input("messages"), steps.constant(n))) for n in (0, 1))
    both = steps.step("{0} + {1}", (steps.part("{0}['content']", (first,)), second))
    assert [steps.owners[step] for step in (first, second, both)] == [{0}, {1}, {0, 1}]
    assert steps.owners[steps.constant("a")] == frozenset()


def test_what_would_multiply_an_input_ends_the_recording() -> None:
    steps = Steps(Forms({}))
    step = steps.input("text")
    for _ in range(int(math.log2(MAX_REPEATS))):
        step = steps.step("{0} + {1}", (step, step))
    assert steps.weights[step] == {steps.input("text"): MAX_REPEATS}
    with pytest.raises(Untraceable):
        steps.step("{0} + {1}", (step, step))


def test_a_recording_works_steps_out_and_keeps_what_was_observed() -> None:
    recording = Recording(Steps(Forms({"double": lambda text: text * 2})), {"text": "ab"})
    doubled = recording.step("double({0})", recording.input("text"))
    length = recording.step("len({0})", doubled)
    assert (recording.values[doubled], recording.observed) == ("abab", {})
    assert recording.observe(length) == 4
    assert recording.observed == {length: 4}
    with pytest.raises(Untraceable):
        recording.step("{0}.index({1})", doubled, recording.constant("x"))


@given(st.text("ab", min_size=1, max_size=9), st.text("ab", min_size=1, max_size=3), st.text("abc", max_size=5))
def test_growth_bounds_what_a_replacement_makes(text: str, old: str, new: str) -> None:
    assert len(text.replace(old, new)) <= growth(old, new) * len(text)
