"""What is trained of a turn is what the text before it with its prompt lacks."""

from __future__ import annotations

from dataclasses import replace

import odd_templates as odd
import pytest
import template_zoo as zoo
from breeds import Breed, template_of
from hypothesis import assume, given, settings
from small_talk import Messages, trained
from strategies import chats, message_texts, tool_chats
from transformers.utils.chat_template_utils import render_jinja_template


def by_prefixes(breed: Breed, messages: Messages, end: str) -> list[str]:
    """What each assistant turn adds to the text before it with its prompt, up to the end of the turn."""

    def render(part: Messages, *, prompt: bool) -> str:
        texts, _ = render_jinja_template(
            [part], chat_template=breed.source, add_generation_prompt=prompt, **breed.special
        )
        text: str = texts[0]
        return text

    added = []
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            before, after = render(messages[:index], prompt=True), render(messages[: index + 1], prompt=False)
            assume(after.startswith(before))  # else the template is not prefix-stable here
            turn = after[len(before) :]
            added.append(turn[: turn.rindex(end) + len(end)])
    return added


STABLE = [
    (zoo.CHATML, "<|im_end|>", True),
    (zoo.LLAMA_2, "</s>", False),
    (zoo.LLAMA_3, "<|eot_id|>", True),
    (zoo.MISTRAL_1, "</s>", False),
    (zoo.MISTRAL_3, "</s>", False),
    (zoo.GEMMA, "<end_of_turn>", False),
    (zoo.ZEPHYR, "</s>", True),
    (zoo.COMMAND_R, "<|END_OF_TURN_TOKEN|>", True),
    (odd.VICUNA, "</s>", True),
    (odd.MACROS, "<|im_end|>", True),
    (odd.SET_BLOCK, "<|im_end|>", True),
]


@pytest.mark.parametrize(("breed", "end", "systems"), STABLE)
def test_spans_are_what_prefixes_lack(breed: Breed, end: str, systems: bool) -> None:
    template = template_of(breed)

    @settings(max_examples=60)
    @given(chats(message_texts().filter(lambda text: "stop" not in text and "think" not in text), system=systems))
    def check(messages: Messages) -> None:
        assert trained(template, messages) == by_prefixes(breed, messages, end)

    check()


def test_spans_with_reasoning_are_what_prefixes_lack() -> None:
    template = template_of(zoo.QWQ)

    @settings(max_examples=60)
    @given(chats(message_texts()), message_texts())
    def check(messages: Messages, thought: str) -> None:
        thinking = [{**message, "reasoning_content": thought} for message in messages]
        assert trained(template, thinking) == by_prefixes(zoo.QWQ, thinking, "<|im_end|>")

    check()


# As R1, but answering without a thought: what R1's prompt opens is not in its earlier answers.
DEEPSEEK = replace(zoo.DEEPSEEK_R1, source=zoo.DEEPSEEK_R1.source.replace("<think>\n", ""))


@pytest.mark.parametrize("breed", [zoo.MISTRAL_3, DEEPSEEK])
def test_spans_of_tool_calls_are_what_prefixes_lack(breed: Breed) -> None:
    template = template_of(breed)

    @settings(max_examples=60)
    @given(tool_chats(message_texts().map(lambda text: text.replace("think", "thank"))))
    def check(messages: Messages) -> None:
        end = breed.special["eos_token"]
        said = [
            not message.get("reasoning_content", "").strip() for message in messages if message["role"] == "assistant"
        ]
        turns = zip(by_prefixes(breed, messages, end), said, strict=True)
        assert trained(template, messages) == [turn for turn, nothing in turns if nothing or turn.strip() != end]

    check()
