"""What a template leaves out, by kind."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from breeds import DAY, conversation, template_of
from conftest import FULL
from kinds_of_conversation import KINDS, TOOLS
from published_templates import published
from sentinel_words import Sentinels, left_out

from sftprep.batches.variants import take
from sftprep.errors import SftprepError
from sftprep.records import said
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.records.said import LeftOut, Saying, has_words, kind_of, says
from sftprep.template.chat_template import ChatTemplate, open_template
from sftprep.template.turns import Rendering

EVERY_TEMPLATE, EVERY_KIND = (1, 1) if FULL else (5, 7)  # looked at; of kinds, other ones on the next template
_NAMED = [{"role": role, "name": "Chalcedony", "content": f"From {role}."} for role in ("user", "assistant")]
MORE = {
    "names": {"messages": [*_NAMED, _NAMED[0]]},
    "systems": {
        "messages": [{"role": "system", "content": "One rule."}, *_NAMED, {"role": "system", "content": "Two."}]
    },
    "three_calls": {
        "messages": [
            {"role": "user", "content": "Where?"},
            {"role": "assistant", "content": "", "tool_calls": [{"name": "look", "arguments": {"a": "b"}}] * 3},
        ],
        "tools": TOOLS,
    },
}


def rendered(template: ChatTemplate, given: Conversation) -> Rendering:
    """In the variant that the template takes."""

    def render(variant: Conversation) -> tuple[str, Rendering]:
        rendering = template.render(variant)
        return rendering.text, rendering

    def text_of(variant: Conversation) -> str:
        return template.compiled.mark(template.variables.of(variant), held_back=False).text

    return take(given, "auto", render, text_of, template.speaks)[1]


def test_published_templates_leave_out_what_is_not_found_in_the_text(shared_data: Path) -> None:
    """The oracle: records in which every word is another, and a search for the words."""
    records = {name: Sentinels().marked(record) for name, record in {**KINDS, **MORE}.items()}
    counts: Counter[str] = Counter()
    for number, each in enumerate(published(shared_data)[::EVERY_TEMPLATE]):
        tokens = (*each.controls, *each.plain)
        template = open_template(
            each.source, each.special, control_tokens=each.controls, added_tokens=tokens, roles=(), now=DAY
        )
        for name in [name for place, name in enumerate(records) if (place + number) % EVERY_KIND == 0]:
            try:
                rendering = rendered(template, parse_conversation(json.dumps(records[name]).encode()))
            except SftprepError:
                counts["refused"] += 1
                continue
            found = set(rendering.unprinted)
            assert found == left_out(records[name], rendering.text), (each.name, name)
            counts.update({kind for kind, _ in found} or ["all printed"])
    print(f"left out: {dict(counts)}")
    assert {"reasoning", "tool_calls", said.TOOLS, "tool_results", "names", "all printed"} <= counts.keys()
    if FULL:
        assert {*said.KINDS} <= counts.keys()


LOOP = "{% for m in messages %}<s>{{ m.role }}\nBODY<e>{% endfor %}"
CALLS = [{"id": name * 9, "function": {"name": name, "arguments": {"city": "Paris"}}} for name in ("f", "g")]
TALK: dict[str, Any] = {"role": "user", "content": "Hello there", "name": "Ada"}
ANSWER = {"role": "assistant", "content": "Hello there", "reasoning_content": "Hello"}
CALLING = {"role": "assistant", "content": " ", "tool_calls": CALLS}


@pytest.mark.parametrize(
    ("body", "message", "expected"),
    [
        ("{{ m.content }}", TALK, ["names"]),
        ("{{ m.content }}{{ m.name }}", TALK, []),
        ("{{ m.content }}{{ messages[0].name }}", TALK, []),
        ("Hello there Ada", TALK, ["names", "user"]),
        ("{{ m.name.upper() }}{{ m.content[6:7] }}", TALK, []),
        ("{{ m.name | length }}{{ m.content[5:6] }}", TALK, ["names", "user"]),
        ("{{ m | tojson }}", TALK, []),
        ("{% if m.name == 'Ada' %}Ada{% endif %}{{ m.content }}", TALK, ["names"]),
        ("{{ m.content }}", {**TALK, "name": " "}, []),
        ("{{ m.content }}", {**TALK, "role": "tool"}, []),
        ("{{ m.name }}", {**TALK, "role": "tool"}, ["tool_results"]),
        ("", {**TALK, "content": "\n"}, ["names"]),
        ("{{ m.id }}", {"role": "system", "content": "Rule", "id": "Rule"}, ["system"]),
        ("", {"role": "developer", "content": "Rule"}, ["developer"]),
        ("{{ m.content }}", ANSWER, ["reasoning"]),
        ("{{ m.thinking }}", ANSWER, ["assistant"]),
        ("{{ m.content.split('there')[0] }}{{ m.reasoning_content[5:] }}", ANSWER, ["reasoning"]),
        ("{{ m.content }}", CALLING, ["tool_calls"]),
        ("{{ m.tool_calls[0].function.name }}", CALLING, ["tool_calls"]),
        ("{% for c in m.tool_calls %}{{ c.function.name }}{% endfor %}", CALLING, []),
        ("{% for c in m.tool_calls %}{{ c.function.arguments.city }}{% endfor %}", CALLING, []),
        ("{{ m.tool_calls | length }}", CALLING, ["tool_calls"]),
        ("{{ m.content[0].text }}", {**TALK, "content": [{"type": "text", "text": text} for text in "ab"]}, ["names", "user"]),
        ("{% for part in m.content %}{{ part.text }}{% endfor %}", {**TALK, "content": [{"type": "text", "text": text} for text in "ab"]}, ["names"]),
    ],
)  # fmt: skip
def test_what_is_left_out(body: str, message: dict[str, Any], expected: list[str]) -> None:
    template = template_of(LOOP.replace("BODY", body), roles=())
    assert template.render(conversation([message])).unprinted == tuple((kind, 0) for kind in expected)


def test_it_is_told_by_message_the_list_of_tools_first() -> None:
    template = template_of(LOOP.replace("BODY", "{{ m.content if loop.index0 != 1 }}"))
    given = conversation([TALK, ANSWER, TALK | {"role": "system"}, ANSWER], TOOLS)
    expected: tuple[LeftOut, ...] = (
        ("tools", -1), ("names", 0), ("assistant", 1), ("reasoning", 1), ("names", 2), ("reasoning", 3)
    )  # fmt: skip
    assert template.render(given).unprinted == expected
    blocks = LOOP.replace("BODY", "{% generation %}{{ m.content if loop.index0 != 1 }}{% endgeneration %}")
    assert template_of(blocks).render_blocks(given).unprinted == expected


@pytest.mark.parametrize(
    ("source", "is_left_out"),
    [
        ("", True),
        ("find_weather", True),
        ("{{ tools | default([], true) | length }}", True),
        ("{{ tools | tojson }}", False),
        ("{% if tools %}{% for tool in tools %}{{ tool.function.name }}{% endfor %}{% endif %}", False),
    ],
)
def test_lists_of_tools(source: str, is_left_out: bool) -> None:
    template = template_of(source + LOOP.replace("BODY", "{{ m.content }}"))
    talk = [{"role": "user", "content": "find_weather?"}]
    assert template.render(conversation(talk, TOOLS)).unprinted == ((said.TOOLS, -1),) * is_left_out
    assert template.render(conversation(talk)).unprinted == ()


def test_reasoning_has_several_names() -> None:
    message = {"role": "assistant", "content": "A", "reasoning_content": "one", "thinking": "two", "reasoning": " "}
    given = Conversation([message], None, {}, None)
    for key in ("reasoning_content", "thinking", "reasoning"):
        rendering = template_of(LOOP.replace("BODY", "{{ m.content }}{{ m." + key + " }}")).render(given)
        assert rendering.unprinted == ((("reasoning", 0),) if key == "reasoning" else ())


def test_sayings_that_count() -> None:
    sayings = [
        Saying("user", 1, has_words=True),
        Saying("user", 1, has_words=True),
        Saying("user", 2, has_words=True, printed=True),
        Saying("user", 3, has_words=False),
        Saying("reasoning", 0, has_words=True),
    ]
    assert said.left_out(sayings) == (("reasoning", 0), ("user", 1))


def test_kinds() -> None:
    assert [kind_of(role, "content") for role in ("system", "tool")] == ["system", "tool_results"]
    assert [kind_of(role, "name") for role in ("user", "tool")] == ["names", None]
    found = {kind_of("user", key) for key in ("thinking", "tool_calls", "tool_call_id", "role", "note")}
    assert found == {"reasoning", "tool_calls", None}


@pytest.mark.parametrize("value", ["", " \n", None, 7, {"type": "text", "text": " "}, [[]], {"type": "x"}])
def test_values_without_words(value: Any) -> None:
    assert not has_words(value)
    assert not says({"role": "user", "content": value})


def test_values_with_words() -> None:
    for value in ("a", [{"type": "text", "text": "a"}], {"b": [" ", "."]}):
        assert has_words(value)
        assert says({"role": "user", "content": value})
    assert says({"role": "assistant", "content": "", "tool_calls": [{}]})
    assert not says({"role": "user", "content": "", "name": "Ada"})
