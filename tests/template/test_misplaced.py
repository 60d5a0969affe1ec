"""Messages that are printed at another's place, or in two."""

from __future__ import annotations

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
    with pytest.raises(TemplateError, match=r"in no branch of its own; use --mask generation.* or --mask scan"):
        template_of(source).render(conversation(talk("Hello there.", "Good day.", "Fine?", "Sure.")))


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
    template = template_of(odd.EARLY_RESULTS)

    with pytest.raises(ConversationError, match="message 1 is printed in two places"):
        template.render(conversation([*talk("Hi"), calling, {"role": "tool", "content": "hot"}]))
    assert len(template.render(conversation([*talk("Hi"), calling])).spans) == 1


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
