"""No wrong token on any published template: ids and masks are those of an oracle that renders prefixes.

Differences that are known stand in judged_differences.toml, each with its reason.
"""

from __future__ import annotations

import tomllib
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import template_zoo as zoo
from conftest import FULL
from kinds_of_conversation import KINDS
from oracle_differences import Outcome, compare, marked, outcomes
from prefix_oracle import Oracle
from published_templates import Published, minimind_words, published
from small_tokenizer import train

JUDGED = tomllib.loads(Path(__file__).with_name("judged_differences.toml").read_text(encoding="utf-8"))["judged"]
EVERY_TEMPLATE, EVERY_KIND = (1, 1) if FULL else (2, 23)  # looked at; of kinds, other ones on the next template
IM = ("<|im_start|>", "<|im_end|>")
EOS = {"eos_token": "<|im_end|>"}
ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"


def known() -> set[tuple[str, str, str]]:
    """(template, kind, verdict) of every difference that is judged."""
    return {
        (template, kind, each["verdict"])
        for each in JUDGED
        for templates, kinds in each["where"]
        for template in templates
        for kind in kinds
    }


def test_ids_and_masks_of_published_templates_are_the_oracles(shared_data: Path) -> None:
    templates = published(shared_data)
    if not FULL:  # a training template is its stock one with blocks
        templates = [each for each in templates if not each.name.endswith("_training.jinja")]
    found: list[Outcome] = []
    words = minimind_words(shared_data)
    for number, template in enumerate(templates[::EVERY_TEMPLATE]):
        kinds = [kind for place, kind in enumerate(KINDS) if (place + 5 * number) % EVERY_KIND == 0]
        found += outcomes(template, words, kinds)
    equal = [each for each in found if each.verdict == "equal"]
    assert len(equal) > len(found) / 2
    assert {"by prefix", "by search"} <= {each.detail for each in equal}
    differences = {(each.template, each.kind, each.verdict): each.detail for each in found if each.is_difference}
    new = differences.keys() - known()
    assert not new, "\n".join(
        f"{template}, {kind}: {verdict} {differences[template, kind, verdict]}"
        for template, kind, verdict in sorted(new)
    )
    if FULL:
        assert sorted(known() - differences.keys()) == []  # mended, so that its entry can go


@pytest.mark.parametrize("name", ["CHATML", "GLM_45", "GPT_OSS", "LLAMA_3", "MISTRAL_3", "QWEN_3"])
def test_talk_on_small_templates_is_the_oracles(name: str) -> None:
    breed = getattr(zoo, name)
    ends = ("<|user|>", "<|observation|>", "<|eot_id|>", "<|end|>", "<|call|>")
    small = Published(name, breed.source, breed.special, ends, breed.controls, breed.plain)
    talk = [kind for kind, record in KINDS.items() if is_talk(**record)]
    assert len(talk) > 20
    found = list(outcomes(small, train(added=[]).to_str(), talk if FULL else talk[::3]))
    assert [each for each in found if each.is_difference] == []
    assert sum(each.verdict == "equal" for each in found) > len(found) / 2


def is_talk(messages: list[dict[str, Any]], tools: Any = None) -> bool:
    """Nothing but roles and text, and a question first: what every template prints."""
    plain = all(message.keys() == {"role", "content"} and type(message["content"]) is str for message in messages)
    return (
        plain
        and tools is None
        and "user" in [message["role"] for message in messages[:2]]
        and messages[0]["role"] != "assistant"
    )


def test_every_judgement_has_its_reason() -> None:
    assert all(each["what"] and each["reason"] and each["right"] in ("oracle", "sftprep") for each in JUDGED)
    places = [
        (*at, each["verdict"]) for each in JUDGED for ts, ks in each["where"] for at in ((t, k) for t in ts for k in ks)
    ]
    assert len(places) == len(set(places))
    assert {kind for _, kind, _ in places} <= KINDS.keys()


# --- the oracle itself, on templates small enough to see through -------------------------------------------------------


def oracle(source: str, tokens: tuple[str, ...] = IM, ends: tuple[str, ...] = IM[1:], **special: str) -> Oracle:
    return Oracle(source, special, ends, tokens, tokens, lambda form: form)


def told(of: Oracle, *texts: str | dict[str, Any]) -> str:
    """What is trained of a talk, each character a token, between ⟦ and ⟧. Texts are the user's and the assistant's in turn."""
    messages = [
        {"role": ("user", "assistant")[at % 2], "content": text} if isinstance(text, str) else text
        for at, text in enumerate(texts)
    ]
    found = of.tell({"messages": messages})
    assert found is not None
    assert found.unknown == {}
    offsets = [(at, at + 1) for at in range(len(found.text))]
    return marked(found.text, offsets, [bool(on) for on in found.expected(offsets)])


CHATML = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
NEXT_ENDS = "{% for m in messages %}{{ '<|' + m.role + '|>' + m.content }}{% endfor %}{% if add_generation_prompt %}<|assistant|>{% endif %}"
CLOSED = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{% endfor %}{{ '' if add_generation_prompt else '<|im_start|>' }}"
ROLES = ("<|user|>", "<|assistant|>")
LAST_THINKS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}"
    "{% if m.role == 'assistant' and loop.last %}<think>{{ m.thought }}</think>{% endif %}"
    "{{ m.content + '<|im_end|>\n' }}{% endfor %}"
)
SECOND_HEADER = (
    "{% for m in messages %}{% if m.call %}{{ '<|im_start|>assistant\n' + m.call + '<|im_end|>' }}{% endif %}"
    "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>' }}{% endfor %}"
)


@pytest.mark.parametrize(
    ("of", "texts", "expected"),
    [
        (oracle(CHATML + ASK), ("Hi", "Yes", "So?", ""), ["Yes<|im_end|>", "<|im_end|>"]),
        # the first message is the assistant's, behind what the template prints first
        (oracle("{% if messages %}<|im_start|>system\nBe.<|im_end|>\n{% endif %}" + CHATML + ASK), ({"role": "assistant", "content": "Hello"},), ["Hello<|im_end|>"]),
        # the prompt has other white space, or more thoughts, than the turn
        (oracle(CHATML + ASK.replace("assistant\n", "assistant \n\n")), ("Hi", "Yes"), ["Yes<|im_end|>"]),
        (oracle(CHATML + ASK.replace("assistant\n", "assistant\n<think>\n")), ("Hi", "Yes"), ["Yes<|im_end|>"]),
        # the turn has the end of the prompt, and not what is before
        (oracle(CHATML.replace("+ m.content", "+ ('</think>' if m.role == 'assistant' else '') + m.content") + ASK.replace("\n", "\n<think></think>"), (*IM, "<think>", "</think>")), ("Hi", "Yes"), ["Yes<|im_end|>"]),
        # a turn ends with the next one's first token, or with nothing
        (oracle(NEXT_ENDS, ROLES, ROLES[:1]), ("Hi", "Yes", "So?", "No"), ["Yes<|user|>", "No"]),
        # what is printed but for the last message ends no turn
        (oracle(CLOSED + ASK), ("Hi", "Yes", "So?", "No"), ["Yes<|im_end|>", "No<|im_end|>"]),
        # generation ends with EOS, whatever the template prints then
        (oracle(SECOND_HEADER + ASK, **EOS), ("Hi", {"role": "assistant", "content": "", "call": "Call"}), ["Call<|im_end|>"]),
        # the past is written anew: the first thought is gone when the second question comes
        (
            oracle(LAST_THINKS + ASK),
            ("Greetings", {"role": "assistant", "content": "First answer", "thought": "Hm"}, "Question", {"role": "assistant", "content": "Second answer", "thought": "Aha"}),
            ["First answer<|im_end|>", "<think>Aha</think>Second answer<|im_end|>"],
        ),
        # a turn in which nothing of its message stands is not trained
        (oracle(CHATML + ASK), ("Hi", {"role": "assistant", "content": "", "reasoning_content": "Thought"}), []),
    ],
)  # fmt: skip
def test_what_the_oracle_tells(of: Oracle, texts: tuple[Any, ...], expected: list[str]) -> None:
    shown = told(of, *texts)
    assert [piece.partition("⟧")[0] for piece in shown.split("⟦")[1:]] == [repr(each)[1:-1] for each in expected]


def test_a_word_that_begins_in_the_white_space_of_a_header_is_trained() -> None:
    found = oracle(
        "{% for m in messages %}{{ m.role + ': ' + m.content + '<|im_end|>' }}{% endfor %}{{ 'assistant: ' if add_generation_prompt }}"
    ).tell({"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]})
    assert found is not None
    start = found.text.index("Yes")
    assert found.expected([(start - 2, start), (start - 1, start), (start - 1, start + 3), (start - 2, start + 3)]) == [
        False,
        False,
        True,
        False,
    ]


def test_where_the_oracle_cannot_tell_words_are_looked_at() -> None:
    """Here answers are printed first, without headers, so that no prefix is one."""
    source = "{% for m in messages if m.role == 'assistant' %}{{ m.content }}{% endfor %}{{ messages[0].content }}"
    found = oracle(source).tell(
        {"messages": [{"role": "user", "content": "Question"}, {"role": "assistant", "content": "Answer"}]}
    )
    assert found is not None
    assert found.unknown.keys() == {1}
    offsets = [(0, 6), (6, 14)]
    assert found.faults(offsets, [True, False]) == []
    assert found.faults(offsets, [True, True]) == ["words of message 0 are trained"]
    assert found.faults(offsets, [False, False]) == ["words of message 1 are not trained"]


@pytest.mark.parametrize(
    ("wrong", "verdict"),
    [
        ((), "equal"),
        ((1,), "text of no turn is trained"),  # the question
        ((2, 3, 4), "a header is trained"),
        ((5,), "a part of a turn is not trained"),
        ((6,), "an end is not trained"),
    ],
)
def test_every_planted_fault_is_seen(wrong: tuple[int, ...], verdict: str) -> None:
    found = oracle(CHATML + ASK).tell(
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Yes"}]}
    )
    assert found is not None
    cuts = [
        0,
        *(found.text.index(piece) for piece in ("Hi", "<|im_end|>", "<|im_start|>assistant", "assistant", "Yes")),
        len(found.text) - 11,
        len(found.text) - 1,
        len(found.text),
    ]
    offsets = list(pairwise(cuts))
    right = [bool(on) for on in found.expected(offsets)]
    mask = [on != (at in wrong) for at, on in enumerate(right)]
    assert compare(found, offsets, mask)[0] == verdict
