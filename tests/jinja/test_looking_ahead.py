"""Which templates may look at later messages, small ones and by what published ones really print."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import nodes
from published_templates import TODAY, published

from sftprep.errors import SftprepError
from sftprep.jinja.compiled import CompiledTemplate
from sftprep.jinja.looking_ahead import first_looked_at
from sftprep.jinja.sandbox import Sandbox

LOOP = "{% for m in messages %}"


def tree(source: str) -> nodes.Template:
    return Sandbox(None).parse(source)


@pytest.mark.parametrize(
    ("source", "looked_at"),
    [
        (LOOP + "{{ m.content }}{% endfor %}", 0),
        (LOOP + "{{ loop.index0 }}{{ loop.first }}{{ loop['previtem'] }}{% endfor %}", 0),
        ("{% for m in messages if m.content %}{{ m.role }}{% endfor %}", 0),
        (LOOP + "{% for c in m.calls %}{{ loop.last }}{{ loop.length }}{% endfor %}{% endfor %}", 0),
        ("{% if messages[0].role == 'system' %}S{% endif %}" + LOOP + "{{ m.content }}{% endfor %}", 1),
        ("{% set rest = messages[1:] %}{% for m in rest %}{{ m }}{% endfor %}", 0),
        ("{% set rest = messages[1:] if messages[0].x else messages %}{% for m in rest %}{{ m }}{% endfor %}", 2),
        ("{% set messages = messages[2:] %}{{ messages[0] }}" + LOOP + "{{ m }}{% endfor %}", 3),
        # what may depend on later ones
        (LOOP + "{{ loop.last }}{% endfor %}", None),
        (LOOP + "{{ loop.nextitem }}{% endfor %}", None),
        (LOOP + "{{ loop['revindex'] }}{% endfor %}", None),
        (LOOP + "{{ f(loop) }}{% endfor %}", None),
        (LOOP + "{% for c in loop %}{{ c }}{% endfor %}{% endfor %}", None),
        (LOOP + "{{ messages[loop.index0 - 1] }}{% endfor %}", None),  # the last one, for the first
        (LOOP + "{{ messages[-1] }}{% endfor %}", None),
        (LOOP + "{{ messages[1] }}{% endfor %}", None),
        (LOOP + "{{ messages | length }}{% endfor %}", None),
        ("{% for m in messages | reverse %}{{ m }}{% endfor %}", None),
        ("{% for m in messages[::-1] %}{{ m }}{% endfor %}", None),
        ("{% for m in messages[:-1] %}{{ m }}{% endfor %}", None),
        ("{% for m in messages recursive %}{{ m }}{% endfor %}", None),
        (LOOP + "x{% endfor %}" + LOOP + "y{% endfor %}", None),
        ("{% macro f() %}{{ messages[-1] }}{% endmacro %}" + LOOP + "{{ f() }}{% endfor %}", None),
        ("{% if x %}" + LOOP + "{{ m }}{% endfor %}{% endif %}", None),
        ("{% set t = messages | selectattr('a') | list %}" + LOOP + "{{ m }}{{ t }}{% endfor %}", None),
        ("{% include 'x' %}" + LOOP + "{{ m }}{% endfor %}", None),
        ("no loop", None),
    ],
)
def test_what_is_looked_at(source: str, looked_at: int | None) -> None:
    assert first_looked_at(tree(source)) == looked_at


def test_published_templates_print_what_they_printed_before(shared_data: Path) -> None:
    """Where a template is said not to look ahead, what it prints of some messages begins what it prints of more."""
    from datetime import datetime

    messages = [
        {"role": role, "content": f"Said {number}.", "reasoning_content": f"Thought {number}."}
        for number, role in enumerate(["system", "user", "assistant", "user", "assistant", "user", "assistant"])
    ]
    looked_at = 0
    for template in published(shared_data):
        compiled = CompiledTemplate(template.source, datetime.fromisoformat(TODAY))
        if compiled.looked_at is None:
            continue
        variables = {**template.special, "messages": messages, "tools": None, "add_generation_prompt": False}
        try:
            whole = compiled.mark(variables)
            before = compiled.mark({**variables, "messages": messages[:4]})
        except SftprepError:
            continue
        looked_at += 1
        assert whole.text[: whole.over].startswith(before.text[: before.over].rstrip()), template.name
    assert looked_at > 25
