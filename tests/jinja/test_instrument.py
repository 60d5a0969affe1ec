"""Marks in a template's syntax tree."""

from __future__ import annotations

from breeds import conversation, talk, template_of
from transformers.utils.chat_template_utils import render_jinja_template


def test_a_template_does_not_see_the_run() -> None:
    names = "{{ trail is defined }}{{ allowance is defined }}{{ self._TemplateReference__context is defined }}"

    assert template_of(names).render(conversation(talk("Hi"))).text == "FalseFalseFalse"


def test_blocks_in_macros_are_counted_as_transformers_counts_them() -> None:
    source = "{% macro say(m) %}<{% generation %}{{ m.content }}{% endgeneration %}>{% endmacro %}{% for m in messages %}{{ m.role }}{{ say(m) }}{% endfor %}"
    messages = talk("a", "bc", "", "d")

    _, indices = render_jinja_template([messages], chat_template=source, return_assistant_tokens_mask=True)
    rendering = template_of(source).render_blocks(conversation(messages))

    assert [(span.start, span.stop) for span in rendering.spans] == indices[0]
    assert [span.message for span in rendering.spans] == [0, 1, 2, 3]
