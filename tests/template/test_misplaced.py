"""Messages that are printed at another's place, or in two."""

from __future__ import annotations

from typing import Any

import odd_templates as odd
import pytest
import template_zoo as zoo
from breeds import Breed, conversation, talk, template_of

from sftprep.errors import ConversationError, TemplateError


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
    with pytest.raises(TemplateError, match=r"in no branch of its own; use --mask scan with --scan-header"):
        template_of(source).render(conversation(talk("Hello there.", "Good day.", "Fine?", "Sure.")))


GATHERED = """\
{%- set ns = namespace(out='<s>') %}{% for i in range(messages | length) %}{% set m = messages[i] %}
{%- set ns.out = ns.out ~ '<|im_start|>' ~ m.role ~ '\n' %}{% set ns.out = ns.out ~ m.content %}
{%- for c in m.tool_calls or [] %}{% set ns.out = ns.out ~ c.function.name %}{% endfor %}
{%- set ns.out = ns.out ~ '<|im_end|>' %}{% endfor %}
{%- if add_generation_prompt %}{% set ns.out = ns.out ~ '<|im_start|>assistant\n' %}{% endif %}{{ ns.out }}"""


def test_text_that_is_gathered_and_printed_last_is_marked_where_it_is_gathered() -> None:
    gathered = Breed(GATHERED, controls=zoo.CHATML.controls)
    messages = [
        ASKED,
        CALLING,
        HOT,
        {"role": "assistant", "content": "Hot."},
        ASKED,
        {"role": "assistant", "content": ""},
    ]
    assert stretches(gathered, *messages) == [(1, "weather<|im_end|>"), (3, "Hot.<|im_end|>"), (5, "<|im_end|>")]
    changed = GATHERED.replace("{{ ns.out }}", "{{ ns.out }}{{ ns.out | length }}")
    with pytest.raises(
        TemplateError, match=r"line 2, 3, 4, 5, 6: .* gathered in a variable, that is changed afterwards"
    ):
        template_of(changed).render(conversation(messages))


def test_the_refusal_names_the_branch() -> None:
    source = "{% for m in messages %}\n{% if m.role == 'user' %}\n{{ m.content + (loop.nextitem.content if not loop.last) }}{% endif %}{% endfor %}"

    with pytest.raises(TemplateError, match="in the branch at line 2: "):
        template_of(source).render(conversation(talk("Hello there.", "Good day.")))


def test_a_message_printed_twice_is_refused() -> None:
    twice = "{% for m in messages %}{{ m.content }}{% endfor %}|{% for m in messages %}{{ m.content }}{% endfor %}"

    with pytest.raises(TemplateError, match="message 1 is printed in two places"):
        template_of(twice).render(conversation(talk("Hi", "Hello.")))


def test_what_only_some_conversations_do_rejects_those() -> None:
    quoting = "{% for m in messages %}{{ m.content }}{% if m.again %}{% for other in messages[1:2] %}{{ other.content }}{% endfor %}{% endif %}{% endfor %}"
    template, answered = template_of(quoting), talk("Hi", "Hello.")

    with pytest.raises(ConversationError, match="message 1 is printed in two places"):
        template.render(conversation([*answered, {"role": "user", "content": "So?", "again": True}]))
    assert len(template.render(conversation(answered)).spans) == 1


def stretches(source: str | Breed, *messages: dict[str, Any]) -> list[tuple[int, str]]:
    """(message, text) of every span."""
    rendering = template_of(source).render(conversation(list(messages)))
    return [(span.message, rendering.text[span.start : span.stop]) for span in rendering.spans]


CALL = {"type": "function", "id": "1", "function": {"name": "weather", "arguments": {}}}
ASKED, CALLING = {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "", "tool_calls": [CALL]}
HOT, EMPTY = ({"role": "tool", "content": content, "tool_call_id": "1"} for content in ("hot", ""))


def test_a_turn_that_a_result_cuts_in_two_goes_on_at_its_own_words() -> None:
    waiting = {**CALLING, "content": "Wait."}
    call = '{"name": "weather", "arguments": {}}<|call|>'

    assert stretches(odd.EARLY_RESULTS, ASKED, waiting, HOT) == [(1, call), (1, "Wait.")]
    assert stretches(odd.EARLY_RESULTS, ASKED, waiting) == [(1, call + "Wait.")]


def test_a_turn_that_goes_on_behind_another_header_is_refused() -> None:
    again = odd.EARLY_RESULTS.source.replace("{{- message.content }}", "{{- '<|assistant|>' + message.content }}")
    template = template_of(Breed(again, odd.EARLY_RESULTS.special, odd.EARLY_RESULTS.controls))

    with pytest.raises(ConversationError, match="message 1 is printed in two places"):
        template.render(conversation([ASKED, {**CALLING, "content": "Wait."}, HOT]))


INDEXED = """\
{%- for m in messages %}{% if m.role != 'tool' %}{{ '<|' + m.role + '|>' + m.content }}
{%- for c in m.tool_calls or [] %}{{ c.function.name + '<|call|>' }}{% endfor %}
{%- for k in range(loop.index, messages | length) if m.tool_calls and messages[k].role == 'tool' %}
{%- set found = messages[k] %}{{ '<|result|>' + found.content + '<|end|>' }}{% endfor %}
{%- if not m.tool_calls %}{{ '<|end|>' }}{% endif %}{% endif %}{% endfor %}
{%- if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"""


@pytest.mark.parametrize("result", [HOT, EMPTY])
def test_a_result_that_is_taken_by_its_index_is_not_its_calls(result: dict[str, Any]) -> None:
    indexed = Breed(INDEXED, odd.EARLY_RESULTS.special, odd.EARLY_RESULTS.controls)

    found = stretches(indexed, ASKED, CALLING, result, {"role": "assistant", "content": "Hot."})
    assert found == [(1, "weather<|call|>"), (3, "Hot.<|end|>")]


def test_an_empty_result_that_may_be_in_the_turn_of_its_call_rejects_the_conversation() -> None:
    with pytest.raises(ConversationError, match="message 2 has no text by which to find it"):
        template_of(odd.EARLY_RESULTS).render(conversation([ASKED, CALLING, EMPTY]))


@pytest.mark.parametrize("text", ["Ciao.", ""])
def test_messages_by_index_are_found_without_words(text: str) -> None:
    indexed = "{% for i in range(messages | length) %}{% set m = messages[i] %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

    assert stretches(Breed(indexed, controls=zoo.CHATML.controls), ASKED, {"role": "assistant", "content": text}) == [
        (1, text + "<|im_end|>")
    ]


@pytest.mark.parametrize("text", ["Ciao.", ""])
def test_messages_that_are_never_named_are_found_by_their_index(text: str) -> None:
    template = template_of(odd.BY_INDEX)
    rendering = template.render(conversation(talk("Hi", text, "Bye", "Ciao.")))

    assert [(span.message, rendering.text[span.start : span.stop]) for span in rendering.spans] == [
        (1, text + "<|im_end|>"),
        (3, "Ciao.<|im_end|>"),
    ]
    assert not template.misplaced.has_strays


LAST_APART = """\
{%- set last = messages[-1].content | trim if messages[-1].role == 'assistant' else '' %}
{%- for m in (messages[:-1] if messages[-1].role == 'assistant' else messages) %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{% endfor %}
{%- if add_generation_prompt or last %}{{ '<|im_start|>assistant\n' }}{% endif %}
{%- if last %}{{ last + '<|im_end|>' }}{% endif %}"""


def test_a_message_without_which_the_text_is_the_same_is_not_lost() -> None:
    apart = Breed(LAST_APART, controls=zoo.CHATML.controls)

    assert stretches(apart, ASKED, {"role": "assistant", "content": "Ciao."}) == [(1, "Ciao.<|im_end|>")]
    assert stretches(apart, *talk("Hi", "Good.", "Bye", "  ")) == [(1, "Good.<|im_end|>")]


@pytest.mark.parametrize("how", ["macro", "loop"])
def test_a_call_that_is_looked_up_by_its_result_stays_one_turn(how: str) -> None:
    look = "{% for o in messages %}{% for c in o.tool_calls or [] %}{% if c.id == m.tool_call_id %}{{ c.function.name }}{% endif %}{% endfor %}{% endfor %}"
    macro = "{% macro name_of(messages, m) %}" + look + "{% endmacro %}"
    looked_up = macro + (
        "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'tool' %}"
        + (look if how == "loop" else "{{ name_of(messages, m) }}")
        + ": {% endif %}{{ m.content }}{% for c in m.tool_calls or [] %}{{ c.function.name }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )

    found = stretches(
        Breed(looked_up, controls=zoo.CHATML.controls), ASKED, CALLING, HOT, {"role": "assistant", "content": "Hot."}
    )
    assert found == [(1, "weather<|im_end|>"), (3, "Hot.<|im_end|>")]


def test_an_answer_that_cannot_be_found_rejects_its_conversation() -> None:
    with pytest.raises(ConversationError, match="message 1 has no text by which to find it"):
        template_of(odd.DELAYED).render(conversation(talk("Hi", "", "Bye", "Ciao.")))


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
