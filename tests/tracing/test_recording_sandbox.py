"""What a template does to a value is recorded, or the recording ends."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest
from random_templates import random_family, random_template

from sftprep.errors import ConversationError, SftprepError, TemplateError
from sftprep.records.conversation import Conversation
from sftprep.template.chat_template import open_template
from sftprep.template.writers import utf_8, writers_of
from sftprep.tracing.decision_tree import Program, Tree
from sftprep.tracing.recorder import INPUTS, RecordingTemplate, traced_conversation
from sftprep.tracing.steps import Forms, Recording, Untraceable


class Replayed:
    """A template whose ways are recorded whatever they are: texts only."""

    def __init__(self, source: str) -> None:
        self.template = open_template(source, {}, control_tokens=["<s>", "<e>"], roles=())
        self.recorder = RecordingTemplate(self.template.compiled, None)
        self.trees: dict[str, Tree[bool]] = {}

    def jinja(self, given: Conversation) -> str:
        template = self.template
        return template.compiled.mark(template.variables.of(given), held_back=False).text

    def replay(self, given: Conversation) -> tuple[str, bool] | bool:
        tree = self._tree(given)
        try:
            return tree.replay()(given.messages, given.tools, given.template_kwargs)
        except Exception:  # a step may fail; then Jinja has to say how
            return True

    def record(self, given: Conversation) -> bool:
        """Whether the conversation's way was recorded to its end."""
        tree = self._tree(given)
        recording = Recording(tree.steps, {name: getattr(given, name) for name in INPUTS})
        try:
            variables = self.template.variables.of(traced_conversation(given, recording))
            printed = self.recorder.printed(variables, recording, held_back=False)
            program = Program(printed.merged, True)
        except (Exception, Untraceable):  # a stand-in used as a string raises TypeError
            program = None
        tree.insert(recording.observed, program)
        return program is not None

    def follow(self, given: Conversation, text: str) -> None:
        """What is replayed must be no conversation that the exact way refuses."""
        writers_of(self.template.compiled, given, self.template.variables.of(given), utf_8(text))

    def _tree(self, given: Conversation) -> Tree[bool]:
        keys = [
            [(key, value if key == "role" else type(value).__name__) for key, value in m.items()]
            for m in given.messages
        ]
        shape = repr((keys, type(given.tools), {key: type(value) for key, value in given.template_kwargs.items()}))
        return self.trees.setdefault(shape, Tree(INPUTS, Forms({})))


def check(replayed: Replayed, family: list[Conversation]) -> tuple[int, int]:
    """Each conversation replayed, or else recorded, gives Jinja's text. How many were replayed; how many recorded."""
    counts = [0, 0]
    for given in family:
        try:
            text: str | None = replayed.jinja(given)
        except ConversationError:
            text = None
        found = replayed.replay(given)
        if isinstance(found, tuple):
            assert found[0] == text
            replayed.follow(given, found[0])
            counts[0] += 1
        elif not found:
            counts[1] += replayed.record(given)
    return counts[0], counts[1]


def say(*texts: Any, **more: Any) -> Conversation:
    roles = ("user", "assistant")
    return Conversation(
        [{"role": roles[i % 2], "content": text, **more} for i, text in enumerate(texts)], None, {}, None
    )


@pytest.mark.parametrize("seed", range(120))
def test_random_templates_replay_what_jinja_prints(seed: int) -> None:
    random = Random(seed)
    try:
        replayed = Replayed(random_template(random))
    except (TemplateError, Untraceable):
        pytest.skip("the template does not compile")
    for _ in range(2):
        check(replayed, random_family(random, 12))


def test_random_templates_are_replayed_often_enough_to_tell() -> None:
    counts = [0, 0]
    for seed in range(20):
        random = Random(seed)
        try:
            replayed = Replayed(random_template(random))
        except (TemplateError, Untraceable):
            continue
        found = check(replayed, random_family(random, 12))
        counts = [counts[0] + found[0], counts[1] + found[1]]
    assert counts[0] > 40
    assert counts[1] > 10


# What a template may do to get at a value's text behind the recording's back. True: it can be replayed all the same.
TRICKS = {
    "{{ m.content }}": True,
    "{{ m.content if m.content }}": True,
    "{% if 'a' in m.content %}yes{% endif %}": True,
    "{% if m.content == 'a' or m.content in ['b', 'c'] %}yes{% endif %}": True,
    "{% if m.content in 'abc' %}yes{% endif %}": False,
    "{% if m.content in {'a': 1} %}yes{% endif %}": False,
    "{{ {'a': 'yes'}[m.content] }}": False,
    "{{ {m.content: 'yes'} }}": False,
    "{{ m[m.content] }}": False,
    "{% if m.content < 'b' %}yes{% endif %}": True,
    "{% if m.content | length > 2 %}long{% endif %}{{ m.content | length }}": True,
    "{{ m.content.split('a') | length }}": True,
    "{{ (m.content ~ '') | length }}": True,
    "{% set x %}{{ m.content }}{% endset %}{% if x %}{{ x | length }}{% endif %}": True,
    "{% macro f(x) %}{{ x }}{% endmacro %}{% if 'a' in f(m.content) %}yes{% endif %}": True,
    "{% macro f(x) %}{{ x }}{% endmacro %}{{ f(m.content).split('a')[0] }}": True,
    "{% set ns = namespace(x=m.content) %}{% if ns.x == 'a' %}{{ ns.x.upper() }}{% endif %}": True,
    "{% if loop.nextitem %}{{ loop.nextitem.content }}{% endif %}|{{ loop.changed(m.content) }}": True,
    "{{ loop.cycle(m.content, 'x') }}": True,
    "{{ 'aXc'.replace('X', m.content) }}": False,
    "{{ 'abc'.startswith(m.content) }}": True,
    "{{ 'abc'.find(m.content) }}": True,
    "{{ ', '.join([m.content, 'x']) }}": True,
    "{{ [m.content, 'x'] | join(', ') }}": True,
    "{{ '%s!' % m.content }}": True,
    "{{ '%5s!' % m.content }}": False,
    "{{ '{}!'.format(m.content) }}": False,
    "{{ '{0.content}!'.format(m) }}": False,
    "{{ m.content % 'x' }}": False,
    "{{ m.content * 2 }}": False,
    "{{ 2 * m.content }}": False,
    "{{ range(m.content | length) | list }}": True,
    "{{ m.content | int }}": False,
    "{{ m.content | escape }}": False,
    "{{ m.content | safe }}": False,
    "{{ '<b>' | safe ~ m.content }}": True,
    "{{ ('<b>' | safe) + m.content }}": False,
    "{{ ('<b>' | safe | upper) + m.content }}{{ '<b>' | safe | trim | replace('b', m.content) }}": False,
    "{{ ['<b>' | safe, m.content] | join('<b>' | safe) }}": False,
    "{{ m.content | list }}": False,
    "{% for c in m.content %}{{ c }},{% endfor %}": False,
    "{% for c in m.content %}{% if c.type == 'image' %}{{ c }}{% endif %}{% endfor %}": True,
    "{% for c in m.content %}{% if c is string %}{{ c }}{% endif %}{% endfor %}": False,
    "{{ m.content[(m.content | length) - 2 :] }}{{ 1 + m.content | length }}": True,
    "{% set n = m.content | length - 3 %}{% if n < 0 %}-{% endif %}{{ m.content[: n + 1.5] if n > 9 }}{{ n - n }}": True,
    "{{ m.content | length + m.content }}": False,
    "{{ m.content | selectattr('type', 'equalto', 'image') | list | length }}": True,
    "{{ m.content | selectattr('type', 'undefined') | list | length }}": False,
    "{{ m.content | selectattr('title') | list | length }}": False,
    "{{ m.content | first }}{{ m.content | reverse }}": False,
    "{{ m.content[0] }}{{ m.content[-1:] }}{{ m.content[::-1] }}": True,
    "{{ m.content | sort }}": False,
    "{{ messages | map(attribute='content') | sort | join }}": False,
    "{{ messages | map(attribute='content') | unique | join }}": False,
    "{{ messages | groupby('content') | length }}": False,
    "{{ messages | sum(attribute='content', start='') }}": False,
    "{{ messages | map(attribute='content') | map('upper') | join('-') }}": True,
    "{{ messages | selectattr('content', 'equalto', 'a') | list | length }}": True,
    "{{ messages | map(attribute='content') | select('in', 'abc') | join }}": False,
    "{{ messages | tojson }}{{ m | tojson(indent=2) }}": True,
    "{{ m | string }}{{ messages }}": True,
    "{{ dict(m, x=1) | tojson }}{{ dict(a=m.content).a }}": True,
    "{{ m.items() | list | length }}{% for k, v in m.items() %}{{ k }}{{ v }}{% endfor %}": True,
    "{{ m | dictsort }}": False,
    "{{ m | pprint }}": False,
    "{{ m.content is sameas m.content }}": False,
    "{{ m.content is sameas none }}": True,
    "{{ m.content is string }}{{ m.content is mapping }}{{ m.content is iterable }}{{ m.content is number }}": True,
    "{{ m.content is callable }}{{ m.content.strip is callable }}": False,
    "{{ m.content.upper }}": False,
    "{{ m.content.__class__ }}{{ m.content.__len__ }}": False,
    "{{ m.content.nothing is defined }}{{ m.content.nothing }}": True,
    "{{ m.content['nothing'] }}{{ m.content[99] }}": False,
    "{{ m.content | attr('upper') }}": False,
    "{{ m.content.encode() }}": False,
    "{{ m.content.center(9) }}": False,
    "{{ m.content.translate({97: 'b'}) }}": False,
    "{{ m.content.index('a') }}": True,
    "{{ m.content is eq 'a' }}{{ m.content is ne m.role }}{{ m.content is in ['a'] }}": True,
    "{{ m.content is lower }}": True,
    "{{ m.content | wordcount }}{{ m.content | wordwrap(2) }}": False,
    "{{ m.content | default('x', true) }}{{ m.nothing | default(m.content) }}": True,
    "{% set x = m.content.partition('a') %}{{ x[0] }}{{ x[2] }}": True,
    "{% set a, b = m.content, 'x' %}{{ a ~ b }}": True,
    "{% autoescape true %}{{ m.content }}{% endautoescape %}": False,
    "{% filter upper %}{{ m.content }}{% endfilter %}": False,
    "{% filter length %}{{ m.content }}{% endfilter %}": False,
    "{% for k in m.content.split(' ') if k %}{{ k }};{% endfor %}": True,
    "{% for k in m.content.split(' ') recursive %}{{ k }};{% endfor %}": True,
    "{% if m.content %}{{ m.content.strip() or 'empty' }}{% endif %}": True,
    "{{ (m.content, 1) == ('a', 1) }}": True,
    "{{ m.content.replace('a', 'aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa') }}": False,
    "{{ m.content | tojson(indent=99) }}": False,
    "{{ m.content | tojson(**{'indent': 2}) }}": True,
    "{{ m.content.split(**{'sep': 'a'})[0] }}{{ m.content.split(maxsplit=1, sep='a')[-1] }}": True,
    "{{ m.content.strip(**{'x) or (1': 2}) }}": False,
    "{% if raise_exception(m.content) %}{% endif %}": False,
    "{{ cycler(m.content, 'x').next() }}{% set j = joiner(m.content) %}{{ j() }}{{ j() }}": True,
    "{% call(x) (m.content) %}{% endcall %}": False,
    "{{ self }}{{ m.content }}": False,
    "{{ messages.index(m) }}{{ messages.count(m) }}": True,
    "{{ loop.index ~ m.content ~ 1.5 ~ none ~ true }}": True,
    "{{ m.content ~ undefined_name }}{{ undefined_name | string }}": True,
}
TEXTS = ["a", "b", "ab c", "", "xyz", "a", "c", "<e>", "B", "content", "1", " a ", "%s", "{}", "&<", "bca", "\n", "É"]


@pytest.mark.parametrize("trick", TRICKS)
def test_no_text_leaks_past_a_recording(trick: str) -> None:
    try:
        replayed = Replayed("{% for m in messages %}" + trick + "{% endfor %}")
    except (TemplateError, Untraceable):
        assert not TRICKS[trick]
        return
    family = [say(one, other) for one in TEXTS for other in TEXTS[:3]]
    found, recorded = check(replayed, [*family, *family])

    assert (recorded > 0) == TRICKS[trick]
    assert (found > 0) == TRICKS[trick]


# Values of other types than str: of parts, tools, arguments and variables.
DEEP = [
    "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}{% endfor %}{% endif %}",
    "{% for p in m.content %}{% if p.type == 'text' %}{{ p.text }}{% elif 'n' in p %}{{ p.n + 1 }}{% endif %}{% endfor %}",
    "{{ m.content | map(attribute='text') | join }}{{ m.content | length }}{{ m.content[0].text }}{{ m.content[9] }}",
    "{{ m.content | tojson }}{{ m.content }}{{ m.content[1:] | tojson }}",
    "{% for k, v in m.content[0].items() %}{{ k }}={{ v }};{% endfor %}{{ m.content[0] | length }}",
    "{% for k in m.content[0] %}{{ k }}{% endfor %}{{ m.content[0].keys() | list }}{{ m.content[0].values() | list }}",
    "{{ m.content[0].get('text') }}{{ m.content[0].get('none', 'd') }}{{ m.content[0]['n'] }}{{ m.content[0].x }}",
    "{{ m.content[0].n * 2 }}{{ m.content[0].n > 2 }}{{ -m.content[0].n }}{{ m.content[0].n is odd }}",
    "{{ m.content[0].n | string }}{{ m.content[0].n ~ 'x' }}{{ m.content[0].n == 3 }}{{ 'x'[:m.content[0].n] }}",
    "{{ m.content[0].b is true }}{{ m.content[0].b is boolean }}{{ m.content[0].b and 'x' }}{{ m.content[0].b }}",
    "{{ m.content[0].z is none }}{{ m.content[0].z }}{{ m.content[0].z == none }}{{ m.content[0].text == none }}",
    "{{ m.content == ['a'] }}{{ 'a' in m.content }}{{ m.content[0] == m.content[-1] }}{{ m.content[::-1] | tojson }}",
    "{{ (m.content | first).text }}{{ (m.content | last) | tojson }}{{ m.content | reverse | list | tojson }}",
    "{{ m.content | selectattr('n', 'defined') | map(attribute='n') | list }}{{ m.content is iterable }}",
    "{{ m.content | tojson(sort_keys=true) }}{{ m.content | tojson(ensure_ascii=true, separators=(',', ':')) }}",
    "{{ {'a': m.content, 'b': [m.content[0].text, 1]} | tojson }}{{ [m.content[0].text] }}",
    "{{ range(m.content[0].n or 0) | list }}{{ m.content[m.content[0].n or 0] is defined }}",
    "{{ m.content[0][m.content[0].text] }}",
    "{{ m.content.nothing is defined }}{{ m.content[0].strip is defined }}{{ m.content[0].n.real }}",
]


@pytest.mark.parametrize("source", DEEP)
def test_values_of_all_types_are_replayed(source: str) -> None:
    replayed = Replayed("{% for m in messages %}" + source + "{% endfor %}")
    parts = [
        {"type": "text", "text": "a", "n": 3, "b": True, "z": None},
        {"type": "text", "text": "é<e>", "n": 2, "b": False, "z": None},
        {"text": "b", "n": 2.5, "type": "other", "z": 0},
        {"type": "text", "text": "text", "items": [1, {"x": "y"}]},
        {},
    ]
    contents: list[Any] = [[one, other] for one in parts for other in parts]
    contents += [[], ["a"], ["a", "b"], "a", [[["a"]]], [parts[0]], {"text": "a"}, {}]
    found, _ = check(replayed, [say(content) for content in contents * 2])

    assert found > 4


MEASURING = [
    "{{ m.content[:3] }}",
    "{{ m.content[0] }}{{ m.content[-1] }}",
    "{{ m.content.strip('a') }}",
    "{% if '<' in m.content %}x{% endif %}",
    "{{ m.content.rstrip('<') }}",
    "{% if m.content.startswith('ab') %}x{% endif %}",
    "{% if m.content.endswith('b') %}x{% endif %}",
    "{% if m.content == 'a' %}x{% endif %}",
    "{% if m.content in ['a'] %}x{% endif %}",
    "{% if 'ab' in m.content %}x{% endif %}",
    "{% if m.content in m.content ~ 'x' %}x{% endif %}{{ m.content.find('b') }}",
    "{{ m.content | length }}",
    "{% if m.content | length > 1 %}x{% endif %}",
    "{{ m.content | title }}",
    "{{ [m.content] }}",
    "{{ m.content | tojson(ensure_ascii=true) }}",
    "{{ m.content.split('ab')[0] }}",
    "{{ m.content.replace('ab', '') }}",
    "{{ (m.content ~ 'z>').split('</z>')[0] }}",
    "{% if m.content.isalpha() %}x{% endif %}",
    "{{ m.content.split('b')[1].strip() }}",
    "{{ {'<k': 1}['<k'] }}{{ messages[0]['content'].count('ab') }}",
    "{{ m.content.strip() }}{{ m.content | trim }}{{ m.content.lstrip('\n') }}",
    "{% if '</b>' in m.content %}{{ m.content.split('</b>')[-1].lstrip('\n') }}{% endif %}",
    "{% if m.content.startswith('<b>') and m.content.endswith('</b>') %}x{% endif %}",
    "{{ m.content | tojson }}{{ {'a': m.content} | tojson(indent=2) }}",
    "{% if m.content %}x{% endif %}{% if m.content is string %}y{% endif %}{% if m.content == '' %}z{% endif %}",
    "{{ m.content.partition('<b>')[2].rsplit('</b>', 1)[0].rstrip() }}",
    "{% for line in m.content.splitlines() %}{{ line }}{% endfor %}{{ m.content.split() | join(' ') }}",
    "{{ messages | map(attribute='content') | join('<b>') }}{{ m.content.replace('<b>', 'x') }}",
    "{% if 'b' in m.content or m.content.startswith('a') %}x{% endif %}{{ (m.content ~ ' ').split(' ')[0] }}",
]


@pytest.mark.parametrize("source", MEASURING)
def test_what_is_measured_compared_and_cut_is_replayed_and_followed(source: str) -> None:
    texts = ("<b>a</b>", "ab cd", "a<b", "\n\n <b>\n< </b> <", "", "x </b>\n\ny<", "<s>", "b x", "a b\u2028c <b></b>")
    replayed = Replayed("{% for m in messages %}" + source + "{% endfor %}")
    found, recorded = check(replayed, [say(text) for text in texts * 2])

    assert recorded > 0
    assert found >= recorded


def test_keyword_names_never_reach_the_source_of_a_replay() -> None:
    replayed = Replayed("{{ messages[0].content.split(**{'sep=globals()': 'a'}) }}")

    assert check(replayed, [say("a"), say("a")]) == (0, 0)


def test_a_shape_forgets_no_way() -> None:
    replayed = Replayed("{% for m in messages %}{% for w in ['a', 'b', 'c'] %}{% if w in m.content %}{{ w }}{% endif %}{% endfor %}{% endfor %}")  # fmt: skip
    family = [say(text) for text in ("", "a", "b", "c", "ab", "bc", "ac", "abc")]

    assert check(replayed, family) == (0, 8)
    assert check(replayed, family) == (8, 0)


def test_steps_that_would_multiply_a_text_end_the_recording() -> None:
    doubling = (
        "{% set ns = namespace(t=messages[0].content) %}{% for i in range(9) %}{% set ns.t = ns.t ~ ns.t %}{% endfor %}"
    )

    assert check(Replayed(doubling + "{{ ns.t[:9] }}"), [say("a"), say("a")]) == (0, 0)


def test_templates_that_change_the_rules_are_left_to_jinja() -> None:
    for source in ("{% autoescape true %}{% endautoescape %}", "{% block x %}{% endblock %}", "{% include 'x' %}"):
        with pytest.raises((SftprepError, Untraceable)):
            Replayed(source)
