"""Which template a conversation takes, with whose spans, and what its limits mean for the job."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sftprep.batches.templates import Templates, probe, template_text
from sftprep.config import BuildConfig
from sftprep.errors import ConversationError, TemplateError
from sftprep.jinja import compiled
from sftprep.records.conversation import Conversation
from sftprep.template.turns import told_of
from sftprep.tokens.resolve import ResolvedTokenizer
from sftprep.workers.limits import MOST_LOST, LimitError

TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def config(**options: Any) -> BuildConfig:
    return BuildConfig(("unused",), "tokenizer", **options)


def talk(*texts: str, **more: Any) -> Conversation:
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(texts)]
    return Conversation(messages, more.get("tools"), {}, more.get("weights"))


@pytest.fixture
def two(resolved: ResolvedTokenizer) -> ResolvedTokenizer:
    """A tokenizer with another template for conversations with tools."""
    return replace(resolved, chat_templates={"default": TEMPLATE, "tool_use": "tools:" + TEMPLATE})


def test_the_source_of_a_template(two: ResolvedTokenizer) -> None:
    assert template_text(config(), two) == TEMPLATE
    assert template_text(config(), two, tools=True) == "tools:" + TEMPLATE
    assert template_text(config(chat_template="mine"), two, tools=True) == "mine"
    with pytest.raises(TemplateError, match=r"^tokenizer: the tokenizer has no chat template; give one with"):
        template_text(config(), replace(two, chat_templates={}))


def test_conversations_with_tools_take_the_template_for_tools(two: ResolvedTokenizer) -> None:
    templates = Templates(config(), two)
    for given, begin in ((talk("a", "b"), "<|im_start|>"), (talk("a", "b", tools=[{"name": "f"}]), "tools:")):
        assert templates.render_exactly(given).text.startswith(begin)
        assert templates.render_fast(given)[0].startswith(begin)


@pytest.mark.parametrize(
    ("options", "weights", "messages"),
    [
        ({}, None, [1, 3]),
        ({}, (None, 0.0, None, 1.0), [1, 3]),
        ({}, (0.5, None, None, None), [0, 1, 2, 3]),
        ({"train_on": "user"}, None, [0, 2]),
        ({"mask": "scan"}, (0.5, None, None, None), []),
    ],
)
def test_a_conversation_that_weighs_other_roles_has_the_spans_of_all(
    two: ResolvedTokenizer, options: dict[str, Any], weights: Any, messages: list[int]
) -> None:
    rendering = Templates(config(**options), two).render_exactly(talk("a", "b", "c", "d", weights=weights))
    assert [span.message for span in rendering.spans] == messages


def test_a_rendering_behind_marks_is_the_one_by_jinja(two: ResolvedTokenizer) -> None:
    templates = Templates(config(), two)
    for given in (talk("a", "b", "c", "d"), talk("<|im_end|>", "b")):
        exact = templates.render_exactly(given)
        again = templates.rendering_of(given, exact.text, told_of(exact))
        assert (again.text, again.controls, again.forged) == (exact.text, exact.controls, exact.forged)
        spans = [[(span.message, span.start, span.stop) for span in each.spans] for each in (again, exact)]
        assert spans[0] == spans[1]


def test_the_template_is_run_for_its_control_tokens_unless_they_are_known(two: ResolvedTokenizer) -> None:
    found = probe(config(), two)
    assert found == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}
    assert Templates(config(), two, found).control_tokens == Templates(config(), two).control_tokens == found


def test_templates_that_refuse_plain_talk(two: ResolvedTokenizer) -> None:
    refusing = "{{ raise_exception('never') }}"
    assert probe(config(chat_template=refusing), two) == two.control_tokens()  # some other talk may be to its liking
    with pytest.raises(TemplateError, match="never, which is plain talk; give --scan-header and --scan-end"):
        probe(config(chat_template=refusing, mask="scan"), two)
    with pytest.raises(TemplateError, match=r"no \{% generation %\} blocks"):
        Templates(config(mask="generation"), two)


def test_conversation_after_conversation_beyond_the_limits_stops_the_job(
    two: ResolvedTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled, "MOST_CHARS", 1000)
    bomb = "{% for m in messages %}{% if m.content == 'boom' %}{{ 'x' * 2000 }}{% endif %}{% endfor %}" + TEMPLATE
    templates = Templates(config(chat_template=bomb), two)
    for _ in range(2):  # one less than too many in a row, and a sound one between
        for _ in range(MOST_LOST - 1):
            with pytest.raises(LimitError):
                templates.render_exactly(talk("boom", "b"))
        templates.render_exactly(talk("a", "b"))
    with pytest.raises(TemplateError, match=f"so did the {MOST_LOST - 1} before it, and the job stops"):
        for _ in range(MOST_LOST):
            with pytest.raises(ConversationError):
                templates.render_exactly(talk("boom", "b"))


def test_conversations_without_jinja_are_counted(two: ResolvedTokenizer) -> None:
    templates = Templates(config(), two)
    texts = [templates.render_fast(talk(text, "b"))[0] for text in "abcdef"]
    assert texts == [templates.render_exactly(talk(text, "b")).text for text in "abcdef"]
    assert templates.replayed == 4  # the first way is recorded at its second sight
