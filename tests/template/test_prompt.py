"""What a template prints where it asks for an answer."""

from __future__ import annotations

import template_zoo as zoo
from breeds import Breed, template_of
from small_talk import PLAIN, THINK, assistant, trained, user


def test_the_prompt_follows_template_variables() -> None:
    off = template_of(zoo.QWEN_3, template_kwargs={"enable_thinking": False})
    by_record = template_of(zoo.QWEN_3)

    expected = ["Hello.<|im_end|>", "Leaves.\n</think>\n\nCiao.<|im_end|>"]
    assert trained(off, THINK) == trained(by_record, THINK, enable_thinking=False) == expected
    assert (
        trained(off, PLAIN)
        == trained(by_record, PLAIN, enable_thinking=False)
        == ["Hello.<|im_end|>", " Ciao. <|im_end|>"]
    )
    assert trained(template_of(zoo.GLM_45), PLAIN, enable_thinking=False) == ["\nHello.<|user|>", "\n Ciao. "]
    assert trained(off, PLAIN, enable_thinking=True) == ["Hello.<|im_end|>", "<think>\n\n</think>\n\n Ciao. <|im_end|>"]


def test_prompts_that_a_template_refuses_are_asked_for_after_a_question() -> None:
    template = template_of(
        Breed(
            "{% if messages[0].content is undefined %}{{ raise_exception('empty') }}{% endif %}"
            "{% for m in messages %}{{ '<' + m.role[0] + '>' + m.content + '<e>' }}{% endfor %}"
            "{% if add_generation_prompt and messages[-1].role != 'assistant' %}{{ '<a>' }}{% endif %}",
            controls=("<a>", "<u>", "<e>"),
        )
    )

    assert trained(template, [assistant("Welcome."), user("Hi"), assistant("Hello.")]) == ["Welcome.<e>", "Hello.<e>"]
