"""Contexts of turns beside renderings of every prefix, and the fewest examples beside all choices of prefixes."""

from __future__ import annotations

from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pytest
import template_zoo as zoo
from breeds import Breed
from hypothesis import given, settings
from hypothesis import strategies as st
from small_tokenizer import resolve, special, train

from sftprep.batches.contexts import Contexts
from sftprep.batches.exact_way import weights_of
from sftprep.batches.templates import Templates
from sftprep.config import BuildConfig
from sftprep.errors import ConversationError
from sftprep.records.conversation import Conversation

IM_END = "<|im_end|>"
Messages = list[dict[str, Any]]


def opened(breed: Breed, folder: Any) -> Templates:
    added = [*special(*breed.controls), *special(*breed.plain)]
    tokenizer = resolve(train(added=added), folder)
    templates = {"default": breed.source}
    return Templates(CONFIG, replace(tokenizer, chat_templates=templates, special_tokens=breed.special))


CONFIG = BuildConfig(("unused",), "tokenizer")


@pytest.fixture(scope="module")
def qwen(tmp_path_factory: pytest.TempPathFactory) -> Templates:
    return opened(zoo.QWEN_3, tmp_path_factory.mktemp("qwen"))


@st.composite
def rounds(draw: st.DrawFn) -> Messages:
    """Questions, each with an answer, some with calls before it, and with or without reasoning."""
    messages: Messages = []
    for number in range(draw(st.integers(1, 4))):
        messages.append({"role": "user", "content": f"Question {number}?"})
        for call in range(draw(st.integers(0, 2))):
            calls = [{"function": {"name": "look", "arguments": {"at": call}}}]
            messages.append({"role": "assistant", "content": "", "tool_calls": calls, **draw(thoughts)})
            messages.append({"role": "tool", "content": f"Found {call}."})
        messages.append({"role": "assistant", "content": f"Answer {number}.", **draw(thoughts)})
    if draw(st.booleans()):
        messages.append({"role": "user", "content": "Thank you."})
    return messages


thoughts = st.sampled_from([{}, {"reasoning_content": "Hm."}, {"reasoning_content": "Well, well."}])


def oracle(breed: Breed, messages: Messages) -> list[set[int]]:
    """For each number of messages, from 1 on, which turns stand in the rendering of so many as they are served."""
    template = jinja2.Environment().from_string(breed.source)  # noqa: S701 - nothing of it is HTML

    def printed(count: int, asking: bool = False) -> str:
        return template.render(messages=messages[:count], add_generation_prompt=asking, **breed.special)

    found = []
    for count in range(1, len(messages) + 1):
        whole, served = printed(count), set()
        for turn in (at for at in range(count) if messages[at]["role"] == "assistant"):
            asked, last = printed(turn, asking=True), printed(turn + 1)
            if last.startswith(asked) and whole.startswith(last[: last.index(IM_END, len(asked)) + len(IM_END)]):
                served.add(turn)
        found.append(served)
    return found


def fewest(served: list[set[int]], turns: set[int]) -> int:
    """How many of the prefixes it takes to serve all turns."""
    return next(
        count
        for count in range(1, len(served) + 1)
        for chosen in combinations(served, count)
        if turns <= set().union(*chosen)
    )


@settings(max_examples=60, deadline=None)
@given(rounds(), st.sets(st.integers(0, 11)))
def test_the_fewest_examples_serve_each_turn_once(qwen: Templates, messages: Messages, untrained: set[int]) -> None:
    served = oracle(zoo.QWEN_3, messages)
    weights = [0.0 if at in untrained else 1.0 for at in range(len(messages))]
    given_weights = [0.0 if message["role"] != "assistant" else weights[at] for at, message in enumerate(messages)]
    turns = {at for at, weight in enumerate(given_weights) if weight}
    conversation = Conversation(messages, None, {}, tuple(given_weights))
    text, places, _ = qwen.render_fast(conversation)
    whole = np.array(given_weights, np.float32)

    for _ in range(2):  # by Jinja, or as it was recorded
        others = Contexts(qwen, conversation).others(whole, (text, places))
        assert set(others) == turns - served[-1]
        found = Contexts(qwen, conversation).examples(whole)

        assert found.others == 0
        trained: list[int] = []
        for example in found.conversations:
            own = np.flatnonzero(weights_of(example, CONFIG)).tolist()
            assert set(own) <= served[len(example.messages) - 1]
            trained += own
        assert sorted(trained) == sorted(turns)
        assert len(found.conversations) == (fewest(served, turns) if turns else 1)
        text, places, _ = qwen.render_fast(conversation)


def test_where_nothing_differs_it_is_the_conversation_itself(tmp_path: Path) -> None:
    templates = opened(zoo.CHATML, tmp_path)
    conversation = Conversation(
        [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}], None, {}, None
    )
    (example,) = Contexts(templates, conversation).examples(weights_of(conversation, CONFIG)).conversations
    assert example is conversation


def trained_texts(templates: Templates, conversation: Conversation) -> list[tuple[str, list[str]]]:
    """Each example's text, and what is trained of it: exactly, and as it was recorded."""
    found = []
    for example in Contexts(templates, conversation).examples(weights_of(conversation, CONFIG)).conversations:
        exact = templates.render_exactly(example)
        for _ in range(4):
            assert templates.render_fast(example)[0] == exact.text
        weights = weights_of(example, CONFIG)
        spans = [exact.text[span.start : span.stop] for span in exact.spans if weights[span.message]]
        found.append((exact.text, spans))
    return found


def talk(*texts: str, **more: Any) -> Conversation:
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    return Conversation(messages, None, {}, more.get("weights"))


def test_a_prompt_that_no_turn_has_is_put_before_each(tmp_path: Path) -> None:
    """R1's prompt opens a thought, which its turns do not print."""
    templates = opened(zoo.DEEPSEEK_R1, tmp_path)
    first, _ = trained_texts(templates, talk("One?", "First.", "Two?", "Second."))
    assert first == (
        "<｜begin▁of▁sentence｜><｜User｜>One?<｜Assistant｜><think>\nFirst.<｜end▁of▁sentence｜>",
        ["First.<｜end▁of▁sentence｜>"],
    )


def test_a_turn_that_the_next_one_ends_is_ended_in_its_example(tmp_path: Path) -> None:
    """As GLM 4.5, which drops reasoning before the last question and ends turns by the next message's first token."""
    shown = "((message.reasoning_content or '') if not messages[loop.index0 + 1:] else '')"
    source = zoo.GLM_45.source.replace("(message.reasoning_content or '')", shown)
    assert source != zoo.GLM_45.source
    templates = opened(replace(zoo.GLM_45, source=source), tmp_path)
    conversation = talk("One?", "First.", "Two?", "Second.")
    for message in conversation.messages[1::2]:
        message["reasoning_content"] = "Hm."
    first, second = trained_texts(templates, conversation)
    assert [spans for _, spans in (first, second)] == [
        ["\n<think>Hm.</think>\nFirst.<|user|>"],
        ["\n<think>Hm.</think>\nSecond."],
    ]


def test_too_many_examples_are_refused_with_a_remedy(qwen: Templates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sftprep.batches.contexts.MOST_CHARS", 200)
    conversation = talk(*["One?", "First."] * 4)
    with pytest.raises(ConversationError, match="--contexts whole"):
        Contexts(qwen, conversation).examples(weights_of(conversation, CONFIG))


def test_what_would_take_too_long_is_not_known(qwen: Templates, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sftprep.batches.contexts._FREE", -(1 << 20))
    conversation = talk(*["One?", "First."] * 20)  # more turns than are recorded
    text, places, _ = qwen.render_fast(conversation)
    contexts = Contexts(qwen, conversation)
    assert contexts.others(weights_of(conversation, CONFIG), (text, places)) == []
    assert contexts.unknown == 20
