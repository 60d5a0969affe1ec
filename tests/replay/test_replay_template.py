from __future__ import annotations

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
import template_zoo as zoo
from conftest import FULL, TOKENIZERS
from hypothesis import given, settings
from random_templates import random_family, random_template
from strategies import families
from template_zoo import Breed

from sftprep.errors import SftprepError, TemplateError
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.replay import replay_template as replay
from sftprep.replay.replay_template import ReplayTemplate
from sftprep.template.chat_template import open_template
from sftprep.template.turns import SpanPlaces, marks_of

BREEDS = {name: breed for name, breed in vars(zoo).items() if isinstance(breed, Breed)}
FIELDS = ("controls", "message", "first", "header", "last", "exact")


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


def breed_template(breed: Breed, **options: Any) -> ReplayTemplate:
    tokens = (*breed.controls, *breed.plain)
    template = open_template(breed.source, breed.special, control_tokens=breed.controls, added_tokens=tokens, **options)
    return ReplayTemplate(template)


def flat(text: str, marks: SpanPlaces) -> tuple[Any, ...]:
    return (text, *(getattr(marks, field) for field in FIELDS))


def replayed(template: ReplayTemplate, given: Conversation) -> Any:
    try:
        return flat(*template.render(given))
    except SftprepError as error:
        return type(error), str(error)


def rendered(template: ReplayTemplate, given: Conversation) -> Any:
    try:
        rendering = template.template.render(given)
    except SftprepError as error:
        return type(error), str(error)
    return flat(rendering.text, marks_of(rendering))


def talk(*texts: Any, **more: Any) -> Conversation:
    roles = ("user", "assistant")
    messages = [{"role": roles[i % 2], "content": text, **more} for i, text in enumerate(texts)]
    return Conversation(messages, None, {}, None)


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


# -- decisions that must not be taken from one conversation for another --


def same(source: str, *conversations: Conversation, **options: Any) -> ReplayTemplate:
    """A template that gives for each of the conversations, after having seen the first, what Jinja does."""
    template = ReplayTemplate(open_template(source, {}, control_tokens=["<s>", "<e>"], added_tokens=["<s>", "<e>", "<h>"], **options))  # fmt: skip
    for _ in range(3):
        replayed(template, conversations[0])
    assert template.recorded == 1
    for conversation in conversations * 3:
        assert replayed(template, conversation) == rendered(template, conversation)
    return template


LOOP = "{% for m in messages %}"
ASK = "{% if add_generation_prompt %}"


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
    marks = [template.render(talk(question, "b"))[1] for question in ["a", "<tool_response>x</tool_response>"] * 3]

    assert template.recorded == 2
    assert marks[-1] is marks[-2]


def test_a_template_that_cannot_be_recorded_is_rendered() -> None:
    template = ReplayTemplate(open_template(LOOP + "{% filter upper %}{{ m.content }}{% endfilter %}{% endfor %}", {}, control_tokens=[], roles=()))  # fmt: skip

    assert [template.render(talk(text))[0] for text in "abc"] == ["A", "B", "C"]
    assert template.replayed == 0
