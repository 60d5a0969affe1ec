"""Whose text it is that a template prints; templates that do not compile."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
import template_zoo as zoo
from breeds import conversation, talk, template_of

from sftprep.errors import ConversationError, TemplateError
from sftprep.jinja.compiled import CompiledTemplate, MarkedText

Messages = list[dict[str, Any]]


def mark(source: str, messages: Messages, **variables: Any) -> MarkedText:
    return CompiledTemplate(source).mark({**variables, "messages": messages})


def marked(source: str, messages: Messages, **variables: Any) -> list[tuple[int, str]]:
    found = mark(source, messages, **variables)
    return [(place.message, found.text[place.start : place.stop]) for place in found.marks]


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("\n{{ raise_exception('No!') }}", "line 2: No!"),
        ("{{ raise_exception('No ' + messages[0].content) }}", "line 1: raise_exception"),
        ("\n\n{{ messages[0].missing.more }}", "line 3: 'dict object' has no attribute 'missing'"),
        ("{{ {}[messages[0].content].x }}", "line 1: 'dict object' has no attribute ..."),
        ("{{ raise_exception('No such role: ' ~ messages[0].content) }}", "line 1: No such role: ..."),
        ("{{ 'a' + 1 }}", 'line 1: can only concatenate str (not "int") to str'),
        ("{{ messages[0].content | int(base=99) }}{{ 1 // 0 }}", "line 1: ZeroDivisionError"),
        ("{% macro f() %}\n{{ 1 // 0 }}{% endmacro %}\n\n{{ f() }}", "line 2: ZeroDivisionError"),
    ],
)
def test_errors_say_where_and_show_no_text(source: str, reason: str) -> None:
    with pytest.raises(ConversationError) as caught:
        template_of(source).render(conversation(talk("secret")))

    assert str(caught.value) == f"the chat template refuses it: {reason}"
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("\n{% for m in messages %}", "line 2"),
        ("{% unknown %}", "line 1: Encountered unknown tag 'unknown'"),
        ("{{ 'a' | nofilter }}", "No filter named 'nofilter'"),
        ("{{ " + "(" * 5000 + ")" * 5000 + " }}", "nested too deep"),
        ("{% if a %}" * 200 + "{% endif %}" * 200, "nested too deep"),
    ],
)
def test_templates_that_do_not_compile(source: str, reason: str) -> None:
    with pytest.raises(TemplateError, match="does not compile") as caught:
        template_of(source)

    assert reason in str(caught.value)


LOOPS = [
    "{% for m in messages %}{{ m.content }}{% endfor %}",
    "{% for m in messages -%} {{- m.content -}} {%- endfor %}",
    "{% set list = messages %}{% for m in list %}{{ m.content }}{% endfor %}",
    "{% for m in messages[:1] %}{{ m.content }}{% endfor %}{% for m in messages[1:] %}{{ m.content }}{% endfor %}",
    "{% for m in messages | list %}{{ m['content'] }}{% endfor %}",
    "{% for m in messages if m.content %}{{ m.content }}{% endfor %}",
    "{% for m in messages | selectattr('content') %}{{ m.content }}{% endfor %}",
    "{% for m in messages | rejectattr('none') %}{{ m.content }}{% endfor %}",
    "{% set ns = namespace(l=[]) %}{% for m in messages %}{% set ns.l = ns.l + [m] %}{% endfor %}{% for m in ns.l %}{{ m.content }}{% endfor %}",
    "{% for m in messages[::-1] %}{% endfor %}{% for m in messages %}{{ m.content }}{% endfor %}",
    "{% for m in messages | reverse | list | reverse %}{{ m.content }}{% endfor %}",
    "{% for i, m in [(0, messages[0])] %}{{ m.content }}{% endfor %}{% for i, (j, m) in [(0, (1, messages[1])), (0, (1, messages[2]))] %}{{ m.content }}{% endfor %}",
    "{% for role, group in messages | groupby('group') %}{% for m in group %}{{ m.content }}{% endfor %}{% endfor %}",
    "{% for row in messages | batch(2) %}{% for m in row %}{{ m.content }}{% endfor %}{% endfor %}",
    "{% for m in messages %}{% for o in messages[loop.index:] %}{% endfor %}{{ m.content }}{% endfor %}",
    "{% for m in messages %}{% for letter in m.content %}{{ letter }}{% endfor %}{% endfor %}",
    "{% for m in messages %}{% if loop.first %}{{ m.content }}{% continue %}{% endif %}{{ m.content }}{% if loop.last %}{% break %}{% endif %}{% endfor %}",
    "{% for m in messages %}{% for x in [1, 2, 3] %}{% if x == 2 %}{{ m.content }}{% break %}{% endif %}{% endfor %}{% endfor %}",
    "{% for x in [1] %}{% for m in messages %}{{ m.content }}{% endfor %}{% break %}{% endfor %}",
    "{% macro say(m) %}{{ m.content }}{% endmacro %}{% for m in messages %}{{ say(m) }}{% endfor %}",
    "{% macro say(m) %}{% for c in m.content %}{{ c }}{% endfor %}{% endmacro %}{% for m in messages %}{{ say(m) }}{% endfor %}",
    "{% macro all(l) %}{% for m in l %}{{ m.content }}{% endfor %}{% endmacro %}{{ all(messages[:2]) }}{{ all(messages[2:]) }}",
    "{% macro one(l) %}{{ l[0].content if l }}{% for m in l[:1] %}{{ m.none }}{% endfor %}{% endmacro %}{% for m in messages %}{{ one([m]) }}{% endfor %}",
    "{% macro rest(l) %}{% for m in l[:1] %}{{ m.content }}{% endfor %}{% if l | length > 1 %}{{ rest(l[1:]) }}{% endif %}{% endmacro %}{{ rest(messages) }}",
    "{% set s %}{% for m in messages %}{{ m.content }}{% endfor %}{% endset %}{{ s }}",
    "{% filter replace('#', '') %}{% for m in messages %}{{ m.content }}#{% endfor %}{% endfilter %}",
    "{% call(x) (macro) %}{% endcall %}" and "{% macro w() %}{{ caller() }}{% endmacro %}{% call w() %}{% for m in messages %}{{ m.content }}{% endfor %}{% endcall %}",
    "{% for m in messages recursive %}{{ m.content }}{% endfor %}",
    "{% block b %}{% for m in messages %}{{ m.content }}{% endfor %}{% endblock %}",
    "{% with l = messages %}{% for m in l %}{{ m.content }}{% endfor %}{% endwith %}",
    "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}",
    "{% generation %}{% for m in messages %}{{ m.content }}{% endfor %}{% endgeneration %}",
]  # fmt: skip


@pytest.mark.parametrize("source", LOOPS)
def test_loops_over_messages_however_written(source: str) -> None:
    messages = [{"content": "one", "group": 1}, {"content": "two", "group": 2}, {"content": "three", "group": 2}]

    assert marked(source, messages) == [(0, "one"), (1, "two"), (2, "three")]


def test_text_around_and_between_messages_is_nobodys() -> None:
    source = "<s>{% for m in messages %}[{{ m.content }}]{% if not loop.last %}{{ ', ' }}{% endif %}{% endfor %}{% for x in [1] %}end{% endfor %}"

    found = mark(source, talk("a", "b"))

    assert found.text == "<s>[a], [b]end"
    assert [found.text[place.start : place.stop] for place in found.marks] == ["[a], ", "[b]"]
    assert found.over == len("<s>[a], [b]")


def test_a_message_that_is_equal_to_another_is_still_itself() -> None:
    same = {"role": "user", "content": "Hi"}

    assert marked(LOOPS[0], [dict(same), dict(same), dict(same)]) == [(0, "Hi"), (1, "Hi"), (2, "Hi")]
    assert (
        len(template_of(zoo.CHATML).render(conversation([same, {"role": "assistant", "content": "x"}, same])).controls)
        == 6
    )


def test_messages_inside_messages() -> None:
    source = "{% for m in messages %}({{ m.content }}{% if loop.first %}{% for n in messages[1:] %}<{{ n.content }}>{% endfor %}{% break %}{% endif %}){% endfor %}"

    assert marked(source, talk("a", "b", "c")) == [(0, "(a"), (1, "<b>"), (2, "<c>")]


@pytest.mark.parametrize(
    "source",
    [
        "{% set s %}\n{% for m in messages %} {{ m.content }} {% endfor %}{% endset %}{{ s | trim }}",
        "{% set s %}\n{% for m in messages %}{{ m.content }}{% endfor %}{% endset %}{{ s | length }}{{ s }}",
        "{% set s %}\n{% for m in messages %}{{ m.content }}{% endfor %}{% endset %}{{ s[:3] }}",
        "{% macro f() %}\n{% for m in messages %}{{ m.content }}{% endfor %}{% endmacro %}{{ f().replace('Hi', 'Ho').center(30) }}",
        "{% filter upper %}\n{% for m in messages %}{{ m.content }}{% endfor %}{% endfilter %}{% set s %}\n{% for m in messages %}{{ m.content }}{% endfor %}{% endset %}{{ s[1:] }}",
    ],
)  # fmt: skip
def test_held_back_text_that_is_changed_is_refused(source: str) -> None:
    with pytest.raises(
        TemplateError, match=r"line 2.*: a loop over messages inside a macro or `set` block.*--mask scan"
    ):
        template_of(source).render(conversation(talk("Hi", "Hello.")))
