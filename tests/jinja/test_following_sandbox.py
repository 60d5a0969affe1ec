"""No way through Jinja loses who wrote a text: each filter and each method of strings, given texts in all kinds of values."""

from __future__ import annotations

import pytest
from conftest import FULL

from sftprep.jinja.compiled import CompiledTemplate
from sftprep.jinja.written_text import Written, parts_of

SAID = "\N{GREEK SMALL LETTER LAMDA}"  # printed as it is, in other case, in HTML and in JSON
SHOWN = (SAID, SAID.upper(), "%CE%BB", "bb", "3bb", "u03bb")
VALUES = ["t", "[t, 1]", "{t: t}", "d", "d.items()", "d.values()", "d.keys()", "[d]", "namespace(a=t)", "(t,)", "'a%s{}b'", "t ~ 'x'", "t | list"]  # fmt: skip
ARGUMENTS = ["", "(t)", "(2)", "('a')", "('a', t)", "(t, t)", "(attribute='k')", "('upper')", "('k', 'x')", "(2, t)", "(indent=1)", "([t, t])", "({'a': t})"]  # fmt: skip
TAILS = [
    "{{ X }}",
    "{{ X | list }}",
    "{{ 'x' ~ X }}",
    "{% for i in X %}{{ i }}{% endfor %}",
    "{{ '%s' % (X,) }}",
    "{{ X + t }}",
]
OWNERS = ["t", "'a%s{}b'", "(t ~ 'x')", "('x' ~ t)", "t[0]"]
KINDS = CompiledTemplate("")
FILTERS = sorted(name for name in KINDS.environment.filters if not name.startswith(" "))
METHODS = sorted(name for name in dir(str) if not name.startswith("_"))


def is_followed(tail: str, expression: str) -> bool:
    """Whether what is printed is known to be whose; if not, or if the template fails, a conversation is refused."""
    said = Written(f"{SAID}x {SAID}", ((4, frozenset({0})),))
    key = Written(f"{SAID}", ((1, frozenset({0})),))
    plain = {"messages": [], "t": str.__str__(said), "d": {"k": str.__str__(said), str.__str__(key): "v"}}
    try:
        compiled = CompiledTemplate(tail.replace("X", expression))
        expected = compiled.mark(plain).text
        pieces = list(compiled.follow({"messages": [], "t": said, "d": {"k": said, key: "v"}}))
    except Exception:
        return False
    for piece in pieces if "".join(pieces) == expected else ():
        for part, writer in parts_of(piece):
            assert writer is not None or not any(shown in part for shown in SHOWN), (expression, tail, part)
    return "".join(pieces) == expected


@pytest.mark.parametrize("kind", ["filters", "methods"])
def test_no_filter_or_method_makes_a_said_text_the_templates(kind: str) -> None:
    if kind == "filters":
        tried = [f"({value} | {name}{given})" for name in FILTERS for value in VALUES for given in ARGUMENTS]
    else:
        given = ["()", *ARGUMENTS[1:], "(a=t)"]
        tried = [f"{owner}.{name}{each}" for name in METHODS for owner in OWNERS for each in given]
    pairs = [(tail, expression) for expression in tried for tail in TAILS][:: 1 if FULL else 23]
    followed = sum(is_followed(tail, expression) for tail, expression in pairs)

    print(f"{followed} of {len(pairs)} were followed")
    assert followed > len(pairs) / 10


@pytest.mark.parametrize(
    "source",
    [
        "{% macro f(x) %}<{{ x }}>{% endmacro %}{{ f(t) }}{{ f(t) | trim }}{{ f(t)[1:] }}{{ f(t).split('<')[1] }}",
        "{% set x %}{{ t }}{% endset %}{{ x }}{{ x | upper }}{{ x ~ x }}",
        "{% macro f() %}{{ caller(t) }}{% endmacro %}{% call(x) f() %}{{ x }}{% endcall %}",
        "{% filter upper %}{{ t }}{% endfilter %}{% filter replace('x', t) %}ax{% endfilter %}",
        "{% for k, v in d.items() recursive %}{{ k }}{{ v }}{% endfor %}{% set a, b = t, t %}{{ a ~ b }}",
        "{{ dict(a=t) }}{{ dict(d).a }}{{ namespace(a=t).a }}{{ cycler(t).next() }}{% set j = joiner(t) %}{{ j() }}{{ j() }}",
        "{% block x %}{{ t }}{% endblock %}{{ self.x() }}{{ t if t else '' }}{{ t * 2 }}{{ [t] * 2 }}{{ t[::-1] }}",
        "{{ ('<x>' | e) + t + '<y>' }}{{ t + ('<' | safe) }}{{ (t | safe) ~ t }}{{ '<' + (t | e | safe) }}{{ ('x' | forceescape) + t }}",
        "{{ ('a' ~ t) | tojson }}{{ {'a': t} | tojson(indent=2) }}{{ [t, t] | join(t) }}{{ '-'.join([t, 'x']) }}",
    ],
)
def test_statements_keep_writers(source: str) -> None:
    said = Written(SAID, ((1, frozenset({0})),))
    compiled = CompiledTemplate(source)
    pieces = list(compiled.follow({"messages": [], "t": said, "d": {said: said}}))
    plain = {"messages": [], "t": SAID, "d": {SAID: SAID}}

    assert "".join(pieces) == compiled.mark(plain).text
    found = [(part, writer) for piece in pieces for part, writer in parts_of(piece)]
    assert sum(part.count(SAID) + part.count(SAID.upper()) for part, _ in found) > 0
    assert not [part for part, writer in found if writer is None and SAID in part.lower()]


def test_what_the_template_writes_beside_it_stays_the_templates() -> None:
    source = (
        "{% macro f(x) %} <s>{{ x }}<e> {% endmacro %}{{ f(t) | trim }}{{ (f(t) | replace('x', 'y')).split('<e>')[0] }}"
    )
    pieces = CompiledTemplate(source).follow({"messages": [], "t": Written("axa", ((3, frozenset({0})),))})
    own, said = None, frozenset({0})

    assert [part for piece in pieces for part in parts_of(piece)] == [
        ("<s>", own), ("axa", said), ("<e>", own), (" <s>", own), ("a", said), ("y", own), ("a", said)
    ]  # fmt: skip
