from __future__ import annotations

import json
import pickle
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
import template_zoo as zoo
from conftest import TOKENIZERS
from hypothesis import given, settings
from hypothesis import strategies as st
from strategies import chats, message_texts, tool_chats
from template_zoo import Breed, conversation, talk, template_of
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from sftprep.errors import ConversationError, TemplateError
from sftprep.jinja.after_messages import epilogue_of
from sftprep.jinja.compiled import CompiledTemplate, MarkedText
from sftprep.records.conversation import Conversation
from sftprep.template.chat_template import ChatTemplate, open_template

Messages = list[dict[str, Any]]
BREEDS = {name: breed for name, breed in vars(zoo).items() if isinstance(breed, Breed)}
STRAYING = [
    "BY_INDEX",
    "DELAYED",
    "EARLY_RESULTS",
    "LAST_APART",
    "REBUILT",
]  # not every message can be found in what these print
TOOLS = [
    {
        "type": "function",
        "function": {"name": "weather", "description": "Tells < & >.", "parameters": {"city": "Köln"}},
    },
    {"type": "function", "function": {"name": "add", "description": "Adds.", "parameters": {}}},
]


def mark(source: str, messages: Messages, **variables: Any) -> MarkedText:
    return CompiledTemplate(source).mark({**variables, "messages": messages})


def marked(source: str, messages: Messages, **variables: Any) -> list[tuple[int, str]]:
    found = mark(source, messages, **variables)
    return [(place.message, found.text[place.start : place.stop]) for place in found.marks]


# -- the same text as Transformers --


def theirs(breed: Breed, given: Conversation) -> str | None:
    """Transformers' text, None if the template refuses."""
    kwargs = {**breed.special, **given.template_kwargs}
    try:
        texts, _ = render_jinja_template([given.messages], given.tools, chat_template=breed.source, **kwargs)
    except Exception:
        return None
    text: str = texts[0]
    return text


def ours(template: ChatTemplate, given: Conversation) -> str | None:
    try:
        return template.render(given).text
    except ConversationError:
        return None


@pytest.mark.parametrize("name", sorted(BREEDS.keys() - {"GPT_OSS", *STRAYING}))
def test_text_is_that_of_transformers(name: str) -> None:
    breed = BREEDS[name]
    template = template_of(breed)
    kwargs = st.fixed_dictionaries(
        {}, optional={"enable_thinking": st.booleans(), "documents": st.just([{"title": "a", "text": "<"}])}
    )
    messages = chats(message_texts()) | tool_chats(message_texts())

    @settings(max_examples=40)
    @given(st.builds(Conversation, messages, st.sampled_from([None, [], TOOLS]), kwargs, st.none()))
    def check(given: Conversation) -> None:
        assert ours(template, given) == theirs(breed, given)

    check()


@pytest.mark.parametrize(
    "answer", [{}, {"tool_calls": [{"id": "123456789", "function": {"name": "add", "arguments": {}}}]}]
)
def test_a_template_may_ask_whether_messages_are_equal(answer: dict[str, Any]) -> None:
    breed = BREEDS["MISTRAL_3"]
    messages = talk("<go on", "on", "<go on")
    messages[1] |= answer
    given = conversation(messages, TOOLS)

    assert ours(template_of(breed), given) == theirs(breed, given) is not None


@pytest.mark.parametrize("name", STRAYING)
def test_text_is_that_of_transformers_where_every_answer_says_something(name: str) -> None:
    breed = BREEDS[name]
    template = template_of(breed)

    @settings(max_examples=40)
    @given(chats(message_texts().map(lambda text: f"x{text}x")))
    def check(messages: Messages) -> None:
        given = conversation(messages)
        assert ours(template, given) == theirs(breed, given) is not None

    check()


def test_dates_are_given_not_read() -> None:
    with pytest.raises(TemplateError, match="date"):
        template_of(zoo.GPT_OSS).render(conversation(talk("Hi", "Hello.")))
    while (today := datetime.now()).date():
        given = conversation(talk("Hi", "Hello."), TOOLS)
        text = template_of(zoo.GPT_OSS, now=today).render(given).text
        if datetime.now().date() == today.date():
            break
    assert text == theirs(zoo.GPT_OSS, given)
    assert f"{today:%Y-%m-%d}" in text


@pytest.mark.parametrize("key", ["reasoning_content", "thinking", "reasoning"])
def test_reasoning_under_any_name(key: str) -> None:
    given = conversation([*talk("Hi"), {"role": "assistant", "content": "Hello.", key: "Greets."}])
    both = Breed(
        "{% for m in messages %}{{ m.role }}{{ m.thinking }}{{ m.reasoning_content }}{{ m.keys() | list }}{% endfor %}"
    )

    assert ours(template_of(zoo.QWQ), given) == theirs(zoo.QWQ, given)
    assert ours(template_of(both), given) == theirs(both, given)


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


def test_a_template_does_not_see_the_run() -> None:
    names = "{{ trail is defined }}{{ allowance is defined }}{{ self._TemplateReference__context is defined }}"

    assert template_of(names).render(conversation(talk("Hi"))).text == "FalseFalseFalse"


# -- errors --


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


def test_a_record_may_not_replace_the_messages() -> None:
    with pytest.raises(ConversationError, match="add_generation_prompt, messages"):
        template_of(zoo.CHATML).render(
            Conversation(talk("Hi"), None, {"messages": [], "add_generation_prompt": True}, None)
        )


# -- whose text it is --

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


@pytest.mark.parametrize(
    "source",
    [
        "{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s = ns.s + '<' + m.content + '>' %}{% endfor %}{{ ns.s }}",
        "{% set ns = namespace(s='') %}{% for m in messages | reverse %}{% set ns.s = '<' + m.content + '>' + ns.s %}{% endfor %}{{ ns.s }}",
        "{% for m in messages %}{% if not loop.first %}{{ loop.previtem.content + m.content }}{% endif %}{% endfor %}",
        "{{ messages | map(attribute='content') | join('|') }}",
        "{{ messages | tojson }}",
    ],
)
def test_text_in_no_place_of_its_own_is_refused(source: str) -> None:
    with pytest.raises(TemplateError, match=r"in no branch of its own; use --mask generation.* or --mask scan"):
        template_of(source).render(conversation(talk("Hello there.", "Good day.", "Fine?", "Sure.")))


def test_no_template_is_refused_for_its_turns_where_none_is_trained() -> None:
    for source in (
        "{{ messages | tojson }}",
        "{% set s %}{% for m in messages %} {{ m.content }} {% endfor %}{% endset %}{{ s | trim }}",
    ):
        messages = talk("Hi <|im_end|>", "Hello.")
        template = open_template(source, {}, control_tokens=["<|im_end|>"], roles=())

        rendering = template.render(conversation(messages))

        assert rendering.text == theirs(Breed(source), conversation(messages))
        assert (rendering.spans, rendering.controls) == ((), ())
        assert [rendering.text[start:stop] for start, stop in rendering.forged] == ["<|im_end|>"]


def test_the_refusal_names_the_branch() -> None:
    source = "{% for m in messages %}\n{% if m.role == 'user' %}\n{{ m.content + (loop.nextitem.content if not loop.last) }}{% endif %}{% endfor %}"

    with pytest.raises(TemplateError, match="in the branch at line 2: "):
        template_of(source).render(conversation(talk("Hello there.", "Good day.")))


def test_a_message_printed_twice_is_refused() -> None:
    twice = "{% for m in messages %}{{ m.content }}{% endfor %}|{% for m in messages %}{{ m.content }}{% endfor %}"

    with pytest.raises(TemplateError, match="message 1 is printed in two places"):
        template_of(twice).render(conversation(talk("Hi", "Hello.")))


def test_what_only_some_conversations_do_rejects_those() -> None:
    call = {"type": "function", "function": {"name": "weather", "arguments": {}}}
    calling = {"role": "assistant", "content": "Wait.", "tool_calls": [call]}
    template = template_of(zoo.EARLY_RESULTS)

    with pytest.raises(ConversationError, match="message 1 is printed in two places"):
        template.render(conversation([*talk("Hi"), calling, {"role": "tool", "content": "hot"}]))
    assert len(template.render(conversation([*talk("Hi"), calling])).spans) == 1


def test_an_answer_that_cannot_be_found_rejects_its_conversation() -> None:
    with pytest.raises(ConversationError, match="message 1 has no text by which to find it"):
        template_of(zoo.DELAYED).render(conversation(talk("Hi", "", "Bye", "Ciao.")))


def test_what_one_conversation_shows_is_seen_although_probes_did_not() -> None:
    quoting = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content }}{% if m.quote is defined %}{{ messages[m.quote].content }}{% endif %}{{ '<|im_end|>' }}{% endfor %}"
    template = template_of(Breed(quoting, controls=zoo.CHATML.controls))

    messages = [*talk("Hello there."), {"role": "assistant", "content": "You said: ", "quote": 0}]
    assert len(template.render(conversation(messages)).spans) == 1  # the question is at its own place too
    silent = "{% for m in messages %}{% if m.role == 'user' and m.quote is defined %}{{ messages[m.quote].content }}{% else %}{% if not m.hidden %}{{ m.content }}{% endif %}{% endif %}{% endfor %}"
    hidden = [
        *talk("Hi"),
        {"role": "assistant", "content": "Good day.", "hidden": True},
        {"role": "user", "content": "x", "quote": 1},
    ]
    rendering = template_of(silent).render(conversation(hidden))
    assert [(span.message, rendering.text[span.start : span.stop]) for span in rendering.spans] == [(1, "Good day.")]


# -- generation blocks --

BLOCKS = zoo.CHATML.source.replace(
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}",
    """\
{{ '<|im_start|>' + message['role'] + '\n' }}
{%- if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}
{%- else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}""",
)


def test_blocks_are_those_of_transformers(corpus: Path) -> None:
    template = template_of(Breed(BLOCKS, controls=zoo.CHATML.controls))
    with corpus.open(encoding="utf-8") as lines:
        records = [json.loads(line)["conversations"] for line, _ in zip(lines, range(2000), strict=False)]

    texts, indices = render_jinja_template(records, chat_template=BLOCKS, return_assistant_tokens_mask=True)

    for messages, text, blocks in zip(records, texts, indices, strict=True):
        rendering = template.render_blocks(conversation(messages))
        assert rendering.text == text
        assert [(span.start, span.stop) for span in rendering.spans] == blocks
        assert [messages[span.message]["role"] for span in rendering.spans] == ["assistant"] * len(blocks)


def test_blocks_in_macros_are_counted_as_transformers_counts_them() -> None:
    source = "{% macro say(m) %}<{% generation %}{{ m.content }}{% endgeneration %}>{% endmacro %}{% for m in messages %}{{ m.role }}{{ say(m) }}{% endfor %}"
    messages = talk("a", "bc", "", "d")

    _, indices = render_jinja_template([messages], chat_template=source, return_assistant_tokens_mask=True)
    rendering = template_of(source).render_blocks(conversation(messages))

    assert [(span.start, span.stop) for span in rendering.spans] == indices[0]
    assert [span.message for span in rendering.spans] == [0, 1, 2, 3]


def test_templates_without_blocks_are_refused() -> None:
    with pytest.raises(TemplateError, match=r"no \{% generation %\} blocks"):
        template_of(zoo.CHATML).render_blocks(conversation(talk("Hi", "Hello.")))
    with pytest.raises(TemplateError, match="outside every loop over messages"):
        template_of("{% generation %}{{ messages[1].content }}{% endgeneration %}").render_blocks(
            conversation(talk("Hi", "Hello."))
        )


# -- the last statements --


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("CHATML", {"add_generation_prompt"}),
        ("PHI_3", {"add_generation_prompt", "eos_token"}),
        ("QWEN_3", {"add_generation_prompt", "enable_thinking"}),
        ("LLAMA_2", set()),
        ("DEEPSEEK_R1", None),
        ("GPT_OSS", None),
        ("ZEPHYR", None),
        ("MACROS", None),
        ("SET_BLOCK", None),
        ("LAST_APART", None),
    ],
)
def test_which_prompts_no_message_has_a_part_in(name: str, names: set[str] | None) -> None:
    epilogue = epilogue_of(CompiledTemplate("").environment.parse(BREEDS[name].source))

    assert (None if epilogue is None else set(epilogue.names)) == names


LOOP = "{% for m in messages %}{{ m.content }}{% set x = m %}{% set ns.y = m %}{% endfor %}"


@pytest.mark.parametrize(
    ("rest", "fixed"),
    [
        ("{{ 'a' }}{% if b %}c{% endif %}", True),
        ("{{ messages[0].content }}", False),
        ("{{ ns.z }}", False),
        ("{% if x %}a{% endif %}", False),
        ("{{ given }}", True),
        ("{{ taken }}", False),
        ("{{ f() }}", False),
        ("{{ g() }}", True),
        ("{{ kept.a }}", False),
        ("{% for t in tools %}{{ t }}{% endfor %}", True),
        ("{% set messages = [] %}{{ messages }}", False),
    ],
)
def test_what_flows_into_the_last_statements(rest: str, fixed: bool) -> None:
    source = (
        "{% set ns = namespace() %}{% set kept = namespace() %}{% set given = tools %}{% set taken = messages | length %}"
        "{% macro f() %}{{ messages }}{% endmacro %}{% macro g() %}a{% endmacro %}{% macro h(a) %}{% set kept.a = a %}{% endmacro %}"
        + LOOP.replace("{{ m.content }}", "{{ h(m.content) }}")
        + rest
    )

    assert (epilogue_of(CompiledTemplate("").environment.parse(source)) is not None) == fixed


# -- published tokenizers on real conversations --


@pytest.mark.parametrize("name", TOKENIZERS)
def test_corpus_text_is_that_of_transformers(name: str, shared_data: Path, corpus: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / name)
    added = list(tokenizer.added_tokens_decoder.values())
    template = open_template(
        tokenizer.chat_template,
        tokenizer.special_tokens_map,
        control_tokens=[token.content for token in added if token.special],
        added_tokens=[token.content for token in added],
    )
    with corpus.open(encoding="utf-8") as lines:
        records = [json.loads(line)["conversations"] for line, _ in zip(lines, range(2000), strict=False)]
    assert len(records) == 2000

    for messages in records:
        rendering = template.render(conversation(messages))
        assert rendering.text == tokenizer.apply_chat_template(messages, tokenize=False)
        assert [span.message for span in rendering.spans] == [
            i for i, m in enumerate(messages) if m["role"] == "assistant"
        ]
        said = "\0".join(message["content"] for message in messages)
        assert all(rendering.text[start:stop] in said for start, stop in rendering.forged)
        assert bool(rendering.forged) == bool(template.controls.search(said))
