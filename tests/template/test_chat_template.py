"""The text is that of Transformers; what may be trained of it."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import Any

import odd_templates as odd
import pytest
import template_zoo as zoo
from breeds import Breed, breeds_of, conversation, ours, talk, template_of, theirs
from conftest import TOKENIZERS
from hypothesis import given, settings
from hypothesis import strategies as st
from small_talk import Messages
from strategies import chats, message_texts, tool_chats
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from sftprep.errors import TemplateError
from sftprep.records.conversation import Conversation
from sftprep.template.chat_template import open_template

BREEDS = breeds_of(zoo, odd)
STRAYING = [
    "BY_INDEX",
    "DELAYED",
    "EARLY_RESULTS",
    "LAST_APART",
    "REBUILT",
]  # not every message can be found in what these print
TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "description": "Tells < & >.", "parameters": {"city": "Köln"}},
    },
    {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {}}},
]


# -- the same text as Transformers --


@pytest.mark.parametrize("name", sorted(BREEDS.keys() - {"GPT_OSS", *STRAYING}))
def test_text_is_that_of_transformers(name: str) -> None:
    breed = BREEDS[name]
    template = template_of(breed)
    kwargs = st.fixed_dictionaries(
        {}, optional={"enable_thinking": st.booleans(), "documents": st.just([{"title": "a", "text": "<"}])}
    )
    messages = chats(message_texts()) | tool_chats(message_texts())

    @settings(max_examples=40)
    @given(st.builds(Conversation, messages, st.sampled_from([None, [], TOOLS]), kwargs, st.none()))
    def check(given: Conversation) -> None:
        assert ours(template, given) == theirs(breed, given)

    check()


@pytest.mark.parametrize(
    "answer", [{}, {"tool_calls": [{"id": "123456789", "function": {"name": "add", "arguments": {}}}]}]
)
def test_a_template_may_ask_whether_messages_are_equal(answer: dict[str, Any]) -> None:
    breed = BREEDS["MISTRAL_3"]
    messages = talk("<go on", "on", "<go on")
    messages[1] |= answer
    given = conversation(messages, TOOLS)

    assert ours(template_of(breed), given) == theirs(breed, given) is not None


@pytest.mark.parametrize("name", STRAYING)
def test_text_is_that_of_transformers_where_every_answer_says_something(name: str) -> None:
    breed = BREEDS[name]
    template = template_of(breed)

    @settings(max_examples=40)
    @given(chats(message_texts().map(lambda text: f"x{text}x")))
    def check(messages: Messages) -> None:
        given = conversation(messages)
        assert ours(template, given) == theirs(breed, given) is not None

    check()


def test_dates_are_given_not_read() -> None:
    with pytest.raises(TemplateError, match="date"):
        template_of(zoo.GPT_OSS, now=None).render(conversation(talk("Hi", "Hello.")))
    while (today := datetime.now()).date():
        given = conversation(talk("Hi", "Hello."), TOOLS)
        text = template_of(zoo.GPT_OSS, now=today).render(given).text
        if datetime.now().date() == today.date():
            break
    assert text == theirs(zoo.GPT_OSS, given)
    assert f"{today:%Y-%m-%d}" in text


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_under_any_name(key: str) -> None:
    given = conversation([*talk("Hi"), {"role": "assistant", "content": "Hello.", key: "Greets."}])
    both = Breed(
        "{% for m in messages %}{{ m.role }}{{ m.thinking }}{{ m.reasoning_content }}{{ m.keys() | list }}{% endfor %}"
    )

    assert ours(template_of(zoo.QWQ), given) == theirs(zoo.QWQ, given)
    assert ours(template_of(both), given) == theirs(both, given)


# -- whose text it is --


def test_no_template_is_refused_for_its_turns_where_none_is_trained() -> None:
    for source in (
        "{{ messages | tojson }}",
        "{% set s %}{% for m in messages %} {{ m.content }} {% endfor %}{% endset %}{{ s | trim }}",
    ):
        messages = talk("Hi <|im_end|>", "Hello.")
        template = open_template(source, {}, control_tokens=["<|im_end|>"], roles=())

        rendering = template.render(conversation(messages))

        assert rendering.text == theirs(Breed(source), conversation(messages))
        assert (rendering.spans, rendering.controls) == ((), ())
        assert [rendering.text[start:stop] for start, stop in rendering.forged] == ["<|im_end|>"]


# -- generation blocks --

BLOCKS = zoo.CHATML.source.replace(
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}",
    """\
{{ '<|im_start|>' + message['role'] + '\n' }}
{%- if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}
{%- else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}""",
)


def test_blocks_are_those_of_transformers(corpus: Path) -> None:
    template = template_of(Breed(BLOCKS, controls=zoo.CHATML.controls))
    with corpus.open(encoding="utf-8") as lines:
        records = [json.loads(line)["conversations"] for line, _ in zip(lines, range(2000), strict=False)]

    texts, indices = render_jinja_template(records, chat_template=BLOCKS, return_assistant_tokens_mask=True)

    for messages, text, blocks in zip(records, texts, indices, strict=True):
        rendering = template.render_blocks(conversation(messages))
        assert rendering.text == text
        assert [(span.start, span.stop) for span in rendering.spans] == blocks
        assert [messages[span.message]["role"] for span in rendering.spans] == ["assistant"] * len(blocks)


def test_templates_without_blocks_are_refused() -> None:
    with pytest.raises(TemplateError, match=r"no \{% generation %\} blocks"):
        template_of(zoo.CHATML).render_blocks(conversation(talk("Hi", "Hello.")))
    with pytest.raises(TemplateError, match="outside every loop over messages"):
        template_of("{% generation %}{{ messages[1].content }}{% endgeneration %}").render_blocks(
            conversation(talk("Hi", "Hello."))
        )


# -- published tokenizers on real conversations --


@pytest.mark.parametrize("name", TOKENIZERS)
def test_corpus_text_is_that_of_transformers(name: str, shared_data: Path, corpus: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / name)
    added = list(tokenizer.added_tokens_decoder.values())
    template = open_template(
        tokenizer.chat_template,
        tokenizer.special_tokens_map,
        control_tokens=[token.content for token in added if token.special],
        added_tokens=[token.content for token in added],
    )
    with corpus.open(encoding="utf-8") as lines:
        records = [json.loads(line)["conversations"] for line, _ in zip(lines, range(2000), strict=False)]
    assert len(records) == 2000

    for messages in records:
        rendering = template.render(conversation(messages))
        assert rendering.text == tokenizer.apply_chat_template(messages, tokenize=False)
        assert [span.message for span in rendering.spans] == [
            i for i, m in enumerate(messages) if m["role"] == "assistant"
        ]
        said = "\0".join(message["content"] for message in messages)
        assert all(rendering.text[start:stop] in said for start, stop in rendering.forged)
        assert bool(rendering.forged) == bool(template.controls.search(said))
