"""Marks in a template's syntax tree."""

from __future__ import annotations

import pytest
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


LOOKED_UP = "{% for i in range(all | length) %}{{ '<' }}{{ all[i].content }}{{ none_such[i] if off }}{% endfor %}"
ASSIGNED = "{% for i in range(2) %}{% set all = messages[1:] %}{{ all[i].content }}{% endfor %}"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("{% set all = messages %}" + LOOKED_UP, [(0, "<a"), (1, "<b"), (2, "<c")]),
        ("{% set all = messages[1:] | list %}" + LOOKED_UP, [(1, "<b"), (2, "<c")]),
        ("{% macro f(all) %}" + LOOKED_UP + "{% endmacro %}{{ f(messages) }}", [(0, "<a"), (1, "<b"), (2, "<c")]),
        (ASSIGNED, []),  # what the list is changes in the loop
        ("{% for i in [2, 9, -1, 'x', none] %}{{ messages[i].content if i == 2 }}{% endfor %}", [(2, "c")]),
        ("{% for i in ['content'] %}{{ messages[0][i] }}{% endfor %}", []),
    ],
)
def test_a_loop_over_indices_is_at_the_message_that_it_looks_up(source: str, expected: list[tuple[int, str]]) -> None:
    found = CompiledTemplate(source).mark({"messages": talk("a", "b", "c")})

    assert [(mark.message, found.text[mark.start : mark.stop]) for mark in found.marks] == expected
