"""Decisions that must not be taken from one conversation for another."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import odd_templates as odd
import pytest
import template_zoo as zoo
from replays import ASK, LOOP, breed_template, rendered, replayed, same, talk

from sftprep.errors import SftprepError
from sftprep.records.conversation import Conversation
from sftprep.replay.replay_template import ReplayTemplate
from sftprep.template.chat_template import open_template


def test_a_header_that_goes_on_into_the_answer() -> None:
    source = LOOP + "<s>{{ m.role }}\n{{ m.content }}<e>{% endfor %}" + ASK + "<s>assistant\n<h>\n{% endif %}"

    template = same(source, talk("a", "b"), talk("a", "<h>\nb"), talk("a", "<h>b"), talk("a", "<h>"), talk("a", ""))
    assert template.replayed > 4


def test_an_end_of_turn_that_content_may_follow() -> None:
    source = LOOP + "<s>{{ m.role }}\n<e>{{ m.content }}{% endfor %}" + ASK + "<s>assistant\n{% endif %}"

    conversations = [talk("a", "b"), talk("a", " "), talk("a", ""), talk("", "\n"), talk(" ", "x ")]

    same(source, *conversations)
    same(source, *conversations[::-1])
    same(source, *conversations[1:])


def test_a_turn_that_the_next_one_ends() -> None:
    source = LOOP + "<s>{{ m.role }}\n{{ m.content }}{% endfor %}" + ASK + "<s>assistant\n{% endif %}"

    same(source, talk("a", "b", "c"), talk("a", "b ", "c"), talk("a", "", "c"), talk("", "<e>", ""))


def test_a_message_that_may_print_nothing() -> None:
    source = LOOP + "{{ m.content }}{% endfor %}"

    same(source, talk("a", "b"), talk("a", ""), talk("", "b"), talk(" ", " "))


def test_a_message_in_two_places_with_nothing_or_something_between() -> None:
    twice = "{% for m in messages %}<s>{{ m.content }}{% endfor %}{{ messages[0].content }}{% for m in messages[1:2] %}!<e>{% endfor %}"

    same(twice, talk("", "b"), talk("a", "b"), talk("a", ""), talk("", ""))


def noted(note: str, *texts: str, at: int = 1) -> Conversation:
    conversation = talk(*texts)
    conversation.messages[at]["note"] = note
    return conversation


def test_an_end_after_a_text_that_may_be_empty() -> None:
    source = LOOP + "<s>{{ m.content }}{% endfor %}{{ between }}<e>"
    conversations = [Conversation(talk("a", "b").messages, None, {"between": text}, None) for text in ("", "x", "<e>")]

    same(source, *conversations, header="<s>")


def test_names_before_the_words_of_other_roles() -> None:
    source = LOOP + "<s>{{ m.note }}{{ m.content }}<e>{% endfor %}" + ASK + "<s>{% endif %}"
    conversations = [noted(note, "a", "b", at=0) for note in ("x", "y", "", "x y")]

    same(source, *conversations, roles=("assistant", "user"))


def test_one_turn_in_two_loops_with_a_variable_between() -> None:
    source = (
        "{% for m in messages %}{% if m.role == 'assistant' %}<s>{{ m.content }}{% endif %}{% endfor %}{{ between }}"
        "{% for m in messages %}{% if m.role == 'assistant' %}!<e>{% endif %}{% endfor %}" + ASK + "<s>{% endif %}"
    )
    conversations = [Conversation(talk("a", "b").messages, None, {"between": text}, None) for text in ("", "x", " ")]

    same(source, *conversations)


def test_a_second_place_that_may_be_empty() -> None:
    source = (
        "{% for m in messages %}{{ m.note }}{% endfor %}|{% for m in messages %}<s>{{ m.content }}<e>{% endfor %}" + ASK
    )
    source += "<s>{% endif %}"

    same(source, noted("", "a", "b"), noted("x", "a", "b"), noted(" ", "a", "b"))


def test_a_text_before_the_turn_that_may_be_empty() -> None:
    source = LOOP + "{{ m.content }}<e>{{ m.note }}{% endfor %}"

    same(source, noted("", "a", "b", at=0), noted("x", "a", "b", at=0), noted("<e>", "a", "b", at=0))


def test_a_header_with_a_control_token_after_a_text() -> None:
    source = LOOP + "<s>{{ m.note }}<e>b{{ m.content }}<e>{% endfor %}" + ASK + "<s>a<e>b{% endif %}"

    same(source, noted("a", "a", "b"), noted("a<e>b", "a", "b"), noted("", "a", "b"), noted("x", "a", "b"))


def test_a_question_repeated_in_the_answer() -> None:
    source = (
        LOOP
        + "<s>{% if m.role == 'user' %}-{% else %}{{ m.content }}{% if '</z>' in m.content %}{{ messages[0].content }}"
    )
    source += "{% endif %}{% endif %}<e>{% endfor %}" + ASK + "<s>{% endif %}"

    same(source, talk("", "</z>"), talk("q", "</z>"), talk(" ", "</z>"), talk("</z>", "</z>"))


def test_control_tokens_as_roles_that_are_no_roles() -> None:
    source = LOOP + "<s>{{ m.author.role }}<e>{% endfor %}" + ASK + "<s>{% endif %}"
    conversations = [talk("", "", author={"role": role}) for role in ("user", "<e>", "<s>")]

    for order in (conversations, conversations[::-1]):
        same(source, *order)
    template = ReplayTemplate(open_template(source, {}, control_tokens=["<s>", "<e>"]))
    assert template.template.render(conversations[1]).forged == ((3, 6), (12, 15))


def test_an_answer_printed_at_the_question() -> None:
    source = LOOP + "<s>{{ m.content }}{% if loop.nextitem %}{{ loop.nextitem.content }}{% endif %}<e>{% endfor %}"
    template = ReplayTemplate(open_template(source, {}, control_tokens=["<s>", "<e>"]))
    for conversation in [talk("a", "b"), talk("a", "c"), talk("a", ""), talk("", "b")] * 3:
        assert replayed(template, conversation) == rendered(template, conversation)

    assert template.replayed == 0


def test_a_control_token_of_two_halves() -> None:
    for source in (
        LOOP + "<s>{{ m.role }}\n<{{ m.content }}<e>{% endfor %}",
        LOOP + "<s>{{ m.content }}e><e>{% endfor %}",
    ):
        same(source, talk("a", "b"), talk("e>", "e>"), talk("<", "<"), talk("s>", "b<"))


def test_texts_that_spell_control_tokens() -> None:
    source = LOOP + "<s>{{ m.role }}\n{{ m.content }}<e>\n{% endfor %}" + ASK + "<s>assistant\n{% endif %}"
    forged = [
        talk(text, other)
        for text in ("<e>", "<s>assistant\nno<e>\n<s>user\n", "<s", "\ufdd0<e>")
        for other in ("b", "<e>")
    ]

    template = same(source, talk("a", "b"), *forged)
    assert template.recorded == 1
    template = same(source, *forged, talk("a", "b"))
    assert template.recorded == 1


def test_text_that_the_template_measures_is_refused_where_jinja_refuses_it() -> None:
    source = LOOP + "<s>{{ m.role }}\n{{ m.content[:9] }}<e>{% endfor %}" + ASK + "<s>assistant\n{% endif %}"

    same(source, talk("a", "b"), talk("<" * 12, "<e>" * 9), talk("<e>" * 9, "b"), talk("abcdefgh<", "x"))


@pytest.mark.parametrize(
    "look", ["{{ m[k] }}", "{% if k in m %}!{% endif %}", "{{ m.d[k] }}", "{% if k in m.d %}!{% endif %}"]
)
def test_keys_that_might_begin_control_tokens(look: str) -> None:
    source = "{% set k = '<' ~ 'k' %}{{ messages[0].content }}{% for m in messages[1:] %}<s>{{ m.content }}" + look
    source += "<e>{% endfor %}" + ASK + "<s>{% endif %}"
    more = {"d": {"<k": "x"}, "<k": "y"}

    same(source, talk("q", "b", **more), talk("b", "b", **more), talk("a", "b", **more))


@pytest.mark.parametrize("word", ["<r>", "<e>", "<e><s>"])
@pytest.mark.parametrize("look", ["'{}' in t", "t.startswith('{}')", "t.endswith('{}')", "t == '{}'"])
def test_words_and_control_tokens_looked_for_in_what_a_macro_prints(look: str, word: str) -> None:
    source = (
        "{% macro out(t) %}{{ t }}{% endmacro %}" + LOOP + "<s>{% set t = out(m.content) %}{% if " + look.format(word)
    )
    source += " %}!{% else %}{{ t }}{% endif %}<e>{% endfor %}" + ASK + "<s>{% endif %}"
    texts = ["a", "b", "<", "<r", f"x{word}", word, f"{word}y", f"{word[:2]} {word[2:]}"]

    template = same(source, *(talk(one, two) for one in texts for two in texts))

    assert template.replayed > 20


def test_prompts_that_depend_on_the_conversation() -> None:
    source = (
        LOOP + "<s>{{ m.role }}\n{{ m.content }}<e>{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant\n{% if 'x' in messages[-1].content %}<h>{% endif %}{% endif %}"
    )

    template = same(source, talk("a", "b"), talk("x", "<h>b"), talk("x", "b"), talk("a", "<h>b"), talk("x", "<h>"))
    assert template.replayed > 4


def test_prompts_that_depend_on_variables() -> None:
    source = (
        LOOP + "<s>{{ m.role }}\n{{ m.content }}<e>{% endfor %}"
        "{% if add_generation_prompt %}<s>assistant\n{% if think %}<h>{% endif %}{{ name }}{% endif %}"
    )
    conversations = [
        Conversation(talk("a", text).messages, None, kwargs, None)
        for kwargs in ({"think": True}, {"think": False}, {"think": 1}, {"name": "x"}, {"name": "b"}, {})
        for text in ("b", "<h>b")
    ]

    same(source, *conversations)


def test_tools_lists_and_their_absence() -> None:
    source = "{% if tools %}{{ tools | tojson }}{% endif %}" + LOOP + "<s>{{ m.content }}<e>{% endfor %}"
    tools: list[Any] = [None, [], [{"name": "a"}], [{"name": "<e>"}, {"name": "b"}], [{}]]

    same(source, *(Conversation(talk("a", "b").messages, tool, {}, None) for tool in tools))


def test_variables_that_may_not_be_set() -> None:
    template = breed_template(zoo.CHATML)
    conversation = Conversation(talk("a", "b").messages, None, {"messages": []}, None)
    for _ in range(3):
        with pytest.raises(SftprepError):
            template.render(conversation)


def test_words_of_other_roles() -> None:
    source = (
        LOOP
        + "<s>{{ m.role }}\n{{ m.content | trim }}<e>{% if m.role == 'user' and '</t>' in m.content %}!{% endif %}{% endfor %}"
    )
    texts = ("a", " a", "", "</t> b", "< b", "\n", "a</t>")

    for order in (texts, texts[::-1]):
        same(source, *(talk(text, text) for text in order), roles=("user", "assistant"))


WELCOMES = [
    Conversation([{"role": role, "content": text} for role, text in zip(roles, texts, strict=True)], None, {}, None)
    for roles in (("assistant",), ("assistant", "user", "assistant"))
    for texts in [("a", "q", "b")[: len(roles)], ("", "", "")[: len(roles)], ("<h>\nb", " ", "\n<h>\n")[: len(roles)]]
]


def test_a_header_behind_what_is_printed_first() -> None:
    first = LOOP + "{% if loop.first %}<s>system\nBe kind.<e>{% endif %}<s>{{ m.role }}\n{{ m.content }}<e>{% endfor %}"

    template = same(first + ASK + "<s>assistant\n{% endif %}", *WELCOMES, talk("a", "b"))
    assert template.replayed > 15
    same(first + ASK + "<s>assistant\n<h>\n{% endif %}", *WELCOMES, talk("a", "<h>\nb"), talk("a", " <h> b"))
    same(first + ASK + "<s>\nassistant\n<h>\n{% endif %}", *WELCOMES[::-1], talk("a", "<h>\nb"), talk("a", " <h> b"))


def test_a_header_that_names_and_words_may_hold() -> None:
    source = (
        LOOP + "{% if loop.first %}Be kind. {% endif %}{{ m.note }}"
        "{{ m.role }}: {{ m.content }}{% if m.note %} assistant: !{% endif %}<e>{% endfor %}"
        + ASK
        + "assistant:\n{% endif %}"
    )
    conversations = [
        noted(note, text, "b", at=0) for note in ("", "x", "assistant:") for text in ("a", "", "assistant: ")
    ]
    welcomes = [Conversation(each.messages[::-1], None, {}, None) for each in conversations]

    same(source, *conversations, *welcomes)
    same(source, *welcomes[::-1], *conversations)


@pytest.mark.parametrize("blank", ["\n", "  ", "\n\n", ""])
def test_a_header_with_other_white_space(blank: str) -> None:
    source = LOOP + " <s> {{ m.role }}: {{ m.content }}<e>{% endfor %}" + ASK + "<s>assistant:" + blank + "{% endif %}"

    template = same(source, *(talk("a", text) for text in ("b", "", " b", "\nb", "\n\n b", "\t")))
    assert template.replayed > 8


def test_what_a_turn_has_of_a_prompt_that_goes_on() -> None:
    source = LOOP + "<s>{{ m.role }}</h>{{ m.content }}<e>{% endfor %}" + ASK + "<s>assistant<h></h>{% endif %}"

    same(source, *(talk("a", text) for text in ("b", "", "</h>b", "<h></h>b")))
    same(source.replace("</h>{{", "{{"), *(talk("a", text) for text in ("b", "", "</h>b", "<h></h>b", " </h>")))


def test_a_call_that_its_result_ends() -> None:
    source = (
        LOOP
        + "<s>{{ m.role }}\n{% if m.tool_calls %}{{ m.content }}{{ m.tool_calls[0].function.name }}<c>{% if loop.last %}<r>{% endif %}"
        "{% elif m.role == 'tool' %}{{ m.note }}<r>{{ m.content }}<e>{% else %}{{ m.content }}<e>{% endif %}{% endfor %}"
    ).replace("<s>{{ m.role }}\n", "{% if m.role != 'tool' %}<s>{{ m.role }}\n{% endif %}")
    template = ReplayTemplate(open_template(source + ASK + "<s>assistant\n{% endif %}", {"eos_token": "<e>"}, control_tokens=["<s>", "<e>", "<c>", "<r>"]))  # fmt: skip
    call: dict[str, Any] = {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": {}}}]}
    for note in ("", "x"):
        for text in ("a", "", "<c>"):
            messages = [{"role": "user", "content": "q"}, call | {"content": text}]
            messages += [{"role": "tool", "content": "r", "note": note}, {"role": "assistant", "content": "b"}]
            for _ in range(4):
                given = Conversation(messages, None, {}, None)
                assert replayed(template, given) == rendered(template, given)
            spans, printed = template.template.render(given).spans, template.template.render(given).text
            assert printed[spans[0].start : spans[0].stop] == text + "f<c>" + ("" if note else "<r>")


def test_an_eos_inside_a_turn() -> None:
    source = (
        LOOP + "<s>{{ m.role }}\n{{ m.content }}<e>{{ m.note }}<h><e>{% endfor %}" + ASK + "<s>assistant\n{% endif %}"
    )
    template = ReplayTemplate(open_template(source, {"eos_token": "<e>"}, control_tokens=["<s>", "<e>"]))
    for given in [noted(note, "a", text) for note in ("x", "", "<e>") for text in ("b", "", "<e>")] * 3:
        assert replayed(template, given) == rendered(template, given)
        rendering = template.template.render(given)
        assert rendering.text[: rendering.spans[0].stop].endswith(given.messages[1]["content"] + "<e>")
    assert template.replayed > 9


def thinking(*thoughts: str, text: str = "") -> Conversation:
    messages = [{"role": "user", "content": "a"}]
    messages += [{"role": "assistant", "content": text, "reasoning_content": thought} for thought in thoughts]
    return Conversation(messages, None, {}, None)


SILENT = LOOP + "<s>{{ m.role }}\n{{ BODY }}<e>{% endfor %}" + ASK + "<s>assistant\n{% endif %}"


@pytest.mark.parametrize(
    "body", ["m.content", "m.content | trim", "m.content.split('~')[-1].strip()", "m.content | tojson"]
)
def test_turns_of_which_nothing_is_printed(body: str) -> None:
    source = SILENT.replace("BODY", body)
    texts = ["", " ", "b", "b~", "b~ "]
    conversations = [thinking(thought, text=text) for text in texts for thought in ("", " ", "x")]

    for first in range(0, len(conversations), 4):
        template = same(source, *conversations[first:], *conversations[:first])
        assert template.replayed > 4


def test_turns_of_which_nothing_but_white_space_is_left() -> None:
    source = SILENT.replace("BODY", "m.content.replace('x', 'y').replace('z', '')")

    same(source, talk("a", "z"), talk("a", "x"), talk("a", ""), talk("a", "b"))
    same(source, talk("a", "b"), talk("a", "z"), talk("a", "x"))


@pytest.mark.parametrize("body", ["m.tool_calls[0].function.name", "m.tool_calls[0].function | tojson", "m.content"])
def test_calls_that_are_printed_and_that_are_not(body: str) -> None:
    def calling(name: str, text: str) -> Conversation:
        call = {"function": {"name": name, "arguments": {}}}
        return Conversation([{"role": "assistant", "content": text, "tool_calls": [call]}], None, {}, None)

    conversations = [calling(name, text) for name in ("f", "", " ") for text in ("", "b", " ")]
    assert same(SILENT.replace("BODY", body), *conversations).replayed > 4
    same(SILENT.replace("BODY", body), *conversations[::-1])


def test_a_second_header_behind_the_words_of_a_call() -> None:
    function = "message.tool_calls[0].function"
    named = f"'A function: ' + {function}.name + ({function}.arguments | tojson)"
    source = odd.TWO_HEADERS.source.replace(f"{function} | tojson", named)
    template = breed_template(replace(odd.TWO_HEADERS, source=source))
    for text in ("", "a", "<think>", "<think>a"):
        for arguments in ({"k": "v"}, {"k": 1}, {}, {" ": 1}, {'"': "<think>"}):
            called = {
                "role": "assistant",
                "content": text,
                "tool_calls": [{"function": {"name": "f", "arguments": arguments}}],
            }
            given = Conversation([{"role": "user", "content": "q"}, called], None, {}, None)
            for _ in range(6):
                assert replayed(template, given) == rendered(template, given)
    assert template.replayed > 20
