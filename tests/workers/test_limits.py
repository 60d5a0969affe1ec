"""A conversation costs at most so much time and memory, whatever its template does."""

from __future__ import annotations

import pickle
import resource
import signal

import pytest
import template_zoo as zoo
from breeds import conversation, talk, template_of

from sftprep.errors import ConversationError
from sftprep.workers.limits import Bounded, LimitError, Suspect
from sftprep.workers.trial import run_apart

SECONDS = 1.0  # of a process's own time: a machine may be as busy as it likes

DOUBLED = "{% set ns = namespace(s='ab') %}{% for i in range(99) %}{% set ns.s = STEP %}{% endfor %}"
NESTED = "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = STEP %}{% endfor %}"
NESTED_TWICE = NESTED.replace("STEP", "[ns.l, ns.l]") + "{% set a = ns.l %}" + NESTED.replace("STEP", "[ns.l, ns.l]")
TUPLE = NESTED.replace("STEP", "(ns.l, ns.l)")
# All that makes something long out of something short, and all that takes long.
BOMBS = [
    "{{ 'a' * 10 ** 11 }}",
    "{{ 10 ** 11 * 'a' }}",
    "{% set x = 'a' * 9 ** 6 %}{{ x | length }}{{ (x, x) * 9 ** 9 }}",
    "{{ 10 ** (10 ** 10) }}",
    "{% set ns = namespace(n=3) %}{% for i in range(99) %}{% set ns.n = ns.n * ns.n %}{% endfor %}",
    *(
        DOUBLED.replace("STEP", step)
        for step in (
            "ns.s + ns.s",
            "ns.s ~ ns.s",
            "(ns.s | escape) + ns.s",
            "ns.s.replace('a', 'aa').replace('b', 'bb')",
            "ns.s | replace('b', 'bb') | replace('a', 'aa')",
            "[ns.s, ns.s] | join",
            "''.join([ns.s, ns.s])",
            "'%s%s' % (ns.s, ns.s)",
            "'{0}{0}'.format(ns.s)",
            "(ns.s.upper() + ns.s.lower())[0:]",
        )
    ),
    *(
        NESTED.replace("STEP", "[ns.l, ns.l]") + use
        for use in (
            "{{ ns.l }}",
            "{{ ns.l | tojson }}",
            "{{ 'x' ~ ns.l }}",
            "{{ ns.l | string }}",
            "{{ '%s' % (ns.l,) }}",
        )
    ),
    NESTED_TWICE + "{{ a == ns.l }}",
    NESTED_TWICE + "{{ [a] | unique | list | length }}{{ a in [ns.l] }}",
    TUPLE + "{{ {ns.l: 1} }}",
    TUPLE + "{{ [ns.l] | unique | list | length }}",
    "{% set ns = namespace(l=[1]) %}{% for i in range(99) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
    "{{ 'a' | center(10 ** 11) }}",
    "{{ 'a'.ljust(10 ** 11) }}",
    "{{ ('a' | escape).ljust(10 ** 11) }}",
    "{{ 'a'.zfill(10 ** 11) }}",
    "{{ '\t'.expandtabs(10 ** 9 * 2) * 9 }}",
    "{{ 'a\nb' | indent(10 ** 11) }}",
    "{{ [1] | tojson(indent=10 ** 11) }}",
    "{{ '%2000000000d' % 1 }}",
    "{{ '%*d' % (2 * 10 ** 9, 1) }}",
    "{{ '%2000000000d' | format(1) }}",
    "{{ '{:2000000000}'.format(1) }}",
    "{{ '{:{}}'.format(1, 2 * 10 ** 9) }}",
    "{{ '{0[0]:{0[1]}}'.format(['a', 2 * 10 ** 9]) | length }}",
    "{{ [1] | batch(10 ** 9, fill_with=0) | list }}",
    "{{ [1] | slice(10 ** 11) | list }}",
    "{{ (1).to_bytes(10 ** 11) }}",
    "{% set s = 'a' * 10 ** 6 %}{% set ns = namespace(x=[]) %}{% for i in range(10 ** 5) %}{% set ns.x = ns.x + [s[i:]] %}"
    "{% endfor %}",
    "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
    "{% for i in range(99999) %}{{ i }}{{ 'a' * 999 }}{% endfor %}",
    "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(99) }}",
    "{% macro f(n) %}{% if n %}{% set x = f(n - 1) + f(n - 1) %}{% endif %}{% endmacro %}{{ f(99) }}",
    "{% for x in [1] recursive %}{{ loop([1]) }}{{ loop([1]) }}{% endfor %}",
]


@pytest.mark.parametrize("bomb", BOMBS)
def test_a_bomb_ends_in_an_error_or_ends_its_process(bomb: str) -> None:
    template = template_of("{% for m in messages %}{{ m.content }}{% endfor %}" + bomb)

    def explode() -> None:
        with Bounded("the template", SECONDS, 200 << 20):
            template.render(conversation(talk("boom")))

    with pytest.raises(ConversationError):
        run_apart(explode, what="the template")


def test_what_is_within_limits_is_not_changed() -> None:
    messages = talk(*["x" * 1000] * 2000)
    limits = resource.getrlimit(resource.RLIMIT_AS)
    with Bounded("the template"):
        rendering = template_of(zoo.CHATML).render(conversation(messages))
    assert len(rendering.spans) == 1000
    assert resource.getrlimit(resource.RLIMIT_AS) == limits
    assert signal.getitimer(signal.ITIMER_PROF) == (0, 0)


def test_text_without_end_costs_its_conversation() -> None:
    with pytest.raises(ConversationError, match="more than 16,777,216 characters"):
        template_of(zoo.CHATML).render(conversation(talk("x" * (1 << 24))))


def test_an_error_in_the_body_lifts_the_limits() -> None:
    limits = resource.getrlimit(resource.RLIMIT_AS)
    for error in (ZeroDivisionError, MemoryError):
        with pytest.raises(LimitError if error is MemoryError else error), Bounded("it"):
            raise error
        assert resource.getrlimit(resource.RLIMIT_AS) == limits
        assert signal.getitimer(signal.ITIMER_PROF) == (0, 0)


def test_limits_inside_limits_give_the_clock_back() -> None:
    with Bounded("outer", 100):
        with Bounded("inner", 1):
            assert signal.getitimer(signal.ITIMER_PROF)[0] < 2
        assert 2 < signal.getitimer(signal.ITIMER_PROF)[0] < 101


def test_a_suspect_outlives_the_process() -> None:
    suspect = Suspect()
    assert suspect.item() == ()

    def die() -> None:
        suspect.is_at(3, 1, 1 << 40)
        signal.raise_signal(signal.SIGKILL)

    with pytest.raises(LimitError):
        run_apart(die, what="it")
    assert suspect.item() == (3, 1, 1 << 40)
    suspect.is_at(7)
    assert suspect.item() == (7,)
    suspect.is_at()
    assert suspect.item() == ()
    assert pickle.loads(pickle.dumps(suspect)).item() == ()
