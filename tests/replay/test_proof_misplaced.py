"""Templates that print a message at another one's place are replayed where that is its place in all that take the same way."""

from __future__ import annotations

from itertools import product

import pytest
from replays import ASK, LOOP, same, talk

from sftprep.records.conversation import Conversation

BEHIND = (
    "{% set last = messages[-1].content | trim if messages[-1].role == 'assistant' else '' %}"
    "{% for m in (messages[:-1] if messages[-1].role == 'assistant' else messages) %}<s>{{ m.role }}\n{{ m.content }}<e>{% endfor %}"
    "{% if add_generation_prompt or last %}<s>assistant\n{% endif %}{% if last %}{{ last }}<e>{% endif %}"
)
AHEAD = (
    LOOP
    + "{% if m.role == 'user' %}<s>user\n{{ m.note }}{{ m.content }}<e>{% if loop.nextitem %}<s>assistant\n{{ loop.nextitem.content }}<e>"
    "{% endif %}{% endif %}{% endfor %}" + ASK + "<s>assistant\n{% endif %}"
)
NESTED = AHEAD.replace(
    "{% if loop.nextitem", "{% if m.role %}{{ m.note }}{% endif %}{% if m.role %}{% if loop.nextitem"
)
NESTED = NESTED.replace(
    "<e>{% endif %}{% endif %}{% endfor %}", "<e>{% endif %}{{ m.note }}{% endif %}{% endif %}{% endfor %}"
)
TEXTS = ("a", "b c", "", " ", "<e>", " d ", "assistant")


def noted(note: str, conversation: Conversation) -> Conversation:
    return Conversation([{**message, "note": note} for message in conversation.messages], None, {}, None)


@pytest.mark.parametrize("source", [BEHIND, AHEAD, AHEAD.replace("{{ m.note }}", ""), NESTED])
def test_messages_printed_at_anothers_place(source: str) -> None:
    talks = [talk("q", one, "r", other) for one, other in product(TEXTS, TEXTS)]
    for order in (talks, talks[::-1]):
        template = same(source, talk("q", "a", "r", "b"), *order)
        assert template.template.misplaced.has_strays
        assert template.replayed > len(talks) / 3


@pytest.mark.parametrize("source", [AHEAD, NESTED])
def test_names_beside_what_is_misplaced(source: str) -> None:
    talks = [noted(note, talk("q", text, "r", "b")) for note, text in product(("", "x", " ", "<e>"), TEXTS)]

    same(source, *talks)
    same(source, *talks[::-1])


def test_calls_are_left_to_jinja() -> None:
    source = BEHIND.replace("{{ last }}", "{{ last }}{{ messages[-1].tool_calls[0].function.name }}")
    call = {"function": {"name": "f", "arguments": {}}}
    asked = {"role": "user", "content": "q"}
    talks = [
        Conversation([asked, {"role": "assistant", "content": text, "tool_calls": [call]}], None, {}, None)
        for text in ("a", "b", "a")
    ]

    assert same(source, *talks).replayed == 0
