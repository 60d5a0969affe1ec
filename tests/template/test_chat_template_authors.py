"""Whose a text is: what each message says stands where it is said to, in the stretch that was printed for it."""

from __future__ import annotations

import pytest
import template_zoo as zoo
from breeds import conversation, template_of
from small_talk import PLAIN, SYSTEM, THINK, TOOL, Messages, user

from sftprep.errors import ConversationError, RefusedError

NAMES = ["CHATML", "LLAMA_3", "MISTRAL_3", "GLM_4", "GPT_OSS", "QWEN_3", "PHI_3", "GEMMA"]


@pytest.mark.parametrize("messages", [PLAIN, THINK, TOOL], ids=["talk", "reasoning", "tools"])
@pytest.mark.parametrize("name", NAMES)
def test_what_is_said_is_the_messages_own(name: str, messages: Messages) -> None:
    template = template_of(getattr(zoo, name))
    try:
        authors = template.authors(conversation(messages))
    except RefusedError:
        pytest.skip("the template refuses that")

    assert authors.text == template.render(conversation(messages)).text
    said = [(authors.text[part.start : part.stop].strip(), part) for part in authors.parts]
    assert sum(bool(text) for text, _ in said) >= 2
    for text, part in said:
        message = messages[part.message]
        if part.kind in ("user", "assistant", "tool_results"):
            assert text.strip('"') in message["content"]
        elif part.kind == "reasoning":
            assert text in message["reasoning_content"]
        else:
            assert "tool_calls" in message or part.kind == ""
    for mark in authors.marks:
        inside = {part.message for text, part in said if text and mark.start <= part.start < mark.stop}
        assert mark.message in inside or not inside, "beside it there may be a call that is named in its result"


def test_what_is_said_outside_of_the_loop_is_known_too() -> None:
    authors = template_of(zoo.LLAMA_3).authors(conversation(SYSTEM))
    [kind] = [part for part in authors.parts if part.message == 0]
    assert authors.text[kind.start : kind.stop] == "Be kind."
    assert all(mark.message != 0 for mark in authors.marks)


def test_a_text_that_asks_ends_with_the_prompt() -> None:
    authors = template_of(zoo.CHATML).authors(conversation([user("Hi")]), asking=True)
    assert authors.text[authors.marks[-1].stop :].strip() == "<|im_start|>assistant"


def test_a_refusal_is_one() -> None:
    with pytest.raises(ConversationError):
        template_of(zoo.MISTRAL_1).authors(conversation(SYSTEM))
