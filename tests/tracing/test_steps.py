"""Steps, each known once."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.tracing.steps import MAX_REPEATS, Forms, Recording, Steps, Untraceable, growth, origins_of


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


def test_steps_know_what_they_are_made_of() -> None:
    steps = Steps(Forms({}))
    tools, zero = steps.input("tools"), steps.constant(0)
    first, second = (steps.part("{0}[{1}]", (steps.input("messages"), steps.constant(n))) for n in (0, 1))
    content, name = (
        steps.part("{0}[{1}]", (message, steps.constant(key)))
        for message, key in ((first, "content"), (second, "name"))
    )
    part = steps.part("{0}[{1}]", (content, zero))
    both = steps.step("{0} + {1}", (part, name))
    assert [steps.sources[step] for step in (content, part, both, tools)] == [
        {content},
        {content},
        {content, name},
        {tools},
    ]
    assert [steps.owners(step) for step in (content, part, both, tools)] == [{0}, {0}, {0, 1}, set()]
    assert [steps.key_of(step) for step in (content, name)] == [(0, "content"), (1, "name")]
    assert [steps.key_of(step) for step in (first, part, both, tools, zero)] == [None] * 5
    assert steps.sources[zero] == steps.sources[steps.part("{0}[{1}]", (steps.input("template_kwargs"), zero))] == set()


def test_what_steps_are_cut_out_of() -> None:
    steps = Steps(Forms({}))
    message = steps.part("{0}[{1}]", (steps.input("messages"), steps.constant(3)))
    content, calls = (steps.part("{0}[{1}]", (message, steps.constant(key))) for key in ("content", "tool_calls"))
    call = steps.part("{0}[{1}]", (calls, steps.constant(1)))
    name = steps.part("{0}[{1}]", (call, steps.constant("name")))
    trimmed = steps.step("{0}.strip()", (content,))
    dotless = steps.step("{0}.strip({1})", (content, steps.constant(".")))
    shown = steps.step("to_json({0})", (call,))
    sliced = steps.part("{0}[{1}:{2}:{3}]", (calls, *map(steps.constant, (1, None, None))))
    later = steps.part("{0}[{1}]", (sliced, steps.constant(0)))
    both = steps.step("''.join(({0}, {1}, ))", (trimmed, name))

    def found(step: int) -> list[tuple[Any, ...]]:
        return [(each.step, each.of_what, each.item, each.whole) for each in origins_of(steps, step)]

    assert found(content) == [(content, (3, "content"), None, content)]
    assert found(trimmed) == [(trimmed, (3, "content"), None, content)]
    assert found(dotless) == [(dotless, (3, "content"), None, dotless)]
    assert found(name) == [(name, (3, "tool_calls"), call, name)]
    assert found(shown) == [(call, (3, "tool_calls"), call, call)]
    assert found(later) == [(later, (3, "tool_calls"), None, later)]
    assert found(both) == found(trimmed) + found(name)
    assert found(steps.step("{0}[{1}]", (shown, steps.constant(0)))) == []
    assert found(steps.constant("a")) == found(steps.input("template_kwargs")) == []


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
