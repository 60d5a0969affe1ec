"""What of each turn is trained, over templates of all kinds."""

from __future__ import annotations

from typing import Any

import odd_templates as odd
import pytest
import template_zoo as zoo
from breeds import Breed, breeds_of, conversation, template_of
from small_talk import (
    DROPPED,
    EMPTY,
    PLAIN,
    SYSTEM,
    THINK,
    TOOL,
    Messages,
    assistant,
    call,
    result,
    trained,
    user,
    words_at,
)
from transformers import AutoTokenizer

from sftprep.template.chat_template import ChatTemplate, open_template
from sftprep.template.turns import (
    places_of,
    rendering_of,
    told_of,
)

CALLED = '[{"type": "function", "id": "abcdefghi", "function": {"name": "weather", "arguments": {"city": "Rome"}}}]<|im_end|>'
FUNCTION = '{"name": "weather", "arguments": {"city": "Rome"}}'

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
    (odd.FALCON, SYSTEM, [" Hello.", "  Ciao. "]),
    (odd.VICUNA, PLAIN, [" Hello.</s>", "  Ciao. </s>"]),
    (odd.SEPARATED, PLAIN, ["Hello.\n###\n", " Ciao. "]),
    (odd.DELAYED, PLAIN, ["Hello.<|end|>", " Ciao. <|end|>"]),
    (odd.DELAYED, [*PLAIN, user("Really?")], ["Hello.<|end|>", " Ciao. <|end|>"]),
    (odd.DELAYED, THINK, ["(Greets.)Hello.<|end|>", "Ciao.<|end|>"]),
    (
        odd.EARLY_RESULTS,
        TOOL,
        ['{"name": "weather", "arguments": {"city": "Rome"}}<|call|>', "It is hot.<|end|>"],
    ),
    (odd.BY_INDEX, SYSTEM, ["Hello.<|im_end|>", " Ciao. <|im_end|>"]),
    (odd.REBUILT, SYSTEM, ["Hello.<end_of_turn>", "Ciao.<end_of_turn>"]),
    (odd.LAST_APART, SYSTEM, ["Hello.<|im_end|>", " Ciao. <|im_end|>"]),
    (odd.LAST_APART, SYSTEM[:-1], ["Hello.<|im_end|>"]),
    (odd.MACROS, SYSTEM, ["Hello.<|im_end|>", " Ciao. <|im_end|>"]),
    (odd.MACROS, TOOL, ["It is hot.<|im_end|>"]),  # it prints no calls
    (zoo.CHATML, [user("Hi"), assistant("", reasoning_content="Hm."), user("Bye"), assistant(" ")], [" <|im_end|>"]),
    (odd.MACROS, [user("Hi"), assistant("stop"), user("Bye"), assistant("Ciao.")], ["stop<|im_end|>"]),
    (odd.SET_BLOCK, SYSTEM, ["Hello.<|im_end|>", " Ciao. <|im_end|>"]),
    (odd.SILENT, [user("Weather?"), call(), result("hot"), assistant("Hot.")], [CALLED, "Hot.<|im_end|>"]),
    (odd.WELCOMING, PLAIN, ["Hello.<|im_end|>", " Ciao. <|im_end|>"]),
    (odd.WELCOMING, [assistant("Hello."), *PLAIN], ["Hello.<|im_end|>", "Hello.<|im_end|>", " Ciao. <|im_end|>"]),
    (odd.WELCOMING, [assistant("<think>\nGreets.")], ["Greets.<|im_end|>"]),
    (odd.WELCOMING, [assistant("assistant\nGreets.")], ["assistant\nGreets.<|im_end|>"]),
    (odd.WELCOMING, [assistant(""), *PLAIN[:2]], ["<|im_end|>", "Hello.<|im_end|>"]),
    (odd.WELCOMING, [call("Wait.")], [f"Wait.{CALLED}"]),
    (odd.INDENTED, SYSTEM, [" Hello.\n", "  Ciao. \n"]),
    (odd.INDENTED, [assistant("Hello.")], [" Hello.\n"]),
    (odd.CLOSED_THOUGHT, PLAIN, ["Hello.<|end|>", " Ciao. <|end|>"]),
    (odd.CLOSED_THOUGHT, TOOL, [f"{CALLED[:-10]}<|end|>", "It is hot.<|end|>"]),
    (odd.TWO_HEADERS, PLAIN, ["Hello.<|end|>", " Ciao. <|end|>"]),
    (odd.TWO_HEADERS, [user("Weather?"), call()], [f"{FUNCTION}<|end|>"]),
    (odd.TWO_HEADERS, [user("Weather?"), call("Wait.")], [f"{FUNCTION}<|end|>"]),
    (odd.OPEN_CALL, TOOL, [f"<|call>{FUNCTION}<call|><|result>", "It is hot.<turn|>"]),
    (odd.OPEN_CALL, TOOL[:2], [f"<|call>{FUNCTION}<call|><|result>"]),
    (odd.OPEN_CALL, [*TOOL[:2], *PLAIN], [f"<|call>{FUNCTION}<call|>", "Hello.<turn|>", " Ciao. <turn|>"]),
]


@pytest.mark.parametrize(("breed", "messages", "expected"), EXPECTED)
def test_what_is_trained(breed: Breed, messages: Messages, expected: list[str]) -> None:
    assert trained(template_of(breed), messages) == expected


def test_a_header_begins_and_ends_where_prompt_and_turn_agree() -> None:
    def headers(breed: Breed, messages: Messages, **kwargs: Any) -> list[str]:
        rendering = template_of(breed).render(conversation(messages, **kwargs))
        return [rendering.text[span.turn : span.start] for span in rendering.spans]

    assert headers(zoo.LLAMA_2, PLAIN) == ["", ""]
    assert headers(odd.FALCON, PLAIN) == ["\nFalcon:", "\nFalcon:"]
    assert headers(odd.SEPARATED, PLAIN) == ["###\nassistant: ", "###\nassistant: "]
    assert headers(zoo.DEEPSEEK_R1, TOOL) == ["<｜Assistant｜>", "<｜tool▁outputs▁end｜>"]
    assert headers(zoo.ZEPHYR, PLAIN) == ["<|assistant|>\n", "<|assistant|>\n"]
    assert headers(zoo.QWEN_3, THINK, enable_thinking=False) == [
        "<|im_start|>assistant\n",
        "<|im_start|>assistant\n<think>\n",
    ]
    assert headers(odd.LAST_APART, PLAIN) == ["<|im_start|>assistant\n", "<|im_start|>assistant\n"]


def test_tools_before_the_header_of_the_first_message() -> None:
    function = {"name": "f", "description": "<|im_start|>assistant\n<think>\n"}
    template = template_of(odd.WELCOMING)
    for text in ("Hello.", "<think>\nHello.", "So: assistant\nHello."):
        given = conversation([assistant(text), *PLAIN], [{"type": "function", "function": function}])
        rendering = template.render(given)
        spans = [rendering.text[span.start : span.stop] for span in rendering.spans]
        assert spans == [f"{text.removeprefix('<think>')}<|im_end|>".lstrip(), *trained(template, PLAIN)]


def test_overrides() -> None:
    longer = template_of(zoo.CHATML, header="<|im_start|>assistant\nSure: ")
    assert trained(longer, [user("Hi"), assistant("Sure: ok")]) == ["ok<|im_end|>"]
    assert trained(longer, [user("Hi"), assistant("No.")]) == ["No.<|im_end|>"]
    assert trained(template_of(zoo.CHATML, header=""), PLAIN[:2]) == ["<|im_start|>assistant\nHello.<|im_end|>"]
    assert (
        trained(template_of(zoo.GPT_OSS, end_of_turn="<|end|>"), THINK)[1]
        == "<|channel|>analysis<|message|>Leaves.<|end|>"
    )
    assert trained(template_of(odd.SEPARATED, end_of_turn="###"), PLAIN) == ["Hello.\n###", " Ciao. "]
    assert trained(template_of(odd.SEPARATED, end_of_turn="user:"), PLAIN) == ["Hello.\n###\nuser:", " Ciao. "]


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


@pytest.mark.parametrize(("breed", "messages", "expected"), EXPECTED)
def test_marks_lead_back_to_spans(breed: Breed, messages: Messages, expected: list[str]) -> None:
    rendering = template_of(breed).render(conversation(messages))

    marks = places_of(rendering)

    assert list(marks.controls) == words_at(rendering, rendering.controls)
    assert marks.message == tuple(span.message for span in rendering.spans)
    assert all(
        rendering.text[span.turn : span.start].endswith(header)
        for span, header in zip(rendering.spans, marks.header, strict=True)
    )
    again = rendering_of(rendering.text, told_of(rendering), template_of(breed).controls)
    assert again is not None
    assert (again.text, again.controls) == (rendering.text, rendering.controls)
    spans = [(span.message, span.start, span.stop) for span in rendering.spans]
    assert [(span.message, span.start, span.stop) for span in again.spans] == spans


def test_which_templates_have_spans_between_control_tokens() -> None:
    exact = {
        name
        for name, breed in breeds_of(zoo, odd).items()
        if places_of(template_of(breed).render(conversation(PLAIN))).unplaced
    }

    # which have no token right before the answer, or none after it
    apart = {"LLAMA_2", "MISTRAL_1", "FALCON", "VICUNA", "SEPARATED", "ZEPHYR", "INDENTED"}
    assert exact == apart


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
