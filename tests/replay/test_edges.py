"""Where spans begin and end in conversations that take one way, whether control tokens stand there or not."""

from __future__ import annotations

from typing import Any

import pytest
from replays import ASK, LOOP, same, talk

from sftprep.records.conversation import Conversation

TEXTS = ("b", "", " ", "b ", "\nb", "<e>", "b<e>", "Two:", "b\nTwo:", "b\n")
TALKS = [talk("q", text, "r", other) for text in TEXTS for other in ("c", text)]


def noted(note: str, conversation: Conversation) -> Conversation:
    messages = [{**message, "note": note} for message in conversation.messages]
    return Conversation(messages, None, {}, None)


@pytest.mark.parametrize(
    "turn",
    [
        "{{ m.role }}: {{ m.content }}\n",  # no control token at all
        "### {{ m.role }}:\n{{ m.content | trim }}\n\n",
        "{{ m.role }}: {{ m.content }} <e>",  # none before the answer
        "<s>{{ m.role }}: {{ m.content }}",  # none behind it
        "<s>{{ m.role }}\n{{ m.content }}\n",
        "{{ m.content }}.\n",
    ],
)
@pytest.mark.parametrize("header", [None, "assistant:", "<s>assistant"])
def test_templates_that_have_no_control_token_there(turn: str, header: str | None) -> None:
    prompt = turn.partition("{{ m.content")[0].replace("{{ m.role }}", "assistant").strip(" ")
    options: dict[str, Any] = {} if header is None else {"header": header}

    template = same(LOOP + turn + "{% endfor %}" + ASK + prompt + "{% endif %}", *TALKS, **options)

    assert template.replayed > 3 or header is not None


@pytest.mark.parametrize("end", ["<e>", "", "x"])
def test_an_end_that_is_given(end: str) -> None:
    source = LOOP + "<s>{{ m.role }}\n{{ m.content }}<e>{{ m.note }}{% endfor %}" + ASK + "<s>assistant\n{% endif %}"
    conversations = [noted(note, each) for each in TALKS[:6] for note in ("", "x", "<e>", " ")]

    same(source, *conversations, end_of_turn=end)
    same(source, *conversations[::-1], end_of_turn="<s>")


def test_words_that_are_only_sometimes_behind_the_last_turn() -> None:
    source = (
        LOOP + "<s>{{ m.role }}\n{{ m.content }}{% endfor %}{{ messages[0].note }}" + ASK + "<s>assistant\n{% endif %}"
    )

    same(source, *(noted(note, each) for each in TALKS[:4] for note in ("", "x", "<e>", " ")))


def test_a_control_token_that_is_only_sometimes_right_before_the_answer() -> None:
    source = LOOP + "<s>{{ m.note }}{{ m.content }}<e>{% endfor %}"
    conversations = [noted(note, each) for each in TALKS[:4] for note in ("", "x", " ")]

    for order in (conversations, conversations[::-1]):
        same(source, *order, header="")
        same(source.replace("{{ m.content }}", "a: {{ m.content }}"), *order, header="a:")


def test_where_the_words_of_other_roles_begin_without_control_tokens() -> None:
    source = LOOP + "{{ m.role }}: {{ m.content }}\n{% endfor %}" + ASK + "assistant:{% endif %}"

    assert same(source, *TALKS, roles=("user", "assistant")).replayed > 3


GATHERED = (
    "{% set ns = namespace(out='') %}"
    + LOOP
    + "{% set ns.out = ns.out ~ '<s>' ~ m.role ~ ': ' ~ m.content ~ '<e>' %}{% endfor %}{{ ns.out }}"
    + ASK
    + "<s>assistant:{% endif %}"
)
MACRO = (
    "{% macro all(messages) %}"
    + LOOP
    + "<s>{{ m.role }}: {{ m.content }}<e>{% endfor %}{% endmacro %}{{ all(messages) }}"
) + GATHERED[GATHERED.index(ASK) :]


COUNTED = "{% macro last(messages) %}" + LOOP + "{% endfor %}7{% endmacro %}{% set at = last(messages) | int %}"
LOOKED_AT = MACRO.replace("{{ all", "{{ '!' if 'zz' in all(messages) }}{{ all")


@pytest.mark.parametrize("source", [GATHERED, MACRO, COUNTED + MACRO, LOOKED_AT])
def test_turns_that_are_held_back(source: str) -> None:
    odd = [talk("q", text) for text in ("\U0001fffe", "\U0002ffff\U0001ffff", "\U0001f600")]

    template = same(source, *TALKS, *odd)
    assert template.replayed > len(TALKS)
    template = same(source, odd[-1], *TALKS[:4], *odd)
    assert template.replayed > 4
