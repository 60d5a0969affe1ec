"""Methods of stand-ins give what Python's own give, or end the recording."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.tracing.stand_in_methods import DICT_METHODS, TEXT_METHODS, Method, call_text, join
from sftprep.tracing.stand_ins import TracedText, stand_in
from sftprep.tracing.steps import MAX_REPEATS, Forms, Recording, Steps, Untraceable

_GIVEN: dict[str, list[tuple[Any, ...]]] = {
    "strip lstrip rstrip": [(), ("a",), (None,)],
    "removeprefix removesuffix startswith endswith": [("a",), ("",)],
    "split rsplit": [(), ("a",), ("a", 1)],
    "partition rpartition": [("a",)],
    "splitlines": [(), (True,)],
    "find rfind index rindex count": [("a",), ("a", 1)],
    "replace": [("a", "bb"), ("a", "", 1)],
    "join": [(["x", "y", "z"],), ([],)],
}
ARGUMENTS = {name: arguments for names, arguments in _GIVEN.items() for name in names.split()}


def recorded(value: Any) -> tuple[Recording, Any]:
    recording = Recording(Steps(Forms({})), {"given": value})
    return recording, stand_in(recording, recording.input("given"))


@pytest.mark.parametrize("name", sorted(TEXT_METHODS))
@given(text=st.text("aB1 \n", max_size=6), which=st.integers(0, 2))
def test_text_methods_give_what_strings_do(name: str, text: str, which: int) -> None:
    choices = ARGUMENTS.get(name, [()])
    arguments = choices[which % len(choices)]
    _, stand = recorded(text)
    try:
        expected = getattr(text, name)(*arguments)
    except ValueError:  # of `index`: what fails is not replayed
        with pytest.raises(Untraceable):
            call_text(stand, name, arguments, {})
        return
    found = call_text(stand, name, arguments, {})
    assert getattr(found, "value", found) == expected


@pytest.mark.parametrize("name", ["encode", "format", "center", "translate", "zfill", "__class__"])
def test_other_methods_end_the_recording(name: str) -> None:
    with pytest.raises(Untraceable):
        call_text(recorded("a")[1], name, (), {})


@pytest.mark.parametrize(
    ("name", "arguments", "keywords"),
    [
        ("split", (), {"sep=globals()": "a"}),
        ("join", (), {}),
        ("replace", ("a",), {}),
        ("replace", ("a", 1), {}),
        ("strip", (1,), {}),
    ],
)
def test_odd_arguments_end_the_recording(name: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
    with pytest.raises(Untraceable):
        call_text(recorded("ab")[1], name, arguments, keywords)


def test_keywords() -> None:
    assert call_text(recorded("b,a,c")[1], "split", (), {"sep": ",", "maxsplit": 1}).value == ["b", "a,c"]


def test_a_text_that_would_multiply_ends_the_recording() -> None:
    text = recorded("a")[1]
    assert call_text(text, "replace", ("a", "b" * MAX_REPEATS), {}).value == "b" * MAX_REPEATS
    with pytest.raises(Untraceable):
        call_text(text, "replace", ("a", "b" * (MAX_REPEATS + 1)), {})


@pytest.mark.parametrize("name", sorted(DICT_METHODS))
def test_dictionary_methods_give_what_dictionaries_do(name: str) -> None:
    value = {"a": "x", "b": "y"}
    arguments: list[Any] = [("a",), ("c",), ("c", "d")] if name == "get" else [()]
    for given_arguments in arguments:
        found = Method(recorded(value)[1], name).call(given_arguments, {})
        expected = getattr(value, name)(*given_arguments)
        if name == "get":
            assert getattr(found, "value", found) == expected
        else:
            items = [tuple(map(text_in, item)) if isinstance(item, tuple) else text_in(item) for item in found]
            assert items == list(expected)
    for odd in [((), {"default": 1}), (("a", "b", "c"), {})]:
        with pytest.raises(Untraceable):
            Method(recorded(value)[1], name).call(*odd)


def text_in(stand: TracedText) -> str:
    text: str = stand.value
    return text


def test_join_puts_the_separator_between() -> None:
    recording, stand = recorded("-")
    assert join(recording, stand, ["a", stand, "b"]).value == "a---b"
    with pytest.raises(Untraceable):
        join(recording, stand, ["a", 1])
