"""Stand-ins answer as the values they stand for, and give nothing away that is not written down."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import json_values

from sftprep.tracing.stand_ins import Traced, concatenate, is_plain, lift, stand_in, trace
from sftprep.tracing.steps import Forms, Recording, Steps, Untraceable


def recorded(*values: Any) -> tuple[Recording, list[Any]]:
    """A recording with a stand-in for each value."""
    names = [f"input{number}" for number in range(len(values))]
    recording = Recording(Steps(Forms({})), dict(zip(names, values, strict=True)))
    return recording, [stand_in(recording, recording.input(name)) for name in names]


def told(answer: Any) -> Any:
    """The answer's value in the conversation that was recorded."""
    return answer.value if isinstance(answer, Traced) else answer


TEXT: list[Callable[[Any, Any], Any]] = [
    operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge, operator.add, operator.contains,
    lambda one, other: one == "a", lambda one, other: "a" in one, lambda one, other: "x" + one + other,
    lambda one, other: one[1:], lambda one, other: one[:-1], lambda one, other: one[::-1], lambda one, other: len(one),
    lambda one, other: bool(one), lambda one, other: one == 1, lambda one, other: one != None,  # noqa: E711
]  # fmt: skip


@pytest.mark.parametrize("ask", TEXT)
@given(one=st.text("ab<", max_size=4), other=st.text("ab", max_size=2))
def test_texts(ask: Callable[[Any, Any], Any], one: str, other: str) -> None:
    _, (first, second) = recorded(one, other)
    assert told(ask(first, second)) == ask(one, other)


NUMBERS: list[Callable[[Any], Any]] = [
    lambda n: n == 2, lambda n: n < 2, lambda n: n <= 2, lambda n: n > 2, lambda n: n >= 2, lambda n: -n, lambda n: +n,
    lambda n: bool(n), lambda n: {2: "x"}.get(n), lambda n: n in (1, True),
]  # fmt: skip


@pytest.mark.parametrize("ask", NUMBERS)
@given(number=st.integers(-3, 3) | st.booleans() | st.sampled_from([0.5, 2.0]))
def test_numbers(ask: Callable[[Any], Any], number: float) -> None:
    recording, (stand,) = recorded(number)
    assert ask(stand) == ask(number)
    assert recording.observed


def plain(stand: Any) -> Any:
    """A value read out of its stand-in by iterating and indexing, as a template does it."""
    if not isinstance(stand, Traced):
        return stand
    if stand.__class__ is dict:
        return {told(key): plain(stand[key]) for key in stand}
    return [plain(item) for item in stand] if stand.__class__ is list else stand.value


@given(json_values())
def test_lists_and_dictionaries_are_walked(value: Any) -> None:
    recording, _ = recorded(value)
    assert plain(trace(recording, recording.input("input0"))) == value


def test_items_of_a_dictionary() -> None:
    _, (stand,) = recorded({"a": 1, "b": [2]})
    assert [told(key) for key in stand.keys()] == ["a", "b"]  # noqa: SIM118 - what is tested
    assert [plain(value) for value in stand.values()] == [1, [2]]
    assert [(told(key), plain(value)) for key, value in stand.items()] == [("a", 1), ("b", [2])]
    assert (len(stand.items()), bool(stand.keys()), "a" in stand, "c" in stand) == (2, True, True, False)
    with pytest.raises(KeyError):
        stand["c"]


LEAKS: list[Callable[[Any], Any]] = [
    str, repr, format, hash, list, iter, dir, "{}".format, "%s".__mod__, lambda t: t["x"], lambda t: t[9], lambda t: t.upper,
    lambda t: t < 1, lambda t: 1 + t, lambda t: t + 1, lambda t: {t: 1}, lambda t: 1 in t, lambda t: t.strip(),
    lambda t: "".join([t]), lambda t: "abc".find(t), lambda t: int(t),
]  # fmt: skip


@pytest.mark.parametrize("leak", LEAKS)
def test_no_text_gets_out(leak: Callable[[Any], Any]) -> None:
    _, (stand,) = recorded("ab")
    with pytest.raises((Untraceable, TypeError)):
        leak(stand)


def test_the_type_is_told_and_observed() -> None:
    recording, (stand,) = recorded("ab")
    assert stand.__class__ is str
    assert recording.observed == {}
    assert trace(recording, stand.step).__class__ is str
    assert [*recording.observed.values()] == [str]


@given(st.lists(st.text("ab", max_size=2), max_size=5), st.data())
def test_pieces_end_to_end(pieces: list[str], data: st.DataObject) -> None:
    recording, stands = recorded(*pieces)
    mixed = [stand if data.draw(st.booleans()) else piece for stand, piece in zip(stands, pieces, strict=True)]
    assert concatenate(recording, mixed).value == "".join(pieces)


def test_containers_of_stand_ins_are_steps() -> None:
    recording, (one, two) = recorded("a", 2)
    step = lift(recording, {"x": [one, (two, None)], "y": {}})
    assert recording.values[step] == {"x": ["a", (2, None)], "y": {}}
    assert (is_plain({"x": ["a", (2, None)]}), is_plain({"x": [one]})) == (True, False)
    for odd in ({1: "a"}, {"a"}, object()):
        with pytest.raises(Untraceable):
            lift(recording, odd)
