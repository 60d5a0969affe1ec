"""A template gets a conversation as it is if it prints that well, else in the first other variant that it does."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from small_builds import TOKENIZER, build, load, rejects, sftprep, write
from template_zoo import QWEN_3

from sftprep.batches.templates import Templates
from sftprep.batches.variants import has_words, is_well_printed, take, variants
from sftprep.config import BuildConfig
from sftprep.errors import ConversationError, RefusedError
from sftprep.jinja.compiled import CompiledTemplate
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.tokens.resolve import ResolvedTokenizer
from sftprep.workers.limits import LimitError

CITY = {"city": "Zürich", "note": 'an "old" town'}
ASCII, TEXT = json.dumps(CITY), json.dumps(CITY, ensure_ascii=False)
PARTS = [{"type": "text", "text": "First part. "}, {"type": "text", "text": "Second part."}]
CALL = {"type": "function", "id": "c1", "function": {"name": "find_weather", "arguments": CITY}}
BEGIN, END = "{% for m in messages %}<|im_start|>{{ m.role }}\n", "<|im_end|>\n{% endfor %}"
CALLS = ("{% for c in m.tool_calls or [] %}[{{ c.function.name }} ", "]{% endfor %}")
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"

# How templates print content and arguments, each in its own way.
PRINTS = "{{ m.content }}"
ADDS = "{{ m.content + '' }}"
ADDS_OR_NULL = "{{ m.content + '' if m.content is not none }}"
SHOWS_NULL = "{{ (m.content if m.content is string else m.content | tojson) + '' }}"
TAKES_PARTS = (
    "{% if m.content is string %}{{ m.content }}{% else %}{% for p in m.content %}{{ p.text }}/{% endfor %}{% endif %}"
)
ONLY_PARTS = "{% for p in m.content %}{{ p.text }}{% endfor %}"
SKIPS_PARTS = "{{ m.content if m.content is string }}"
QUOTES = "{{ c.function.arguments | tojson }}".join(CALLS)
ASKS = "{{ c.function.arguments if c.function.arguments is string else c.function.arguments | tojson }}".join(CALLS)
WALKS = "{% for k, v in c.function.arguments | items %}{{ k }}={{ v }};{% endfor %}".join(CALLS)
JOINS = "{{ '' + c.function.arguments }}".join(CALLS)


def template(content: str, calls: str = "") -> str:
    return BEGIN + content + calls + END + ASK


def calling(arguments: Any = TEXT, **more: Any) -> list[dict[str, Any]]:
    call = {**CALL, "function": {"name": "find_weather", "arguments": arguments}}
    return [{"role": "user", "content": "Weather?"}, {"role": "assistant", "tool_calls": [call], **more}]


def parts(content: Any = PARTS) -> list[dict[str, Any]]:
    return [{"role": "user", "content": "Say parts."}, {"role": "assistant", "content": content}]


def conversation(messages: list[dict[str, Any]]) -> Conversation:
    return parse_conversation(json.dumps({"messages": messages}).encode())


def rendered(source: str, option: str, messages: list[dict[str, Any]]) -> tuple[str, bool]:
    """What is printed of the variant taken, and whether it is another one."""
    compiled = CompiledTemplate(source)

    def text_of(variant: Conversation) -> str:
        return compiled.mark({"messages": variant.messages}).text

    text, _, adapted = take(
        conversation(messages), option, lambda variant: (text_of(variant), None), text_of, lambda *_: False
    )
    return text, adapted


@pytest.mark.parametrize(
    ("source", "option", "messages", "said", "adapted"),
    [
        # arguments in a JSON string: as they are, unless they are quoted or refused
        (template(PRINTS, ASKS), "auto", calling(content=""), f"[find_weather {TEXT}]", False),
        (template(PRINTS, QUOTES), "auto", calling(content=""), f"[find_weather {TEXT}]", True),
        (template(PRINTS, QUOTES), "auto", calling(ASCII, content=""), f"[find_weather {TEXT}]", True),
        (template(PRINTS, QUOTES), "as-is", calling(content=""), f"[find_weather {json.dumps(TEXT, ensure_ascii=False)}]", False),
        (template(PRINTS, QUOTES), "object", calling(content=""), f"[find_weather {TEXT}]", True),
        (template(PRINTS, WALKS), "auto", calling(content=""), "[find_weather city=Zürich;note=", True),
        (template(PRINTS, JOINS), "auto", calling(content=""), f"[find_weather {TEXT}]", False),
        # objects: as they are, unless they are refused
        (template(PRINTS, QUOTES), "auto", calling(CITY, content=""), f"[find_weather {TEXT}]", False),
        (template(PRINTS, QUOTES), "object", calling(CITY, content=""), f"[find_weather {TEXT}]", False),
        (template(PRINTS, JOINS), "auto", calling(CITY, content=""), f"[find_weather {TEXT}]", True),
        # content that is missing: as it is, then null, then empty
        (template(PRINTS, ASKS), "auto", calling(), f"assistant\n[find_weather {TEXT}]", False),
        (template(ADDS_OR_NULL, ASKS), "auto", calling(), f"assistant\n[find_weather {TEXT}]", True),
        (template(ADDS, ASKS), "auto", calling(), f"assistant\n[find_weather {TEXT}]", True),
        (template(SHOWS_NULL, ASKS), "as-is", calling(content=None), f"assistant\n[find_weather {TEXT}]", True),
        (template(ADDS, WALKS), "auto", calling(), "assistant\n[find_weather city=Zürich;", True),
        (template(ADDS_OR_NULL, JOINS), "auto", calling(CITY), f"assistant\n[find_weather {TEXT}]", True),
        # parts: as they are, unless the template refuses them, shows them as code or leaves them out
        (template(TAKES_PARTS), "auto", parts(), "First part. /Second part./<|im_end|>", False),
        (template(ONLY_PARTS), "auto", parts(), "First part. Second part.<|im_end|>", False),
        (template(PRINTS), "auto", parts(), "assistant\nFirst part. Second part.<|im_end|>", True),
        (template("{{ m.content | tojson }}"), "auto", parts(), 'assistant\n"First part. Second part."<|im_end|>', True),
        (template(ADDS), "auto", parts(), "assistant\nFirst part. Second part.<|im_end|>", True),
        (template(SKIPS_PARTS), "auto", parts(), "assistant\nFirst part. Second part.<|im_end|>", True),
        (template("{{ m.content | trim }}"), "auto", parts(" x "), "assistant\nx<|im_end|>", False),
    ],
)  # fmt: skip
def test_what_a_template_is_given(source: str, option: str, messages: list[Any], said: str, adapted: bool) -> None:
    text, changed = rendered(source, option, messages)
    assert said in text
    assert changed == adapted


def test_null_is_tried_before_empty_content() -> None:
    """DeepSeek V3 prints a call only where content is null, and refuses a message without content."""
    calls = "{{ m.tool_calls[0].function.name if m.content is none }}"
    assert "find_weather" in rendered(template(ADDS_OR_NULL, calls), "auto", calling())[0]


@pytest.mark.parametrize("option", ["auto", "as-is", "object"])
def test_a_conversation_without_parts_and_calls_has_one_variant(option: str) -> None:
    for messages in (parts("Text."), [{**message, "name": "x"} for message in parts("Text.")]):
        found = conversation(messages)
        assert list(variants(found, option)) == [found]


def test_all_variants_come_in_order_and_keep_the_rest() -> None:
    found = conversation([*parts(), *calling(name="x")])
    given = list(variants(found, "auto"))
    assert given[0] is found
    answers = [
        (type(each.messages[1]["content"]), each.messages[3].get("content", ...), type(each.messages[3]["tool_calls"][0]["function"]["arguments"]))
        for each in given
    ]  # fmt: skip
    assert answers == [(kind, content, of) for kind in (list, str) for content in (..., None, "") for of in (str, dict)]
    for each in given:
        assert each.messages[3]["name"] == "x"
        assert each.messages[3]["tool_calls"][0]["id"] == "c1"
    assert found == conversation([*parts(), *calling(name="x")])  # none was changed in place


def test_where_all_is_refused_the_reason_is_that_of_the_record_as_it_is() -> None:
    with pytest.raises(RefusedError, match="has no attribute 'some'"):
        rendered(template("{{ m.content.some.thing }}", WALKS), "auto", calling())


def test_where_nothing_is_printed_well_the_record_stays_as_it_is() -> None:
    text, adapted = rendered(template("{{ m.content if m.role == 'user' }}"), "auto", parts())
    assert ("assistant\n<|im_end|>" in text, adapted) == (True, False)


@pytest.mark.parametrize(("first", "text", "raised"), [
    (ConversationError("cannot be followed"), "First part. Second part.", "cannot be followed"),
    (ConversationError("cannot be followed"), "[{'type': 'text', 'text': 'First part. '}, ...]", None),
    (LimitError("too long"), "[{'type': 'text'", "too long"),
])  # fmt: skip
def test_a_variant_that_cannot_be_followed_is_taken_only_if_it_is_printed_well(
    first: ConversationError, text: str, raised: str | None
) -> None:
    def render(variant: Conversation) -> tuple[str, None]:
        if type(variant.messages[1]["content"]) is list:
            raise first
        return "First part. Second part.", None

    attempt: Callable[[], Any] = lambda: take(conversation(parts()), "auto", render, lambda _: text, lambda *_: False)  # noqa: E731
    if raised is None:
        assert attempt() == ("First part. Second part.", None, True)
    else:
        with pytest.raises(ConversationError, match=raised):
            attempt()


def test_what_a_message_says_itself_is_no_fault() -> None:
    """Arguments that a user quotes, and code that has parts in it."""
    quoted = json.dumps(TEXT, ensure_ascii=False)
    found = conversation([{"role": "user", "content": f"{quoted} {{'text': 'x'}}"}, *calling()[1:], *parts()])
    text = f"{quoted} {{'text': 'x'}} {TEXT} First part. Second part."
    assert is_well_printed(text, found, found)
    assert not is_well_printed(text + quoted, found, found)
    assert is_well_printed(text + quoted, found, found, arguments=False)
    assert not is_well_printed(text + "{'text': 'First part. '}", found, found)
    assert not is_well_printed(text.replace("Second part.", ""), found, found)


def test_lines_are_looked_for_in_all_that_is_said() -> None:
    only = {"role": "assistant", "content": ""}
    for message, text, found in (
        ({"content": "Granite hides it."}, "Assistant: Granite hides it.", True),
        ({"content": " 石英 \n"}, "石英", True),
        ({"content": "GRANITE\nhides"}, "hides granite", True),
        ({"content": "Granite hides it."}, "Assistant: <end>", False),
        ({"content": "", "reasoning_content": "Ponder zircon."}, "<think>Ponder zircon.</think>", True),
        ({"content": "", "reasoning_content": "Ponder zircon."}, "Assistant: <end>", False),
        ({"content": "", "tool_calls": [CALL]}, "find_weather", True),
        ({"content": "Granite hides it, and so does basalt."}, "Granite hides it, and so\ndoes", True),
        ({"content": "", "tool_calls": [CALL]}, "Assistant: <end>", False),
        ({"content": PARTS}, "Second part.", True),
        ({"content": PARTS}, "Assistant: <end>", False),
        ({"content": " "}, "Assistant: <end>", True),  # it has none
    ):
        assert has_words(text, Conversation([{**only, **message}], None, {}, None)) == found, (message, text)


# --- in a build


@pytest.mark.parametrize("source", [template(TAKES_PARTS, QUOTES), template(ADDS, WALKS), QWEN_3.source])
def test_both_ways_take_the_same_variant_whatever_came_before(resolved: ResolvedTokenizer, source: str) -> None:
    """The fast way remembers shapes; what a conversation is given does not depend on those that were seen before."""
    given = [
        conversation(messages)
        for messages in (calling(content=""), calling(CITY, content=""), calling(), parts(), parts("Text."))
    ]
    config = BuildConfig(("unused",), "tokenizer", chat_template=source)
    exact = [Templates(config, resolved).render_exactly(each) for each in given]
    assert {each.adapted for each in exact} == {True, False}
    for order in list(permutations(range(len(given))))[::17]:
        templates = Templates(config, resolved)
        for index in order * 6:  # recorded after some
            text, _, adapted = templates.render_fast(given[index])
            assert (text, adapted) == (exact[index].text, exact[index].adapted)
        assert templates.replayed > 0


def test_changed_conversations_are_counted_and_said(tmp_path: Path) -> None:
    path = tmp_path / "template.jinja"
    path.write_text(template(ADDS, WALKS))
    records = [{"messages": messages} for messages in (calling(), calling(CITY, content=""), parts(), parts("Text."))]
    source = write(tmp_path / "a.jsonl", *records)
    options = ["-t", TOKENIZER, "--chat-template", str(path)]
    done = sftprep("build", source, "-o", str(tmp_path / "out"), *options)
    assert done.returncode == 0, done.stderr
    assert "adapted 2 tool arguments decoded, missing content filled in, parts joined or made" in " ".join(
        done.stderr.split()
    )
    kept = sftprep("build", source, "-o", str(tmp_path / "kept"), *options, "--tool-arguments", "as-is")
    assert kept.returncode == 0, kept.stderr
    assert [each["line"] for each in rejects(tmp_path / "kept")] == [1]  # the template refuses a string
    plain = write(tmp_path / "b.jsonl", records[3])
    assert "adapted" not in sftprep("build", plain, "-o", str(tmp_path / "plain"), *options).stderr


def test_blocks_are_of_the_variant_that_is_taken(tmp_path: Path) -> None:
    source = template("{% generation %}" + ADDS + "{% endgeneration %}", WALKS)
    records = [{"messages": messages} for messages in (calling(), parts())]
    out = build(tmp_path / "out", write(tmp_path / "a.jsonl", *records), chat_template=source, mask="generation")
    assert (out.totals["conversations"], out.totals["adapted"]) == (2, 2)
    assert load(tmp_path / "out", "mask").any(axis=1).tolist() == [True, True]


def test_texts_become_parts_where_the_template_knows_nothing_else(tmp_path: Path) -> None:
    records = [{"messages": messages} for messages in (parts("Granite."), parts())]
    out = build(tmp_path / "out", write(tmp_path / "a.jsonl", *records), chat_template=template(ONLY_PARTS))
    assert (out.totals["conversations"], out.totals["adapted"]) == (2, 1)
    assert load(tmp_path / "out", "mask").sum(axis=1).min() > 1  # words and end
    for source, given, adapted in (
        (ONLY_PARTS, "Granite.", True),
        (ONLY_PARTS, PARTS, False),
        (TAKES_PARTS, "x", False),
    ):
        assert rendered(template(source), "auto", parts(given))[1] == adapted


def test_a_record_of_which_nothing_is_printed_is_rejected(tmp_path: Path) -> None:
    named = [{**message, "name": "x"} for message in parts("Granite.")]
    records = [{"messages": messages} for messages in (parts("Granite."), named)]
    no_words = template("{{ m.content if m.name }}")
    build(tmp_path / "out", write(tmp_path / "a.jsonl", *records), chat_template=no_words)
    reasons = [(each["line"], each["reason"]) for each in rejects(tmp_path / "out")]
    reason = "the chat template prints none of its words; give another one with --chat-template"
    assert reasons == [(1, reason)]
    for content in (
        "{{ m.content.upper()[:0] }}",
        "{{ m.content if m.content is not string }}",
    ):  # parts it refuses, or shows as code
        with pytest.raises(ConversationError, match="none of its words"):
            rendered(template(content), "auto", parts("Granite."))
