"""What a template may do is what it may do in Transformers."""

from __future__ import annotations

import pytest
from breeds import Breed, conversation, ours, talk, template_of, theirs

from sftprep.errors import ConversationError, TemplateError

EXPRESSIONS = [
    "{{ {'b': '<é>', 'a': [1, none, true]} | tojson }}",
    "{{ {'b': 1, 'a': 2} | tojson(indent=2, sort_keys=true) }}",
    "{{ {'b': 'é'} | tojson(ensure_ascii=true, separators=(',', ':')) }}",
    "{{ [1, (2, 'x'), none, 1.5] }}{{ missing }}{{ none }}{{ true }}",
    "{{ 1 ~ 'a' ~ none ~ [1] ~ missing }}",
    "{{ 'abc' * 3 + 'd' }}{{ [1] * 2 + [3] }}{{ (1,) + (2,) }}{{ 7 // 2 }}{{ 2 ** 10 }}{{ 7 % 4 }}{{ 2.0 ** 0.5 }}{{ -3 * 2 }}",
    "{{ '{0.__class__}'.format(1) }}{{ ''.__class__ }}{{ messages.__len__ }}",
    "{{ '%s is %05.1f' % ('a', 2) }}{{ '{:>5}|{}'.format('x', [1]) }}{{ '{a}'.format_map({'a': 1}) }}",
    "{{ 'a,b'.split(',') | join('; ') }}{{ [1, 'b'] | join }}{{ [{'x': 1}, {'x': 2}] | join(',', attribute='x') }}{{ '-'.join(['a', 'b']) }}",
    "{{ 'a-b' | replace('-', '+') }}{{ 'aXb'.replace('X', 'YY', 1) }}{{ 'ab' | center(7) }}{{ 'ab'.rjust(4) }}{{ 'a\\tb'.expandtabs(4) }}",
    "{{ 'a\\nb' | indent(2, first=true) }}{{ 'a\\nb' | indent(width='> ') }}{{ 'a b c' | wordwrap(3) }}",
    "{{ missing | replace('a', 'b') }}{{ missing | join }}{{ missing | center(3) }}{{ missing | string }}{{ {'a': 1}.keys() | join }}",
    "{{ 2.567 | round(1) }}{{ 2.5 | round(method='ceil') }}{{ [3, 1] | sort | string }}{{ [1, 2] | sum }}{{ range(5) | batch(2, fill_with=0) | list }}",
    "{{ range(5) | slice(slices=2) | list }}{{ '%s-%s' | format(1, 'b') }}{{ ['a'] | map('upper') | list }}{{ [1] | pprint }}",
    "{% set ns = namespace(a=1, self=2) %}{% set ns.a = ns.a + 1 %}{{ ns.a }}{{ dict(a=1) }}{{ dict.fromkeys('ab') }}",
    "{% for i in range(9) %}{% if i == 2 %}{% continue %}{% elif i == 5 %}{% break %}{% endif %}{{ i }}{% endfor %}",
    "{% for i in [] %}{{ i }}{% else %}none{% endfor %}{% for k, v in {'a': 1}.items() %}{{ k }}{{ v }}{{ loop.last }}{% endfor %}",
    "{% for x in [1, [2, [3]]] recursive %}{{ loop(x) if x is iterable else x }}{% endfor %}",
    "{% macro m(a, b='c') %}{{ a }}{{ b }}{{ caller() if caller }}{% endmacro %}{{ m(1) }}{% call m(2, b=3) %}!{% endcall %}",
    "{% filter upper %}a{% endfilter %}{% set b %}x{% endset %}{{ b | length }}{% with c = 1 %}{{ c }}{% endwith %}{% block d %}e{% endblock %}",
    "  {% if true %}\n  a\n  {% endif %}\n{#- c -#}  b\n",
    "{{ [{'x': 1}, {'x': 2, 'y': 3}] | selectattr('x', 'gt', 1) | list }}{{ ['a', {'x': 1}] | selectattr('x') | list }}",
    "{{ 'abc' | selectattr('x', 'equalto', 'b') | list }}{{ 'abc' | selectattr('x', 'undefined') | list }}{{ '' | selectattr('x') | list }}",
    "{{ 'abc' | selectattr('title') | list | length }}{{ 'abc' | selectattr('0', 'equalto', 'b') | list }}{{ 'ab' | selectattr(0, 'equalto', 'b') | list }}",
    "{{ messages[0].content.append is defined }}{{ messages | length }}{{ tools is none }}{{ documents is none }}{{ add_generation_prompt }}",
]


@pytest.mark.parametrize("source", EXPRESSIONS)
def test_expressions_and_statements_as_in_transformers(source: str) -> None:
    text = theirs(Breed(source), conversation(talk("Hi")))

    assert text is not None
    assert ours(template_of(source), conversation(talk("Hi"))) == text


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__ }}",
        "{{ messages.append(1) }}",
        "{{ messages[0].update({}) }}",
        "{{ messages[0].clear() }}",
        "{% set ns = namespace(_x=1) %}",
        "{% set ns = namespace() %}{% set ns._x = 1 %}",
        "{{ dict.__class__() }}",
        "{{ [1, 2] | random }}",
        "{{ lipsum() }}",
        "{% include 'x' %}",
        "{{ raise_exception('no') }}",
        "{{ missing.attribute }}",
        "{{ 'a' + none }}",
        "{{ 1 // 0 }}",
        "{{ messages | nofilter }}",
        "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    ],
)
def test_what_a_template_may_not_do_rejects_the_conversation(source: str) -> None:
    with pytest.raises((ConversationError, TemplateError)):
        template_of(source).render(conversation(talk("Hi")))
