"""Replayed conversations are as Jinja renders them; what is recorded, and how much."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import odd_templates as odd
import pytest
import template_zoo as zoo
from breeds import breeds_of
from conftest import FULL, TOKENIZERS
from hypothesis import given, settings
from random_templates import random_family, random_template
from replays import ASK, LOOP, breed_template, rendered, replayed, same, talk
from strategies import families

from sftprep.errors import RefusedError, TemplateError
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.replay import replay_template as replay
from sftprep.replay.replay_template import ReplayTemplate
from sftprep.template.chat_template import open_template

BREEDS = breeds_of(zoo, odd)


@pytest.fixture(scope="module")
def shared_template(shared_data: Path) -> Callable[..., ReplayTemplate]:
    def open_shared(name: str, **options: Any) -> ReplayTemplate:
        folder = shared_data / "tokenizers" / name
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        added = json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["added_tokens"]
        special = {key: value for key in ("bos_token", "eos_token") if (value := config.get(key))}
        special = {key: value["content"] if isinstance(value, dict) else value for key, value in special.items()}
        controls = [token["content"] for token in added if token["special"]]
        tokens = [token["content"] for token in added]
        source = config["chat_template"]
        return ReplayTemplate(open_template(source, special, control_tokens=controls, added_tokens=tokens, **options))

    return open_shared


# -- the same as Jinja --


@pytest.mark.parametrize("name", TOKENIZERS)
def test_the_corpus_is_replayed_as_jinja_renders_it(
    name: str, corpus: Path, shared_template: Callable[..., ReplayTemplate]
) -> None:
    template = shared_template(name)
    with corpus.open("rb") as lines:
        for line in itertools.islice(lines, 0, None, 1 if FULL else 40):
            conversation = parse_conversation(line)
            assert replayed(template, conversation) == rendered(template, conversation)

    print(f"{name}: {template.replayed} of {template.replayed + template.rendered} conversations replayed")
    assert template.replayed > 500
    assert template.rendered < template.replayed / 9


@pytest.mark.parametrize("name", ["glaive_toolcall_en_demo.json", "reason_tool_use_demo_50.jsonl"])
@pytest.mark.parametrize("tokenizer", ["minimind-3", "qwen3"])
def test_tool_calls_and_reasoning_are_replayed(
    name: str, tokenizer: str, shared_data: Path, shared_template: Callable[..., ReplayTemplate]
) -> None:
    text = (shared_data / "conversations" / name).read_text(encoding="utf-8")
    records = json.loads(text) if name.endswith(".json") else list(map(json.loads, text.splitlines()))
    template = shared_template(tokenizer)
    conversations = [parse_conversation(json.dumps(record).encode()) for record in records[:100]] * 3
    for conversation in conversations:
        assert replayed(template, conversation) == rendered(template, conversation)

    assert template.replayed > 0.75 * len(conversations)


OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *((name, {}) for name in TOKENIZERS),
    ("qwen3", {"roles": ("assistant", "user", "tool")}),
    ("llama3_1", {"roles": ("assistant", "user", "tool")}),
    ("minimind-3", {"roles": ()}),
    ("minimind-2", {"end_of_turn": "<|im_end|>", "header": "<|im_start|>assistant\n"}),
]


@pytest.mark.parametrize(("name", "options"), OPTIONS)
def test_random_conversations_are_replayed_as_jinja_renders_them(
    name: str, options: dict[str, Any], shared_template: Callable[..., ReplayTemplate], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(replay, "_FREE_RECORDINGS", 10**9)
    template = shared_template(name, **options)

    many = 20_000 if FULL else 50  # families, of 5.5 conversations on average

    @settings(max_examples=15 if options else many)
    @given(families())
    def check(family: list[Conversation]) -> None:
        for conversation in family:
            assert replayed(template, conversation) == rendered(template, conversation)

    check()
    print(f"{name}: {template.replayed} of {template.replayed + template.rendered} conversations replayed")
    assert template.replayed > 0


@pytest.mark.parametrize("name", sorted(BREEDS))
def test_templates_of_all_kinds_are_replayed_as_jinja_renders_them(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_FREE_RECORDINGS", 10**9)
    template = breed_template(BREEDS[name])

    @settings(max_examples=8)
    @given(families())
    def check(family: list[Conversation]) -> None:
        for conversation in family:
            assert replayed(template, conversation) == rendered(template, conversation)

    check()
    for conversation in [talk("Hi.", "Yo."), talk("A < b", " <think>x</think> "), talk("<|im_end|>", "")] * 3:
        assert replayed(template, conversation) == rendered(template, conversation)


WELL_KNOWN = {"CHATML", "LLAMA_3", "MISTRAL_3", "GEMMA", "PHI_3", "DEEPSEEK_R1", "QWEN_3", "QWQ", "COMMAND_R"}


@pytest.mark.parametrize("name", sorted(WELL_KNOWN))
def test_plain_talk_is_replayed(name: str) -> None:
    template = breed_template(BREEDS[name])
    for text in ("a", "b", "c", "d"):
        template.render(talk(f"Question {text}?", f"Answer {text}."))

    assert (template.rendered, template.recorded, template.replayed) == (2, 1, 2)


def test_generation_blocks_are_replayed() -> None:
    source = LOOP + "{% if m.role == 'user' %}<s>{{ m.content }}{% else %}<h>{% generation %}{{ m.content | trim }}<e>"
    source += "{% endgeneration %}{% endif %}{% endfor %}" + ASK + "<h>{% endif %}"

    template = same(source, *(talk(f"Question {text}?", f" Answer {text}. ") for text in "abcd"))

    assert template.replayed > 2


@pytest.mark.parametrize("seed", range(40))
def test_random_templates_give_the_marks_of_jinja(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_FREE_RECORDINGS", 10**9)
    random = Random(seed)
    source = random_template(random)
    try:
        template = ReplayTemplate(open_template(source, {}, control_tokens=["<s>", "<e>"]))
    except TemplateError:
        pytest.skip("the template does not compile")
    for conversation in [*random_family(random, 10), *random_family(random, 10)]:
        assert replayed(template, conversation) == rendered(template, conversation)


# -- refusals --

CALLS = [{"function": {"name": "f", "arguments": {"a": "b"}}}]
REFUSES = {  # a template, what it refuses, and conversations of the same shape, of which it prints some
    "UNDEFINED": ("{{ m.content + m.name }}", {}, [talk("a"), talk("b", "c"), talk("d")]),
    "NO_METHOD": ("{{ m.content.startswith('x') }}", {}, [talk([{"text": "a"}]), talk([{"text": "b"}])]),
    "RAISES": ("{% if 'bad' in m.content %}{{ raise_exception('No bad words') }}{% endif %}", {}, [talk("bad"), talk("good"), talk("bad, too"), talk("")]),
    "SAYS_WHAT": ("{{ raise_exception('No ' ~ m.content) }}", {}, [talk("a"), talk("b")]),
    "NO_MAPPING": ("{{ m.content | items | list }}", {}, [talk("a"), talk("b")]),
    "ADDS_LIST": ("{{ '>' + m.content }}", {}, [talk(["a"]), talk(["b", "c"]), talk([])]),
    "TO_LIST": ("{{ m.content + '<' }}", {}, [talk(["a"]), talk(["b"])]),
    "ADDS_NONE": ("{{ '>' + m.content }}", {}, [talk(None), talk(None, None)]),
    "ADDS_DICT": ("{{ '>' + m.tool_calls[0].function.arguments }}", {}, [talk("a", tool_calls=CALLS), talk("b", tool_calls=CALLS)]),
    "BY_TYPE": ("{{ '>' + m.tool_calls[0].function.arguments }}", {}, [talk("a", tool_calls=CALLS), talk("a", tool_calls=[{"function": {"arguments": "{}"}}])]),
}  # fmt: skip
ALWAYS_JINJA = {"SAYS_WHAT"}  # what it says is made of the conversation


@pytest.mark.parametrize("name", REFUSES)
def test_refusals_are_replayed_as_jinja_refuses(name: str) -> None:
    """In its words, of those conversations only that take the same way."""
    body, options, conversations = REFUSES[name]
    template = same(LOOP + body + "{% endfor %}", *conversations, roles=(), **options)
    given = [replayed(template, conversation) for conversation in conversations]
    assert given[0][0] is RefusedError
    before = template.rendered
    assert [replayed(template, conversation) for conversation in conversations] == given
    assert (template.rendered > before) == (name in ALWAYS_JINJA)


# -- bounds --


def test_a_shape_is_recorded_when_it_is_seen_again() -> None:
    template = breed_template(zoo.CHATML)
    counts = []
    for _ in range(3):
        template.render(talk("a", "b"))
        counts.append((template.rendered, template.recorded, template.replayed))

    assert counts == [(1, 0, 0), (2, 1, 0), (2, 1, 1)]


def test_a_common_shape_is_recorded_at_first_sight_and_a_rare_one_later() -> None:
    template = breed_template(zoo.CHATML)
    for _ in range(5):
        template.render(talk("a", "b"))
    template.render(talk("a", "b", "c"))
    assert template.recorded == 2

    template.replayed = 100_000
    recorded = []
    for _ in range(5):
        template.render(talk("a"))
        recorded.append(template.recorded)
    assert recorded == [2, 2, 2, 3, 3]
    assert template.replayed == 100_001


def test_ways_and_shapes_and_recordings_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_MAX_WAYS", 3)
    monkeypatch.setattr(replay, "_MAX_SHAPES", 4)
    monkeypatch.setattr(replay, "_FREE_RECORDINGS", 5)
    source = LOOP + "{% for w in 'abcdefgh' %}{% if w in m.content %}{{ w }}{% endif %}{% endfor %}{% endfor %}"
    template = ReplayTemplate(open_template(source, {}, control_tokens=[], roles=()))
    for text in "abcdefgh" * 2:
        template.render(talk(text))
    assert template.recorded == 3

    for length in range(1, 20):
        for _ in range(2):
            assert replayed(template, talk(*"a" * length)) == rendered(template, talk(*"a" * length))
    assert template.recorded <= 5 + (template.replayed + template.rendered) // 8
    assert len(template._trees) <= 4


def test_long_conversations_and_long_texts_take_jinja(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(replay, "_MAX_MESSAGES", 3)
    monkeypatch.setattr(replay, "_LONG_TEXT", 200)
    template = breed_template(zoo.CHATML)
    for _ in range(3):
        template.render(talk(*"abcd"))
    assert template.recorded == 0

    for text in ("a", "b", "c" * 300, "d"):
        assert replayed(template, talk(text, "x")) == rendered(template, talk(text, "x"))
    assert (template.recorded, template.replayed) == (1, 1)


def test_what_is_printed_many_times_takes_jinja() -> None:
    source = "{% for i in range(99) %}{{ messages[0].content }}{% endfor %}"
    template = ReplayTemplate(open_template(source, {}, control_tokens=[], roles=()))
    for _ in range(3):
        template.render(talk("a"))

    assert (template.recorded, template.replayed) == (1, 0)


def test_equal_marks_are_one_object() -> None:
    template = breed_template(zoo.QWEN_3)
    marks = [template.render(talk(question, "b"))[1][0] for question in ["a", "<tool_response>x</tool_response>"] * 3]

    assert template.recorded == 2
    assert marks[-1] is marks[-2]


def test_a_template_that_cannot_be_recorded_is_rendered() -> None:
    template = ReplayTemplate(open_template(LOOP + "{% filter upper %}{{ m.content }}{% endfilter %}{% endfor %}", {}, control_tokens=[], roles=()))  # fmt: skip

    assert [template.render(talk(text))[0] for text in "abc"] == ["A", "B", "C"]
    assert template.replayed == 0
