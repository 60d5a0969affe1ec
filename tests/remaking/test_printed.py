"""Whose each character of an example is: the stretches of a message's turn, and of what it says."""

from __future__ import annotations

from pathlib import Path

import pytest
import template_zoo as zoo
from breeds import Breed
from made_rows import maker_with, record_of, resolved_of

from sftprep.remaking.printed import Printed, Stretch, print_example

EMPTY = "<think>\n\n</think>\n\n"
THINKING = [
    {"role": "user", "content": "First question"},
    {"role": "assistant", "content": "First answer", "reasoning_content": "First thought"},
    {"role": "user", "content": "Second question"},
    {"role": "assistant", "content": "Second answer", "reasoning_content": "Second thought"},
]


def printed(
    tmp_path: Path, messages: list[dict[str, str]], breed: Breed = zoo.QWEN_3, **options: object
) -> list[Printed]:
    maker = maker_with(resolved_of(breed, tmp_path), **options)
    _, examples = maker.examples(record_of({"messages": messages}), "train")
    return [print_example(maker, example) for example in examples]


def text_of(each: Printed, stretch: Stretch) -> str:
    return each.rendering.text[stretch.start : stretch.stop]


@pytest.mark.parametrize("contexts", ["whole", "served"])
def test_what_is_said_stands_where_it_is_said_to_stand(contexts: str, tmp_path: Path) -> None:
    for each in printed(tmp_path, THINKING, contexts=contexts):
        said = [(text_of(each, part).strip(), part.message, part.kind) for part in each.said]
        for text, message, kind in said:
            assert text in (THINKING[message]["content"], THINKING[message].get("reasoning_content"))
            assert kind == ("reasoning" if "thought" in text else THINKING[message]["role"])
        for turn in each.turns:
            role = THINKING[turn.message]["role"]
            assert (
                text_of(each, turn).startswith(f"<|im_start|>{role}\n")
                or turn.start in each.prompted
                or role == "assistant"
            )
        assert each.ids.size == each.starts.size == each.stops.size


def test_what_a_server_prints_when_it_asks_is_the_header_of_the_last_turn(tmp_path: Path) -> None:
    """DeepSeek R1's prompt begins the thinking that the past has lost."""
    first, second = printed(tmp_path, THINKING, zoo.DEEPSEEK_R1, contexts="served")
    for each in (first, second):
        assert each.rendering.text[each.prompted.start : each.prompted.stop] == "<｜Assistant｜><think>\n"
        assert each.turns[-1].start == each.prompted.stop
    assert text_of(second, second.turns[-1]).startswith("Second answer")


def test_what_is_left_out_moves_what_is_behind_it(tmp_path: Path) -> None:
    """Qwen 3 prints empty thinking before the last answer."""
    [whole] = printed(tmp_path, [*THINKING[2:3], {"role": "assistant", "content": "Second answer"}])
    [left] = printed(
        tmp_path, [*THINKING[2:3], {"role": "assistant", "content": "Second answer"}], drop_empty_think=1.0
    )
    assert EMPTY in whole.rendering.text
    assert EMPTY not in left.rendering.text
    for each in (whole, left):
        assert [text_of(each, part).strip() for part in each.said] == ["Second question", "Second answer"]
        assert text_of(each, each.turns[-1]).endswith("Second answer<|im_end|>\n")
