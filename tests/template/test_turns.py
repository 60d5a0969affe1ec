from __future__ import annotations

import re
from dataclasses import replace
from datetime import datetime
from typing import Any

import pytest
import template_zoo as zoo
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from strategies import chats, message_texts, tool_chats
from template_zoo import Breed
from transformers import AutoTokenizer
from transformers.utils.chat_template_utils import render_jinja_template

from sftprep.errors import ConversationError
from sftprep.records.conversation import Conversation
from sftprep.template.chat_template import ChatTemplate, open_template
from sftprep.template.turns import (
    Rendering,
    Span,
    end_of_turn,
    header_of,
    marks_of,
    rendering_of,
    shared_length,
    token_pattern,
)

Messages = list[dict[str, Any]]


def template_of(breed: Breed, **options: Any) -> ChatTemplate:
    added = (*breed.controls, *breed.plain)
    return open_template(
        breed.source,
        breed.special,
        control_tokens=breed.controls,
        added_tokens=added,
        now=datetime(2025, 6, 28),
        **options,
    )


def conversation(messages: Messages, tools: list[dict[str, Any]] | None = None, **kwargs: Any) -> Conversation:
    return Conversation(zoo.as_read(messages), tools, kwargs, None)


def trained(template: ChatTemplate, messages: Messages, **kwargs: Any) -> list[str]:
    rendering = template.render(conversation(messages, **kwargs))
    return [rendering.text[span.start : span.stop] for span in rendering.spans]


def system(text: str) -> dict[str, Any]:
    return {"role": "system", "content": text}


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def assistant(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def call(text: str = "", **arguments: Any) -> dict[str, Any]:
    function = {"name": "weather", "arguments": arguments or {"city": "Rome"}}
    return assistant(text, tool_calls=[{"type": "function", "id": "abcdefghi", "function": function}])


def result(text: str) -> dict[str, Any]:
    return {"role": "tool", "name": "weather", "tool_call_id": "abcdefghi", "content": text}


PLAIN = [user("Hi"), assistant("Hello."), user("Bye"), assistant(" Ciao. ")]
SYSTEM = [system("Be kind."), *PLAIN]
TOOL = [user("Weather?"), call(), result("hot"), assistant("It is hot.")]
THINK = [
    user("Hi"),
    assistant("Hello.", reasoning_content="Greets."),
    user("Bye"),
    assistant("Ciao.", reasoning_content="Leaves."),
]
EMPTY = [user("Hi"), assistant(""), user("Bye"), assistant("Ciao.")]
DROPPED = [user("Hi"), assistant("<think>\nGreets.\n</think>\n\nHello.")]

CALLED = '[{"type": "function", "id": "abcdefghi", "function": {"name": "weather", "arguments": {"city": "Rome"}}}]<|im_end|>'

EXPECTED: list[tuple[Breed, Messages, list[str]]] = [
    (zoo.CHATML, SYSTEM, ["Hello.<|im_end|>", " Ciao. <|im_end|>"]),
    (zoo.CHATML, EMPTY, ["<|im_end|>", "Ciao.<|im_end|>"]),
    (zoo.LLAMA_2, SYSTEM, [" Hello. </s>", " Ciao. </s>"]),
    (zoo.LLAMA_3, SYSTEM, ["Hello.<|eot_id|>", "Ciao.<|eot_id|>"]),
    (zoo.LLAMA_3, TOOL, ['{"name": "weather", "parameters": {"city": "Rome"}}<|eot_id|>', "It is hot.<|eot_id|>"]),
    (zoo.MISTRAL_1, PLAIN, ["Hello.</s>", " Ciao. </s>"]),
    (zoo.MISTRAL_3, PLAIN, [" Hello.</s>", " Ciao.</s>"]),
    (
        zoo.MISTRAL_3,
        TOOL,
        [
            '[TOOL_CALLS] [{"name": "weather", "arguments": {"city": "Rome"}, "id": "abcdefghi"}]</s>',
            " It is hot.</s>",
        ],
    ),
    (zoo.GEMMA, SYSTEM, ["Hello.<end_of_turn>", "Ciao.<end_of_turn>"]),
    (zoo.PHI_3, SYSTEM, ["Hello.<|end|>", " Ciao. <|end|>"]),
    (zoo.GLM_4, SYSTEM, ["\nHello.<|user|>", "\n Ciao. "]),
    (zoo.GLM_4, TOOL, ['weather\n{"city": "Rome"}<|observation|>', "\nIt is hot."]),
    (zoo.GLM_45, SYSTEM, ["\n<think></think>\nHello.<|user|>", "\n<think></think>\n Ciao. "]),
    (
        zoo.GLM_45,
        [user("Weather?"), call("Wait."), result("hot"), result("dry"), assistant("Hot.")],
        [
            "\n<think></think>\nWait.\n<tool_call>weather\n<arg_key>city</arg_key>Rome\n</tool_call><|observation|>",
            "\n<think></think>\nHot.",
        ],
    ),
    (
        zoo.GPT_OSS,
        SYSTEM,
        ["<|channel|>final<|message|>Hello.<|end|>", "<|channel|>final<|message|> Ciao. <|return|>"],
    ),
    (
        zoo.GPT_OSS,
        THINK,
        [
            "<|channel|>final<|message|>Hello.<|end|>",
            "<|channel|>analysis<|message|>Leaves.<|end|><|start|>assistant<|channel|>final<|message|>Ciao.<|return|>",
        ],
    ),
    (
        zoo.GPT_OSS,
        [user("Weather?"), {**call(), "thinking": "Ask."}, result("hot")],
        [
            "<|channel|>analysis<|message|>Ask.<|end|>"
            '<|start|>assistant to=functions.weather<|channel|>commentary json<|message|>{"city": "Rome"}<|call|>'
        ],
    ),
    (zoo.DEEPSEEK_R1, SYSTEM, ["Hello.<｜end▁of▁sentence｜>", " Ciao. <｜end▁of▁sentence｜>"]),
    (zoo.DEEPSEEK_R1, DROPPED, ["\n\nHello.<｜end▁of▁sentence｜>"]),
    (
        zoo.DEEPSEEK_R1,
        TOOL,
        [
            "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>weather\n"
            '{"city": "Rome"}<｜tool▁call▁end｜><｜tool▁calls▁end｜><｜end▁of▁sentence｜>',
            "It is hot.<｜end▁of▁sentence｜>",
        ],
    ),
    (zoo.QWEN_3, SYSTEM, ["Hello.<|im_end|>", "<think>\n\n</think>\n\n Ciao. <|im_end|>"]),
    (zoo.QWEN_3, THINK, ["Hello.<|im_end|>", "<think>\nLeaves.\n</think>\n\nCiao.<|im_end|>"]),
    (zoo.QWEN_3, DROPPED, ["<think>\nGreets.\n</think>\n\nHello.<|im_end|>"]),
    (zoo.QWEN_3, [*DROPPED, *PLAIN[2:]], ["Hello.<|im_end|>", "<think>\n\n</think>\n\n Ciao. <|im_end|>"]),
    (
        zoo.QWEN_3,
        [user("Weather?"), call("Wait."), result("hot"), result("dry"), assistant("Hot.")],
        [
            'Wait.\n<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>',
            "<think>\n\n</think>\n\nHot.<|im_end|>",
        ],
    ),
    (zoo.QWQ, THINK, ["Greets.\n</think>\n\nHello.<|im_end|>", "Leaves.\n</think>\n\nCiao.<|im_end|>"]),
    (zoo.QWQ, PLAIN, ["Hello.<|im_end|>", " Ciao. <|im_end|>"]),
    (zoo.QWQ, [user("Hi"), assistant("<tool_call>")], ["<tool_call><|im_end|>"]),
    (zoo.ZEPHYR, SYSTEM, ["Hello.</s>", " Ciao. </s>"]),
    (zoo.COMMAND_R, SYSTEM, ["Hello.<|END_OF_TURN_TOKEN|>", "Ciao.<|END_OF_TURN_TOKEN|>"]),
    (zoo.FALCON, SYSTEM, [" Hello.", "  Ciao. "]),
    (zoo.VICUNA, PLAIN, [" Hello.</s>", "  Ciao. </s>"]),
    (zoo.SEPARATED, PLAIN, ["Hello.\n###\n", " Ciao. "]),
    (zoo.DELAYED, PLAIN, ["Hello.<|end|>", " Ciao. <|end|>"]),
    (zoo.DELAYED, [*PLAIN, user("Really?")], ["Hello.<|end|>", " Ciao. <|end|>"]),
    (zoo.DELAYED, THINK, ["(Greets.)Hello.<|end|>", "Ciao.<|end|>"]),
    (
        zoo.EARLY_RESULTS,
        TOOL,
        ['{"name": "weather", "arguments": {"city": "Rome"}}<|call|>', "It is hot.<|end|>"],
    ),
    (zoo.BY_INDEX, SYSTEM, ["Hello.<|im_end|>", " Ciao. <|im_end|>"]),
    (zoo.REBUILT, SYSTEM, ["Hello.<end_of_turn>", "Ciao.<end_of_turn>"]),
    (zoo.LAST_APART, SYSTEM, ["Hello.<|im_end|>", " Ciao. <|im_end|>"]),
    (zoo.LAST_APART, SYSTEM[:-1], ["Hello.<|im_end|>"]),
    (zoo.MACROS, SYSTEM, ["Hello.<|im_end|>", " Ciao. <|im_end|>"]),
    (zoo.MACROS, TOOL, ["<|im_end|>", "It is hot.<|im_end|>"]),
    (zoo.MACROS, [user("Hi"), assistant("stop"), user("Bye"), assistant("Ciao.")], ["stop<|im_end|>"]),
    (zoo.SET_BLOCK, SYSTEM, ["Hello.<|im_end|>", " Ciao. <|im_end|>"]),
    (zoo.SILENT, [user("Weather?"), call(), result("hot"), assistant("Hot.")], [CALLED, "Hot.<|im_end|>"]),
]


@pytest.mark.parametrize(("breed", "messages", "expected"), EXPECTED)
def test_what_is_trained(breed: Breed, messages: Messages, expected: list[str]) -> None:
    assert trained(template_of(breed), messages) == expected


def test_the_prompt_follows_template_variables() -> None:
    off = template_of(zoo.QWEN_3, template_kwargs={"enable_thinking": False})
    by_record = template_of(zoo.QWEN_3)

    expected = ["Hello.<|im_end|>", "Leaves.\n</think>\n\nCiao.<|im_end|>"]
    assert trained(off, THINK) == trained(by_record, THINK, enable_thinking=False) == expected
    assert (
        trained(off, PLAIN)
        == trained(by_record, PLAIN, enable_thinking=False)
        == ["Hello.<|im_end|>", " Ciao. <|im_end|>"]
    )
    assert trained(template_of(zoo.GLM_45), PLAIN, enable_thinking=False) == ["\nHello.<|user|>", "\n Ciao. "]
    assert trained(off, PLAIN, enable_thinking=True) == ["Hello.<|im_end|>", "<think>\n\n</think>\n\n Ciao. <|im_end|>"]


def test_a_header_begins_and_ends_where_prompt_and_turn_agree() -> None:
    def headers(breed: Breed, messages: Messages, **kwargs: Any) -> list[str]:
        rendering = template_of(breed).render(conversation(messages, **kwargs))
        return [rendering.text[span.turn : span.start] for span in rendering.spans]

    assert headers(zoo.LLAMA_2, PLAIN) == ["", ""]
    assert headers(zoo.FALCON, PLAIN) == ["\nFalcon:", "\nFalcon:"]
    assert headers(zoo.SEPARATED, PLAIN) == ["\n###\nassistant: ", "\n###\nassistant: "]
    assert headers(zoo.DEEPSEEK_R1, TOOL) == ["<｜Assistant｜>", "<｜tool▁outputs▁end｜>"]
    assert headers(zoo.ZEPHYR, PLAIN) == ["<|assistant|>\n", "<|assistant|>\n"]
    assert headers(zoo.QWEN_3, THINK, enable_thinking=False) == [
        "<|im_start|>assistant\n",
        "<|im_start|>assistant\n<think>\n",
    ]
    assert headers(zoo.LAST_APART, PLAIN) == ["<|im_start|>assistant\n", "<|im_start|>assistant\n"]


@pytest.mark.parametrize(
    ("turn", "prompt", "header"),
    [
        ("<a>x", "<a>", "<a>"),
        ("<a>\n<think>\nHmm", "<a>\n<think>\n\n</think>\n\n", "<a>\n<think>\n"),
        ("<a>\n<tool_call>", "<a>\n<think>\n", "<a>\n"),
        ("<a><think>x", "<a><think>\n", "<a><think>"),
        ("<a><thick>x", "<a><think>\n", "<a>"),
        ("<a> hi", "<a> ha", "<a>"),
        ("assistant: x", "assistants:", ""),
        ("x", "<a>", ""),
        ("<a>x", "", ""),
        ("<a>", "<a>\n", "<a>"),
        ("\n<a>x", "<a>", "\n<a>"),
        ("\n\n<a>x", "\n<a>", "\n\n<a>"),
        ("<a>x", "<e><a>", "<a>"),
        ("a>x", "<e><a>", ""),
    ],
)
def test_header_of(turn: str, prompt: str, header: str) -> None:
    tokens = token_pattern(["<a>", "<e>", "<think>", "</think>", "<tool_call>"])
    before = "<u>Hi"

    begin, end = header_of(before + turn + "\n", len(before), len(before + turn), prompt, tokens)

    assert begin == len(before)
    assert (before + turn)[begin:end] == header


def test_header_of_takes_in_what_stands_before_the_turn() -> None:
    assert header_of("x###\na: y", 5, 9, "###\na:", token_pattern([])) == (1, 7)


@pytest.mark.parametrize(
    ("turn", "after", "token", "expected"),
    [
        ("x<e>\n", "<u>", None, "x<e>"),
        ("x<e> \n", "", None, "x<e>"),
        ("x<e>y<c>", "", None, "x<e>y<c>"),
        ("x<e>\n<c>\n", "<u>", None, "x<e>\n<c>"),
        ("x", "<u>y", None, "x<u>"),
        ("x\n", "<u>y", None, "x\n<u>"),
        ("x", " <u>y", None, "x"),
        ("x", "", None, "x"),
        ("x<e>y", "<u>", None, "x<e>y<u>"),
        ("x<e>y<c>z", "<u>", "<e>", "x<e>"),
        ("x<e>y<e>z", "", "<e>", "x<e>y<e>"),
        ("x", "<u>", "<u>", "x<u>"),
        ("x", "<u>", "<e>", "x"),
    ],
)
def test_end_of_turn(turn: str, after: str, token: str | None, expected: str) -> None:
    text = "<a>" + turn + after
    controls = [found.span() for found in re.finditer("<.>", text)]

    assert text[3 : end_of_turn(text, 3, 3 + len(turn), controls, token)] == expected


@given(st.text("ab", max_size=9), st.text("ab", max_size=9))
def test_shared_length(one: str, other: str) -> None:
    length = shared_length(one, other)

    assert one[:length] == other[:length]
    assert one[length : length + 1] != other[length : length + 1] or len(one) == length or len(other) == length


def test_overrides() -> None:
    longer = template_of(zoo.CHATML, header="<|im_start|>assistant\nSure: ")
    assert trained(longer, [user("Hi"), assistant("Sure: ok")]) == ["ok<|im_end|>"]
    assert trained(longer, [user("Hi"), assistant("No.")]) == ["No.<|im_end|>"]
    assert trained(template_of(zoo.CHATML, header=""), PLAIN[:2]) == ["<|im_start|>assistant\nHello.<|im_end|>"]
    assert (
        trained(template_of(zoo.GPT_OSS, end_of_turn="<|end|>"), THINK)[1]
        == "<|channel|>analysis<|message|>Leaves.<|end|>"
    )
    assert trained(template_of(zoo.SEPARATED, end_of_turn="###"), PLAIN) == ["Hello.\n###", " Ciao. "]
    assert trained(template_of(zoo.SEPARATED, end_of_turn="user:"), PLAIN) == ["Hello.\n###\nuser:", " Ciao. "]


def test_other_roles_are_trained_where_asked() -> None:
    everyone = ("system", "user", "assistant", "tool")

    assert trained(template_of(zoo.CHATML, roles=everyone), SYSTEM) == [
        "Be kind.<|im_end|>", "Hi<|im_end|>", "Hello.<|im_end|>", "Bye<|im_end|>", " Ciao. <|im_end|>",
    ]  # fmt: skip
    assert trained(template_of(zoo.QWEN_3, roles=["user", "tool"]), TOOL) == [
        "Weather?<|im_end|>",
        "hot\n</tool_response><|im_end|>",
    ]
    assert trained(template_of(zoo.GLM_4, roles=["user"]), PLAIN) == ["Hi<|assistant|>", "Bye<|assistant|>"]
    assert trained(template_of(zoo.GEMMA, roles=["user"]), SYSTEM)[1] == "Bye<end_of_turn>"


def test_a_message_that_prints_nothing_has_no_span() -> None:
    quiet = Breed(
        "{% for m in messages %}{% if m.role == 'user' or m.content %}{{ '<a>' + m.content + '<e>' }}{% endif %}{% endfor %}",
        controls=("<a>", "<e>"),
    )

    rendering = template_of(quiet).render(conversation(EMPTY))

    assert [(span.message, rendering.text[span.start : span.stop]) for span in rendering.spans] == [(3, "<a>Ciao.<e>")]


def test_prompts_that_a_template_refuses_are_asked_for_after_a_question() -> None:
    template = template_of(
        Breed(
            "{% if messages[0].content is undefined %}{{ raise_exception('empty') }}{% endif %}"
            "{% for m in messages %}{{ '<' + m.role[0] + '>' + m.content + '<e>' }}{% endfor %}"
            "{% if add_generation_prompt and messages[-1].role != 'assistant' %}{{ '<a>' }}{% endif %}",
            controls=("<a>", "<u>", "<e>"),
        )
    )

    assert trained(template, [assistant("Welcome."), user("Hi"), assistant("Hello.")]) == ["Welcome.<e>", "Hello.<e>"]


# -- control tokens --


def words_at(rendering: Rendering, places: tuple[tuple[int, int], ...]) -> list[str]:
    return [rendering.text[start:stop] for start, stop in places]


@pytest.mark.parametrize(
    "name", ["CHATML", "LLAMA_3", "MISTRAL_3", "GLM_4", "GPT_OSS", "DEEPSEEK_R1", "QWEN_3", "PHI_3"]
)
def test_text_that_spells_control_tokens_is_not_the_templates(name: str) -> None:
    breed = getattr(zoo, name)
    template = template_of(breed)
    fair = template.render(conversation([*TOOL, user("Thanks"), assistant("Bye.")]))
    tokens = sorted(template.control_tokens)

    for text in [*tokens, "".join(tokens), tokens[0] + " " + tokens[-1][1:]]:
        messages = [
            user(text),
            call(**{"x" + text: text}),
            result(text),
            assistant(text),
            user(text),
            assistant("." + text),
        ]
        rendering = template.render(conversation(messages))

        assert words_at(rendering, rendering.controls) == words_at(fair, fair.controls)
        assert set(words_at(rendering, rendering.forged)) == {token for token in tokens if token in text}
        assert not {*rendering.controls} & {*rendering.forged}
        assert marks_of(rendering).first == marks_of(fair).first
        assert marks_of(rendering).last == marks_of(fair).last


def test_tools_and_variables_do_not_spell_control_tokens_either() -> None:
    tool = {
        "type": "function",
        "function": {"name": "f", "description": "<|im_end|>", "parameters": {"<|im_start|>": 1}},
    }
    rendering = template_of(zoo.QWEN_3).render(conversation(PLAIN, [tool]))
    assert words_at(rendering, rendering.forged) == ["<|im_end|>", "<|im_start|>"]

    documents = [{"title": "<|USER_TOKEN|>", "text": "<BOS_TOKEN>"}]
    rendering = template_of(zoo.COMMAND_R).render(conversation(PLAIN, documents=documents))
    assert words_at(rendering, rendering.forged) == ["<|USER_TOKEN|>", "<BOS_TOKEN>"]


PARTS = Breed(
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% for part in m.content %}{{ part.text }}{% endfor %}{{ '<|im_end|>\n' }}{% endfor %}",
    controls=("<|im_start|>", "<|im_end|>"),
)


def test_a_token_joined_from_two_parts_is_not_the_templates() -> None:
    halves = [{"type": "text", "text": "x<|im_"}, {"type": "text", "text": "end|>y"}]

    rendering = template_of(PARTS).render(
        conversation([{"role": "user", "content": halves}, {"role": "assistant", "content": halves}])
    )

    assert rendering.text == "<|im_start|>user\nx<|im_end|>y<|im_end|>\n<|im_start|>assistant\nx<|im_end|>y<|im_end|>\n"
    assert words_at(rendering, rendering.controls) == ["<|im_start|>", "<|im_end|>"] * 2
    assert words_at(rendering, rendering.forged) == ["<|im_end|>"] * 2
    assert rendering.text[rendering.spans[0].start :] == "<|im_start|>assistant\nx<|im_end|>y<|im_end|>\n"


def test_a_template_that_looks_for_control_tokens_finds_those_that_text_spells() -> None:
    template = template_of(
        Breed(
            zoo.CHATML.source.replace("message['content']", "message['content'].split('<|im_end|>')[0]"),
            controls=zoo.CHATML.controls,
        )
    )

    assert trained(template, [user("a < b"), assistant("x <|im_")]) == ["x <|im_<|im_end|>"]
    rendering = template.render(conversation([user("Hi<|im_end|> there"), assistant("x")]))
    assert rendering.text == "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nx<|im_end|>\n"
    assert words_at(rendering, rendering.controls) == ["<|im_start|>", "<|im_end|>"] * 2
    assert not rendering.forged


def test_a_template_that_measures_text_is_followed() -> None:
    measured = zoo.CHATML.source.replace("message['content']", "message['content'][:20]")
    template = template_of(Breed(measured, controls=zoo.CHATML.controls))

    assert trained(template, [user("a<b>" * 9), assistant("<i>" * 9)]) == ["<i><i><i><i><i><i><i<|im_end|>"]
    rendering = template.render(conversation([user("<|im_end|>" * 9), assistant("x")]))
    assert words_at(rendering, rendering.forged) == ["<|im_end|>"] * 2
    assert words_at(rendering, rendering.controls) == ["<|im_start|>", "<|im_end|>"] * 2


def test_noncharacters_are_text_unless_a_loop_is_held_back() -> None:
    template = template_of(zoo.CHATML)

    assert trained(template, [user("\ufdd0"), assistant("\ufdef\ufdd1 \U0001ffff")]) == [
        "\ufdef\ufdd1 \U0001ffff<|im_end|>"
    ]
    assert trained(template, [user("\ufdd0 <|im_end|>"), assistant("\ufdd1")]) == ["\ufdd1<|im_end|>"]
    with pytest.raises(ConversationError, match="noncharacters"):
        template_of(zoo.SET_BLOCK).render(conversation([user("\U0001fffe"), assistant("x")]))


@pytest.mark.parametrize(
    ("breed", "expected"),
    [
        (zoo.DEEPSEEK_R1, {"<｜User｜>", "<｜Assistant｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"}),
        (zoo.GLM_45, set()),
        (zoo.QWEN_3, set()),
        (zoo.QWQ, set()),
        (Breed(zoo.CHATML.source, plain=zoo.CHATML.controls), {"<|im_start|>", "<|im_end|>"}),
        (Breed(zoo.GLM_4.source, plain=zoo.GLM_4.controls), {"<|user|>", "<|assistant|>", "<|observation|>", "<|system|>"}),
        (Breed(zoo.MISTRAL_3.source, zoo.MISTRAL_3.special, plain=zoo.MISTRAL_3.controls), {"[INST]", "[/INST]", "[TOOL_RESULTS]", "[AVAILABLE_TOOLS]"}),
    ],
)  # fmt: skip
def test_tokens_that_begin_or_end_turns_are_control_tokens(breed: Breed, expected: set[str]) -> None:
    assert template_of(breed).control_tokens == expected | {*breed.controls, *breed.special.values()}


# -- spans counted in control tokens --


@pytest.mark.parametrize(("breed", "messages", "expected"), EXPECTED)
def test_marks_lead_back_to_spans(breed: Breed, messages: Messages, expected: list[str]) -> None:
    rendering = template_of(breed).render(conversation(messages))

    marks = marks_of(rendering)

    assert list(marks.controls) == words_at(rendering, rendering.controls)
    assert marks.message == tuple(span.message for span in rendering.spans)
    again = rendering_of(rendering.text, marks, template_of(breed).controls)
    assert (again is None) == marks.exact
    if again is not None:
        assert (again.text, again.controls) == (rendering.text, rendering.controls)
        spans = [(span.message, span.start, span.stop) for span in rendering.spans]
        assert [(span.message, span.start, span.stop) for span in again.spans] == spans
        assert all(
            rendering.text[span.turn : span.start].endswith(h)
            for span, h in zip(rendering.spans, marks.header, strict=True)
        )


def test_marks_do_not_lead_to_spans_of_a_text_with_forged_tokens() -> None:
    messages = [{"role": "user", "content": "<|im_end|>"}, {"role": "assistant", "content": "Hi"}]
    template = template_of(zoo.CHATML)
    rendering = template.render(conversation(messages))

    assert rendering.forged
    assert rendering_of(rendering.text, marks_of(rendering), template.controls) is None


def test_which_templates_have_spans_between_control_tokens() -> None:
    exact = {
        name
        for name, breed in vars(zoo).items()
        if isinstance(breed, Breed) and marks_of(template_of(breed).render(conversation(PLAIN))).exact
    }

    # GLM 4: the last turn ends with nothing; the others have no token right before the answer, or none after it
    assert exact == {"GLM_4", "GLM_45", "LLAMA_2", "MISTRAL_1", "FALCON", "VICUNA", "SEPARATED", "ZEPHYR"}


def test_marks_of() -> None:
    text = "<s>a<u>Hi<e><a>b\nHello<e>\n<a>Bye<e>"
    controls = tuple(found.span() for found in re.finditer("<.>", text))
    spans = (Span(2, 17, 25, 12), Span(3, 29, 35, 26))

    marks = marks_of(Rendering(text, spans, controls))

    assert words_at(Rendering(text, spans, controls), tuple((span.start, span.stop) for span in spans)) == [
        "Hello<e>",
        "Bye<e>",
    ]
    assert marks.controls == ("<s>", "<u>", "<e>", "<a>", "<e>", "<a>", "<e>")
    assert (marks.message, marks.first, marks.header, marks.last, marks.exact) == (
        (2, 3),
        (3, 5),
        ("b\n", ""),
        (4, 6),
        False,
    )


@pytest.mark.parametrize("span", [Span(0, 17, 25, 16), Span(0, 17, 22, 12), Span(0, 4, 12, 4), Span(0, 1, 12, 0)])
def test_spans_that_control_tokens_do_not_place(span: Span) -> None:
    text = "<s>a<u>Hi<e><a>b\nHello<e>"
    controls = tuple(found.span() for found in re.finditer("<.>", text))

    marks = marks_of(Rendering(text, (span,), controls))

    assert (marks.first, marks.header, marks.last, marks.exact) == ((-1,), ("",), (-1,), True)


# -- against prefixes --


def by_prefixes(breed: Breed, messages: Messages, end: str) -> list[str]:
    """What each assistant turn adds to the text before it with its prompt, up to the end of the turn."""

    def render(part: Messages, *, prompt: bool) -> str:
        texts, _ = render_jinja_template(
            [part], chat_template=breed.source, add_generation_prompt=prompt, **breed.special
        )
        text: str = texts[0]
        return text

    added = []
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            before, after = render(messages[:index], prompt=True), render(messages[: index + 1], prompt=False)
            assume(after.startswith(before))  # else the template is not prefix-stable here
            turn = after[len(before) :]
            added.append(turn[: turn.rindex(end) + len(end)])
    return added


STABLE = [
    (zoo.CHATML, "<|im_end|>", True),
    (zoo.LLAMA_2, "</s>", False),
    (zoo.LLAMA_3, "<|eot_id|>", True),
    (zoo.MISTRAL_1, "</s>", False),
    (zoo.MISTRAL_3, "</s>", False),
    (zoo.GEMMA, "<end_of_turn>", False),
    (zoo.ZEPHYR, "</s>", True),
    (zoo.COMMAND_R, "<|END_OF_TURN_TOKEN|>", True),
    (zoo.VICUNA, "</s>", True),
    (zoo.MACROS, "<|im_end|>", True),
    (zoo.SET_BLOCK, "<|im_end|>", True),
]


@pytest.mark.parametrize(("breed", "end", "systems"), STABLE)
def test_spans_are_what_prefixes_lack(breed: Breed, end: str, systems: bool) -> None:
    template = template_of(breed)

    @settings(max_examples=60)
    @given(chats(message_texts().filter(lambda text: "stop" not in text and "think" not in text), system=systems))
    def check(messages: Messages) -> None:
        assert trained(template, messages) == by_prefixes(breed, messages, end)

    check()


def test_spans_with_reasoning_are_what_prefixes_lack() -> None:
    template = template_of(zoo.QWQ)

    @settings(max_examples=60)
    @given(chats(message_texts()), message_texts())
    def check(messages: Messages, thought: str) -> None:
        thinking = [{**message, "reasoning_content": thought} for message in messages]
        assert trained(template, thinking) == by_prefixes(zoo.QWQ, thinking, "<|im_end|>")

    check()


# As R1, but answering without a thought: what R1's prompt opens is not in its earlier answers.
DEEPSEEK = replace(zoo.DEEPSEEK_R1, source=zoo.DEEPSEEK_R1.source.replace("<think>\n", ""))


@pytest.mark.parametrize("breed", [zoo.MISTRAL_3, DEEPSEEK])
def test_spans_of_tool_calls_are_what_prefixes_lack(breed: Breed) -> None:
    template = template_of(breed)

    @settings(max_examples=60)
    @given(tool_chats(message_texts().map(lambda text: text.replace("think", "thank"))))
    def check(messages: Messages) -> None:
        assert trained(template, messages) == by_prefixes(breed, messages, breed.special["eos_token"])

    check()


# -- published tokenizers --


def published(folder: Any, **options: Any) -> tuple[Any, ChatTemplate]:
    tokenizer = AutoTokenizer.from_pretrained(folder)
    added = list(tokenizer.added_tokens_decoder.values())
    special = [token.content for token in added if token.special]
    names = [token.content for token in added]
    return tokenizer, open_template(
        tokenizer.chat_template, tokenizer.special_tokens_map, control_tokens=special, added_tokens=names, **options
    )


def test_turns_of_minimind_3(shared_data: Any) -> None:
    _, template = published(shared_data / "tokenizers" / "minimind-3")
    _, thinking = published(shared_data / "tokenizers" / "minimind-3", template_kwargs={"open_thinking": True})

    assert trained(template, PLAIN) == ["Hello.<|im_end|>", " Ciao. <|im_end|>"]
    assert trained(template, THINK) == ["Greets.\n</think>\n\nHello.<|im_end|>", "Leaves.\n</think>\n\nCiao.<|im_end|>"]
    assert trained(thinking, PLAIN) == ["\n</think>\n\nHello.<|im_end|>", "\n</think>\n\n Ciao. <|im_end|>"]
    assert trained(template, TOOL) == [
        '<tool_call>\n{"name": "weather", "arguments": {"city": "Rome"}}\n</tool_call><|im_end|>',
        "It is hot.<|im_end|>",
    ]
    assert template.control_tokens.isdisjoint({"<think>", "</think>", "<tool_call>", "</tool_call>", "<tool_response>"})


def test_turns_of_deepseek_v3(shared_data: Any) -> None:
    _, template = published(shared_data / "tokenizers" / "deepseek_v3")
    asked = call()
    asked["tool_calls"][0]["function"]["arguments"] = '{"city": "Rome"}'

    assert trained(template, SYSTEM) == ["Hello.<｜end▁of▁sentence｜>", " Ciao. <｜end▁of▁sentence｜>"]
    assert trained(template, [user("Weather?"), result("hot"), assistant("Hot.")]) == ["Hot.<｜end▁of▁sentence｜>"]
    assert "<｜User｜>" in template.control_tokens
    assert "<think>" not in template.control_tokens
