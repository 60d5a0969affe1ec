"""Why a target is trained or not: beside texts that were divided by hand, and beside the oracle on published templates."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
import template_zoo as zoo
from breeds import Breed
from conftest import FULL
from kinds_of_conversation import KINDS
from made_rows import maker_with, reasons_of, record_of, resolved_of, told
from prefix_oracle import Oracle
from published_templates import minimind_words, published, save_tokenizer
from small_builds import TOKENIZER

from sftprep.errors import ConversationError, SftprepError
from sftprep.remaking.reasons import TRAINED, Reasons
from sftprep.tokens.ask_transformers import resolve_here
from sftprep.tokens.resolve import resolve_tokenizer

EVERY_TEMPLATE, EVERY_KIND = (1, 1) if FULL else (16, 9)
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}
CALL = {"function": {"name": "add", "arguments": {"a": 1}}}


@cache
def sample() -> Any:
    return resolve_tokenizer(TOKENIZER)


def messages(*said: tuple[str, str] | dict[str, Any]) -> dict[str, Any]:
    return {"messages": [each if isinstance(each, dict) else {"role": each[0], "content": each[1]} for each in said]}


TALK = messages(
    ("system", "Be kind."), ("user", "Hi!"), ("assistant", "Hello."), ("user", "Bye!"), ("assistant", "Farewell.")
)


def test_talk_under_the_sample_template() -> None:
    """By hand: the template prints the system message before its loop."""
    [reasons] = reasons_of(maker_with(sample()), TALK)
    assert told(reasons) == [
        ("system\n", "template", None),
        ("Be kind.", "untrained", 0),
        ("<|im_end|>\n", "template", None),
        ("<|im_start|>user\nHi!<|im_end|>\n", "untrained", 1),
        ("<|im_start|>assistant\n", "header", 2),
        ("Hello.", "content", 2),
        ("<|im_end|>", "end", 2),
        ("\n", "after", 2),
        ("<|im_start|>user\nBye!<|im_end|>\n", "untrained", 3),
        ("<|im_start|>assistant\n", "header", 4),
        ("Farewell.", "content", 4),
        ("<|im_end|>", "end", 4),
        ("\n", "after", 4),
    ]


def test_reasoning_calls_and_results_of_tools() -> None:
    record = messages(
        ("user", "1 + 1?"),
        {"role": "assistant", "content": "", "reasoning_content": "Add them.", "tool_calls": [CALL]},
        ("tool", "2"),
        ("assistant", "It is 2."),
    )
    [reasons] = reasons_of(maker_with(sample()), {**record, "tools": [TOOL]})
    text = reasons.printed.rendering.text
    said = {(why.words, why.message) for why in (reasons.of(at) for at in range(reasons.shown.stop))}
    assert {
        ("reasoning", 1),
        ("call of a tool", 1),
        ("text of the chat template", 1),
        ("end-of-turn token", 1),
        ("content; the role tool is not trained (--train-on assistant)", 2),
        ("list of tools, which is part of the prompt", None),
        ("content", 3),
    } <= said
    divided = told(reasons)
    assert "".join(part for part, *_ in divided) == text.removeprefix("<|im_start|>")
    trained = [part for part, rule, message in divided if rule == "content" and message == 1]
    assert trained == [
        '<think>\nAdd them.\n</think>\n\n<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
    ]
    tools = [part for part, rule, _ in divided if rule == "tools"]
    assert "".join(tools) in text
    assert '"name": "add"' in "".join(tools)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("LLAMA_3", ["<|start_header_id|>assistant<|end_header_id|>\n\n", "Hello.", "<|eot_id|>", ""]),
        ("GEMMA", ["<start_of_turn>model\n", "Hello.", "<end_of_turn>", "\n"]),
        ("GLM_4", ["<|assistant|>", "\nHello.", "<|user|>", ""]),
        ("MISTRAL_1", ["", "Hello.", "</s>", " "]),
        ("PHI_3", ["<|assistant|>\n", "Hello.", "<|end|>", "\n"]),
    ],
)
def test_turns_of_other_templates(name: str, parts: list[str], tmp_path: Path) -> None:
    """Header, content, end and what is after it, of the first answer."""
    [reasons] = reasons_of(maker_with(resolved_of(getattr(zoo, name), tmp_path)), {"messages": TALK["messages"][1:]})
    divided = told(reasons)
    for each, part in zip(("header", "content", "end", "after"), parts, strict=True):
        assert "".join(text for text, rule, message in divided if (rule, message) == (each, 1)) == part


def test_switches_and_roles_say_why_a_message_is_not_trained() -> None:
    record = messages(
        ("user", "a"),
        {"role": "assistant", "content": "b", "train": False},
        ("user", "c"),
        {"role": "assistant", "content": "d", "weight": 0.5},
    )
    [reasons] = reasons_of(maker_with(sample()), record)
    words = {
        why.message: why.words
        for why in map(reasons.of, range(reasons.shown.stop))
        if why.rule in ("untrained", "content")
    }
    assert words == {
        0: "text of the chat template; the role user is not trained (--train-on assistant)",
        1: "text of the chat template; not trained by its switch train",
        2: "text of the chat template; the role user is not trained (--train-on assistant)",
        3: "content, with weight 0.5 by its switch weight",
    }
    [last] = reasons_of(maker_with(sample(), train_on="last", train_end_of_turn=False), TALK)
    words = {(why.rule, why.message): why.words for why in map(last.of, range(last.shown.stop))}
    assert words["untrained", 2].endswith("only the assistant's last message is trained (--train-on last)")
    assert words["end left out", 4] == "end-of-turn token, left out by --no-train-end-of-turn"
    [seen] = reasons_of(maker_with(sample()), {"prompt": TALK["messages"][1:4], "completion": [TALK["messages"][4]]})
    words = {why.message: why.words for why in map(seen.of, range(seen.shown.stop))}
    assert words[1].endswith("not trained as it is part of the prompt")


def test_a_turn_that_another_example_trains(tmp_path: Path) -> None:
    """Qwen 3 drops earlier reasoning: `served` makes two examples, each behind its own prompt."""
    maker = maker_with(resolved_of(zoo.QWEN_3, tmp_path), contexts="served")
    thinking = [
        {"role": "user", "content": "Q1"},
        {"role": "assistant", "content": "A1", "reasoning_content": "R1"},
        {"role": "user", "content": "Q2"},
        {"role": "assistant", "content": "A2", "reasoning_content": "R2"},
    ]
    first, second = reasons_of(maker, {"messages": thinking})
    assert "R1" in {rule: part for part, rule, message in told(first) if message == 1}["content"]
    divided = told(second)
    assert {(rule, message) for _, rule, message in divided if message == 1} == {("untrained", 1)}
    assert any("another example of the record" in second.of(at).words for at in range(second.shown.stop))
    assert (
        "".join(part for part, rule, message in divided if (rule, message) == ("header", 3))
        == "<|im_start|>assistant\n"
    )


def test_examples_that_are_cut_to_the_same_tokens_are_told_apart_by_what_they_train(tmp_path: Path) -> None:
    turns = [{"role": "assistant", "content": f"Answer {n}.", "reasoning_content": f"Thought {n}."} for n in range(4)]
    talk = [each for n, turn in enumerate(turns) for each in ({"role": "user", "content": f"Question {n}?"}, turn)]
    calls = [{**talk[1], "tool_calls": [CALL]}, {"role": "tool", "content": "2"}, talk[3]]
    maker = maker_with(resolved_of(zoo.QWEN_3, tmp_path), contexts="served", max_length=60, keep_untrained=True)
    found = reasons_of(maker, {"messages": [talk[0], *calls, *talk[4:]]})
    assert len({tuple(each.shown.ids.tolist()) for each in found}) < len(found)
    assert all(each.of(at).agrees for each in found for at in range(each.shown.stop))


def test_the_first_word_behind_a_header_that_ends_with_a_blank(tmp_path: Path) -> None:
    source = "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>{{ m.content }}\n{% else %}Assistant: {{ m.content }}<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}Assistant: {% endif %}"
    breed = Breed(source, {"eos_token": "<|im_end|>"}, ("<|im_start|>", "<|im_end|>"))
    [reasons] = reasons_of(
        maker_with(resolved_of(breed, tmp_path)), messages(("user", "Well"), ("assistant", "the fox"))
    )
    assert (" the", "first word", 1) in [(part, rule, message) for part, rule, message in told(reasons)]


def test_the_row_has_the_last_word() -> None:
    """A record that changed is no record of the row; a mask that was changed is not explained away."""
    maker = maker_with(sample())
    [reasons] = reasons_of(maker, TALK)
    with pytest.raises(ConversationError, match="gives other tokens now"):
        Reasons(maker, reasons.shown, record_of(messages(("user", "Hi!"), ("assistant", "Hello."))))
    reasons.shown.trained[:] = ~reasons.shown.trained
    assert not reasons.of(3).agrees
    assert reasons.of(10**6).rule == "padding"


@pytest.mark.parametrize(
    "options",
    [
        {"train_on": "all"},
        {"control_tokens": "allow"},
        {"contexts": "served", "drop_empty_think": 1.0, "system_prompts": ["Be brief."], "system_prompt_ratio": 1.0},
        {"max_length": 40},
        {"mask": "scan"},
    ],
)
def test_rules_give_the_mask_under_all_options(options: dict[str, Any], tmp_path: Path) -> None:
    maker, count = maker_with(resolved_of(zoo.QWEN_3, tmp_path), **options), 0
    for kind in [*KINDS][:: 1 if FULL else 5]:
        for row in maker.rows([record_of(KINDS[kind])]):
            if hasattr(row, "ids"):
                reasons = Reasons(maker, row, record_of(KINDS[kind]))
                assert all(reasons.of(at).agrees for at in range(row.start, row.stop)), kind
                count += 1
    assert count


def test_published_templates_as_the_oracle_tells_them(shared_data: Path, tmp_path: Path) -> None:
    """The words of each message are said to be its own, and what the oracle says is trained is, of that message."""
    words, compared = minimind_words(shared_data), 0
    for number, template in enumerate(published(shared_data)[1::EVERY_TEMPLATE]):
        save_tokenizer(template, words, tmp_path / str(number))
        try:
            maker = maker_with(resolve_here(str(tmp_path / str(number))))
        except SftprepError:
            continue
        names = (*template.controls, *template.plain)
        oracle = Oracle(template.source, template.special, template.ends, template.controls, names, lambda _: "2026")
        for kind in [*KINDS][number % EVERY_KIND :: EVERY_KIND]:
            tells = oracle.tell(KINDS[kind])
            for row in maker.rows([record_of(KINDS[kind])]):
                if tells is None or not hasattr(row, "ids"):
                    continue
                reasons = Reasons(maker, row, record_of(KINDS[kind]))
                same = reasons.printed.rendering.text == tells.text
                for at in range(row.start, row.stop):
                    why, begin = reasons.of(at), int(reasons.printed.starts[at + 1])
                    assert why.agrees, (template.name, kind, why)
                    owners = {
                        m for m, places in tells.places.items() for start, stop in places if start <= begin < stop
                    }
                    turns = {turn.message for turn in tells.turns if turn.free <= begin < turn.blank}
                    if same and owners | turns:
                        compared += 1
                        assert why.message in owners | turns, (template.name, kind, why)
                        assert not turns or why.rule in TRAINED, (template.name, kind, why)
    assert compared > 1000
