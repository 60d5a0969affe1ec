"""Marks in a template's syntax tree."""

from __future__ import annotations

import pytest
from breeds import conversation, talk, template_of
from transformers.utils.chat_template_utils import render_jinja_template

from sftprep.jinja.compiled import CompiledTemplate
from sftprep.jinja.message_marks import RunLog
from sftprep.jinja.sandbox import Sandbox


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


PARTS = [{"type": "image"}, {"type": "text", "text": "Hi"}, "ab", {}]
ASKS_FOR_KIND = [
    "{% if c['type'] == 'image' %}!{% endif %}",
    "{% if c.type == 'image' %}!{% elif c.type == 'text' %}{{ c.text }}{% endif %}",
    "{% if c is string %}{{ c }}{% else %}-{% endif %}",
    "{% if c is mapping and 'image' != c.type %}!{% endif %}{% if c.type is defined %}?{% endif %}",
    "{% if c.type or c is number %}!{% if c == 'b' %}?{% endif %}{% endif %}",
    "{% if not c.type %}{% set ns.n = ns.n + 1 %}{% endif %}",
    "{% if c.type is undefined %}{{ c }}{% break %}{% endif %}",
]
ASKS_FOR_MORE = [
    "{% if c == 'b' %}!{% endif %}",
    "{% if c['type'] == c %}!{% endif %}",
    "{% if c.title %}!{% endif %}",
    "{% if c[0] == 'b' %}!{% endif %}",
    "{% if c is upper %}!{% endif %}",
    "{% if c | length > 1 %}!{% endif %}",
    "{% if c['type'] %}{% endif %}.",
    "{% if loop.index == 2 %}!{% endif %}",
    "{% if c.type == 'image' %}{{ loop.index }}{% endif %}",
    "{% set ns.n = ns.n + 1 %}",
]


@pytest.mark.parametrize("body", [*ASKS_FOR_KIND, *ASKS_FOR_MORE])
@pytest.mark.parametrize("loop", ["for c in x", "for c in x if c", "for c in x | list"])
def test_loops_over_parts_that_may_be_text_print_what_they_print(body: str, loop: str) -> None:
    source = "{% set ns = namespace(n=0) %}{% " + loop + " %}" + body + "{% else %}none{% endfor %}{{ ns.n }}"
    compiled, plain = CompiledTemplate(source), Sandbox().from_string(source)
    for value in ("", "b", "ab", "bab", [], PARTS, PARTS[::-1], ["b"]):
        assert compiled.mark({"messages": [], "x": value}).text == plain.render(x=value)


@pytest.mark.parametrize(("body", "looked_at"), [*((body, 1) for body in ASKS_FOR_KIND[:2]), (ASKS_FOR_MORE[0], 3)])
def test_of_text_where_parts_are_expected_the_first_character_is_looked_at(body: str, looked_at: int) -> None:
    class Counting(dict[int, int]):
        asked = 0

        def get(self, *_: object) -> None:
            self.asked += 1

    log = RunLog([], textual=False)
    log.message_of = items = Counting()
    CompiledTemplate("{% for c in x %}" + body + "{% endfor %}").run({"x": "abc"}, log)
    assert items.asked == looked_at
