"""Marks in a template's syntax tree."""

from __future__ import annotations

from breeds import conversation, talk, template_of
from transformers.utils.chat_template_utils import render_jinja_template

from sftprep.jinja.compiled import CompiledTemplate


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


def test_branches_taken_are_written_down() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'user' %}<{{ m.content }}>{% elif m.content %}\n[{{ m.content }}]"
        "{% else %}-{% endif %}{% endfor %}"
    )
    found = CompiledTemplate(source).with_branches().mark({"messages": talk("a", "b", "c", "")})
    assert found.text == "<a>[b]<c>-"
    said = [(region.line, found.text[region.start : region.stop]) for region in found.regions]
    # of each message a branch of the `if` (an `elif` is one of its own), and around it the loop's body
    assert said == [
        *[(1, "<a>"), (1, "<a>"), (1, "[b]"), (1, "[b]")],
        *[(1, "<c>"), (1, "<c>"), (2, "-"), (1, "-")],
    ]
    assert CompiledTemplate(source).mark({"messages": talk("a")}).regions == ()
