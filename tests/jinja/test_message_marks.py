"""Whose each character is, by what was written down, against a walk that knows."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from strategies import Loop, loops

from sftprep.jinja.message_marks import Mark, Region, RunLog, marked_text, regions_of

MESSAGES: list[dict[str, Any]] = [{} for _ in range(12)]


def written(parts: list[str | Loop], *, held_back: bool) -> tuple[RunLog, str, list[int | None]]:
    """A run that prints these parts; its text without marks, and whose each character is."""
    log, owners, text = RunLog(MESSAGES, textual=True), [], []

    def walk(parts: list[str | Loop], at: int | None) -> None:
        for part in parts:
            if isinstance(part, str):
                log.pieces.append(part)
                text.append(part)
                owners.extend([at] * len(part))
                continue
            log.begin()
            for message, inside in part:
                value = object() if message is None else MESSAGES[message]
                if held_back:
                    log.pieces.append(log.enter_text(value))
                else:
                    log.enter(value)
                walk(inside, at if message is None else message)
            if held_back:
                log.pieces.append(log.end_text())
            else:
                log.end()

    walk(parts, None)
    return log, "".join(text), owners


@pytest.mark.parametrize("held_back", [False, True])
@given(parts=loops())
def test_marks_say_whose_each_character_is(held_back: bool, parts: list[str | Loop]) -> None:
    log, text, owners = written(parts, held_back=held_back)
    found, marks, _ = marked_text(log)
    assert found == text
    told: list[int | None] = [None] * len(text)
    for before, mark in zip([Mark(-1, 0, 0), *marks], marks, strict=False):
        assert before.stop <= mark.start < mark.stop
        assert (before.message, before.stop) != (mark.message, mark.start)  # one stretch, one mark
        told[mark.start : mark.stop] = [mark.message] * (mark.stop - mark.start)
    assert told == owners


def test_a_message_inside_another_takes_its_part_out() -> None:
    log, text, _ = written(["<s>", [(0, ["a", [(1, ["b"])], "c"]), (2, [""])], "!"], held_back=False)
    assert text == "<s>abc!"
    assert marked_text(log) == (text, [Mark(0, 3, 4), Mark(1, 4, 5), Mark(0, 5, 6)], 6)


def test_a_value_that_is_equal_to_a_message_is_none() -> None:
    log = RunLog(MESSAGES, textual=True)
    log.begin()
    log.enter({})
    log.pieces.append("a")
    log.end()
    assert marked_text(log) == ("a", [], None)


def test_where_the_messages_end_may_be_known() -> None:
    log, _, _ = written([[(0, ["a"])], "b"], held_back=False)
    log.over = 0
    assert marked_text(log)[2] == 0


def test_marks_that_do_not_nest() -> None:
    log, _, _ = written([[(0, ["a"])]], held_back=True)
    log.pieces.append(log.pieces[-1])  # a text with a mark in it, printed twice
    with pytest.raises(IndexError):
        marked_text(log)


def test_regions_end_with_the_loop_around_them() -> None:
    log = RunLog(MESSAGES, textual=True)
    log.begin()
    log.enter(MESSAGES[0])
    log.branch(1, 7)
    log.pieces.append("ab")
    log.branch(2, 8)  # left by `continue`
    log.pieces.append("c")
    log.enter(MESSAGES[1])
    log.branch(1, 7)
    log.leave_branch(1)  # printed nothing
    log.end()
    assert regions_of(log) == [Region(2, 8, 2, 3), Region(1, 7, 0, 3)]
