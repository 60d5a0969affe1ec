"""What is left out of a text is left out of all that are printed in the same way."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from replays import ASK, LOOP, same

from sftprep.records.conversation import Conversation

TURN = (
    LOOP
    + "<s>{{ m.role }}\n{% if loop.first %}{{ m.content }}{% else %}BODY{% endif %}<e>{% endfor %}"
    + ASK
    + "<s>assistant\n{% endif %}"
)
TEXTS = ("", " ", "b", "b~", "b~ ", "~b")
QUESTION = {"role": "user", "content": "q"}


def check(source: str, conversations: list[Conversation], least: float = 0.5) -> None:
    """As Jinja has it, whichever comes first; most are replayed, and something is left out of some and not of others."""
    for first in range(0, len(conversations), max(len(conversations) // 3, 1)):
        template = same(source, *conversations[first:], *conversations[:first])
        assert template.replayed > least * (template.replayed + template.rendered) / 2
    assert len({template.template.render(each).unprinted for each in conversations}) > 1


def only(**more: Any) -> Conversation:
    return Conversation([QUESTION, {"role": "assistant", "content": "", **more}], None, {}, None)


@pytest.mark.parametrize(
    "body",
    [
        "m.content[1:]",
        "m.content.split('~')[-1]",
        "m.content.split('~')[0].strip()",
        "m.content.replace('b', '')",
        "m.content.replace('b', '\n', 1).replace(' ', '') | trim",
    ],
)
def test_content_that_is_cut(body: str) -> None:
    check(TURN.replace("BODY", "{{ " + body + " }}"), [only(content=text) for text in TEXTS])


@pytest.mark.parametrize(
    "body",
    [
        "('~' ~ m.content).split('~')[-1]",
        "(m.role ~ '~' ~ m.content ~ '~').split('~')[1].strip()",
        "(m.role ~ m.content ~ '~')[10:-1]",
        "(m.content ~ '~').partition('~')[2]",
        "('b' ~ m.content ~ 'b').replace('b', 'c')[1:-1]",
    ],
)
def test_content_that_is_cut_out_of_more(body: str) -> None:
    check(TURN.replace("BODY", "{{ " + body + " }}"), [only(content=text) for text in TEXTS])


@pytest.mark.parametrize("body", ["m.content", "m.content[:0] ~ m.name", "m.name ~ '!'", "m.name[1:] ~ m.content"])
def test_names_in_others_turns(body: str) -> None:
    given = [{**QUESTION, "content": text, "name": name} for text in TEXTS for name in TEXTS[:4]]
    check(
        TURN.replace("BODY", "{{ " + body + " }}"), [Conversation([QUESTION, each], None, {}, None) for each in given]
    )


@pytest.mark.parametrize(
    "body",
    [
        "m.content",
        "m.content | trim",
        "(m.role ~ m.content ~ '\n') | trim",
        "m.content | tojson",
        "m.content.replace(' ', '\n').replace('\n', '') | trim",
    ],
)
def test_content_that_is_printed_whole(body: str) -> None:
    template = same(TURN.replace("BODY", "{{ " + body + " }}"), *(only(content=text) for text in TEXTS))
    assert all(template.template.render(only(content=text)).unprinted == () for text in TEXTS)


@pytest.mark.parametrize("key", ["thinking", "reasoning_content", "thinking[1:]", "content"])
def test_reasoning_by_either_name(key: str) -> None:
    thoughts = list(product(TEXTS[:4], TEXTS[:4]))
    conversations = [only(thinking=one, reasoning_content=other) for one, other in thoughts]
    check(TURN.replace("BODY", "{{ m." + key + " }}"), conversations)


CALLS = [[{"name": name, "arguments": arguments} for name, arguments in calls] for calls in (
    [("f", {})], [("", {})], [("", {"a": " "})], [("", {"a": 5})], [("f", {"a": "b"})], [("", {"a": "b"})], [("f", {}), ("g", {"a": "b"})], [("f", {}), ("", {"a": "b"})],
    [("", {"a": "b"}), ("f", {})], [("f", {})] * 3, [("", {})] * 2,
)]  # fmt: skip


UNSEEN = [
    "{{ m.tool_calls[-1].name }}",
    "{% for c in m.tool_calls[1:] %}{{ c.name }}{% endfor %}",
    "{{ m.tool_calls | length }}",
]


@pytest.mark.parametrize(
    "body",
    [
        "{{ m.content }}",
        "{{ m.tool_calls | tojson }}",
        "{{ m.tool_calls[0].name }}",
        "{% for c in m.tool_calls %}{{ c.name }}{% endfor %}",
        "{% for c in m.tool_calls %}{{ c | tojson }}{% endfor %}",
        "{% for c in m.tool_calls %}{{ c.arguments | tojson }}{% endfor %}",
        "{% for c in m.tool_calls %}{% for key in c.arguments %}{{ key }}{{ c.arguments[key] }}{% endfor %}{% endfor %}",
        "{% for c in m.tool_calls if c.name != 'f' %}{{ c.name }}{% endfor %}",
        *UNSEEN,
    ],
)
def test_calls(body: str) -> None:
    template = same(TURN.replace("BODY", body), *(only(tool_calls=calls) for calls in CALLS))
    assert template.replayed > 3 or body in UNSEEN


PARTS = [
    [{"type": "text", "text": text} for text in texts]
    for texts in ((), ("a",), (" ",), ("a", "b"), (" ", "b"), ("a", " "))
]


@pytest.mark.parametrize(
    "body",
    ["m.content[0].text", "m.content | map(attribute='text') | join", "m.content", "m.note", "m.content[-1].type"],
)
def test_parts(body: str) -> None:
    """Of a user, so that it is nobody's turn."""
    same(TURN.replace("BODY", "{{ " + body + " }}"), *(
        Conversation([QUESTION | {"content": parts, "note": "n"}], None, {}, None) for parts in PARTS
    ))  # fmt: skip


@pytest.mark.parametrize(
    "source",
    ["", "{{ tools | tojson }}", "{{ tools[0].name }}", "{% for t in tools %}{{ t.name }}{% endfor %}", "{{ tools | length }}"],
)  # fmt: skip
def test_lists_of_tools(source: str) -> None:
    lists: list[Any] = [[], [{"name": "a"}], [{"name": ""}], [{"name": " "}, {"name": "b"}], [{"n": 5}], [{}]]
    conversations = [Conversation([QUESTION], tools, {}, None) for tools in lists]
    assert same(source + TURN.replace("BODY", "{{ m.content }}"), *conversations).replayed > 5
