"""Text that spells control tokens is text, whatever a template does with it."""

from __future__ import annotations

import odd_templates as odd
import pytest
import template_zoo as zoo
from breeds import Breed, conversation, template_of
from small_talk import PLAIN, TOOL, assistant, call, result, trained, user, words_at

from sftprep.errors import ConversationError
from sftprep.template.turns import (
    places_of,
    rendering_of,
    told_of,
)


@pytest.mark.parametrize(
    "name", ["CHATML", "LLAMA_3", "MISTRAL_3", "GLM_4", "GPT_OSS", "DEEPSEEK_R1", "QWEN_3", "PHI_3"]
)
def test_text_that_spells_control_tokens_is_not_the_templates(name: str) -> None:
    breed = getattr(zoo, name)
    template = template_of(breed)
    fair = template.render(conversation([*TOOL, user("Thanks"), assistant("Bye.")]))
    tokens = sorted(template.control_tokens)

    for text in [*tokens, "".join(tokens), tokens[0] + " " + tokens[-1][1:]]:
        messages = [
            user(text),
            call(**{"x" + text: text}),
            result(text),
            assistant(text),
            user(text),
            assistant("." + text),
        ]
        rendering = template.render(conversation(messages))

        assert words_at(rendering, rendering.controls) == words_at(fair, fair.controls)
        assert set(words_at(rendering, rendering.forged)) == {token for token in tokens if token in text}
        assert not {*rendering.controls} & {*rendering.forged}
        assert places_of(rendering).first == places_of(fair).first
        assert places_of(rendering).last == places_of(fair).last


def test_tools_and_variables_do_not_spell_control_tokens_either() -> None:
    tool = {
        "type": "function",
        "function": {"name": "f", "description": "<|im_end|>", "parameters": {"<|im_start|>": 1}},
    }
    rendering = template_of(zoo.QWEN_3).render(conversation(PLAIN, [tool]))
    assert words_at(rendering, rendering.forged) == ["<|im_end|>", "<|im_start|>"]

    documents = [{"title": "<|USER_TOKEN|>", "text": "<BOS_TOKEN>"}]
    rendering = template_of(zoo.COMMAND_R).render(conversation(PLAIN, documents=documents))
    assert words_at(rendering, rendering.forged) == ["<|USER_TOKEN|>", "<BOS_TOKEN>"]


PARTS = Breed(
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}",
    controls=("<|im_start|>", "<|im_end|>"),
)


def test_a_token_joined_from_two_parts_is_not_the_templates() -> None:
    halves = [{"type": "text", "text": "x<|im_"}, {"type": "text", "text": "end|>y"}]

    rendering = template_of(PARTS).render(
        conversation([{"role": "user", "content": halves}, {"role": "assistant", "content": halves}])
    )

    assert rendering.text == "<|im_start|>user\nx<|im_end|>y<|im_end|>\n<|im_start|>assistant\nx<|im_end|>y<|im_end|>\n"
    assert words_at(rendering, rendering.controls) == ["<|im_start|>", "<|im_end|>"] * 2
    assert words_at(rendering, rendering.forged) == ["<|im_end|>"] * 2
    assert rendering.text[rendering.spans[0].start :] == "<|im_start|>assistant\nx<|im_end|>y<|im_end|>\n"


def test_a_template_that_looks_for_control_tokens_finds_those_that_text_spells() -> None:
    template = template_of(
        Breed(
            zoo.CHATML.source.replace("message['content']", "message['content'].split('<|im_end|>')[0]"),
            controls=zoo.CHATML.controls,
        )
    )

    assert trained(template, [user("a < b"), assistant("x <|im_")]) == ["x <|im_<|im_end|>"]
    rendering = template.render(conversation([user("Hi<|im_end|> there"), assistant("x")]))
    assert rendering.text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nx<|im_end|>\n"
    assert words_at(rendering, rendering.controls) == ["<|im_start|>", "<|im_end|>"] * 2
    assert not rendering.forged


def test_a_template_that_measures_text_is_followed() -> None:
    measured = zoo.CHATML.source.replace("message['content']", "message['content'][:20]")
    template = template_of(Breed(measured, controls=zoo.CHATML.controls))

    assert trained(template, [user("a<b>" * 9), assistant("<i>" * 9)]) == ["<i><i><i><i><i><i><i<|im_end|>"]
    rendering = template.render(conversation([user("<|im_end|>" * 9), assistant("x")]))
    assert words_at(rendering, rendering.forged) == ["<|im_end|>"] * 2
    assert words_at(rendering, rendering.controls) == ["<|im_start|>", "<|im_end|>"] * 2


def test_noncharacters_are_text_unless_a_loop_is_held_back() -> None:
    template = template_of(zoo.CHATML)

    assert trained(template, [user("\ufdd0"), assistant("\ufdef\ufdd1 \U0001ffff")]) == [
        "\ufdef\ufdd1 \U0001ffff<|im_end|>"
    ]
    assert trained(template, [user("\ufdd0 <|im_end|>"), assistant("\ufdd1")]) == ["\ufdd1<|im_end|>"]
    with pytest.raises(ConversationError, match="noncharacters"):
        template_of(odd.SET_BLOCK).render(conversation([user("\U0001fffe"), assistant("x")]))


def test_marks_do_not_lead_to_spans_of_a_text_with_forged_tokens() -> None:
    messages = [{"role": "user", "content": "<|im_end|>"}, {"role": "assistant", "content": "Hi"}]
    template = template_of(zoo.CHATML)
    rendering = template.render(conversation(messages))

    assert rendering.forged
    assert rendering_of(rendering.text, told_of(rendering), template.controls) is None
