"""What a template leaves out is counted or refused, for every way of masking, through the command line too."""

from __future__ import annotations

import json
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest
from small_builds import GOOD, TOKENIZER, build, rejects, sftprep, write

from sftprep.dataset.receipt import Totals
from sftprep.errors import ConversationError
from sftprep.records.said import KINDS
from sftprep.statistics.advice import LEFT_OUT

TEMPLATE = (
    "{% for m in messages %}{% if m.role != 'system' %}<|im_start|>{{ m.role }}\n{% if m.role == 'assistant' %}{% generation %}"
    "{{ m.content }}<|im_end|>{% endgeneration %}{% else %}{{ m.content }}<|im_end|>{% endif %}\n{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QUESTION, ANSWER = GOOD["messages"]
THOUGHT = {**ANSWER, "reasoning_content": "Hello?"}  # the words of the question
CALLS = {**ANSWER, "tool_calls": [{"function": {"name": "f", "arguments": "{}"}}]}
RECORDS: list[Any] = [
    GOOD,
    {"messages": [QUESTION, THOUGHT, QUESTION, THOUGHT]},
    b"{broken",
    {"messages": [{"role": "system", "content": "Hello!"}, QUESTION, {**ANSWER, "name": "Ada"}]},
    {"messages": [QUESTION, CALLS, {"role": "tool", "name": "f", "content": "Hello!"}], "tools": [{"name": "Hello"}]},
    {"messages": [QUESTION, {**ANSWER, "reasoning_content": " \n", "name": ""}]},
    {"messages": [QUESTION, {**ANSWER, "content": "", "thinking": "Hm."}]},  # dropped, where only answers are trained
    {"conversations": [{"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Hello!"}], "system": "Be kind."},
]
COUNTS = {"reasoning": 2, "tool_calls": 1, "tools": 1, "system": 2, "names": 1}
REASONS = {
    2: "reasoning that the chat template does not print: messages[1]",
    3: "not JSON",
    4: "system message that the chat template does not print: messages[0]",
    5: "list of tools that the chat template does not print",
    7: "reasoning that the chat template does not print: messages[1]",
    8: "system message that the chat template does not print: messages[0]",
}
MASKS = [
    {"mask": "turns"},
    {"mask": "turns", "train_on": "all"},
    {"mask": "generation"},
    {"mask": "scan"},
    {"contexts": "served"},
    {"tokenizer_engine": "hf", "control_tokens": "allow"},
]


@pytest.mark.parametrize("options", MASKS, ids=str)
def test_it_is_counted_by_kind(tmp_path: Path, options: dict[str, Any]) -> None:
    records = [record for number, record in enumerate(RECORDS, 1) if number != 7]
    totals = build(tmp_path / "out", write(tmp_path / "a.jsonl", *records), chat_template=TEMPLATE, **options).totals
    assert {kind: totals[f"unprinted_{kind}"] for kind in KINDS if totals[f"unprinted_{kind}"]} == COUNTS
    assert (totals["conversations"], totals["rejected"]) == (6, 1)


@pytest.mark.parametrize("options", MASKS, ids=str)
def test_or_refused(tmp_path: Path, options: dict[str, Any]) -> None:
    source = write(tmp_path / "a.jsonl", *RECORDS)
    manifest = build(tmp_path / "out", source, chat_template=TEMPLATE, on_unprinted="reject", **options)
    found = {each["line"]: each["reason"] for each in rejects(tmp_path / "out") if each["kind"] == "rejected"}
    assert {line: reason.partition(": unexpected")[0] for line, reason in found.items()} == REASONS
    assert manifest.totals["conversations"] == 2
    assert not any(manifest.totals[f"unprinted_{kind}"] for kind in KINDS)


def test_or_ends_the_job(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", *RECORDS[:2])
    with pytest.raises(ConversationError, match=r"^a\.jsonl:2: reasoning that the chat template does not print"):
        build(tmp_path / "out", source, chat_template=TEMPLATE, on_unprinted="reject", on_error="stop")


def test_what_one_of_the_examples_of_a_record_shows_is_not_left_out(tmp_path: Path) -> None:
    """Reasoning that is dropped later is trained where it is served."""
    template = TEMPLATE.replace(
        "{{ m.content }}<|im_end|>{% end", "{{ m.reasoning_content if loop.last }}{{ m.content }}<|im_end|>{% end"
    )
    source = write(tmp_path / "a.jsonl", RECORDS[1])
    for contexts, count in (("whole", 1), ("served", 0)):
        totals = build(tmp_path / contexts, source, chat_template=template, contexts=contexts).totals
        assert totals["unprinted_reasoning"] == count
    assert totals["examples"] == 2
    later = write(tmp_path / "b.jsonl", {"messages": [*RECORDS[1]["messages"], QUESTION, {**THOUGHT, "name": "Ada"}]})
    totals = build(tmp_path / "later", later, chat_template=template, contexts="served").totals
    assert (totals["unprinted_reasoning"], totals["unprinted_names"]) == (0, 1)


def test_the_command_line_says_it_in_words(tmp_path: Path) -> None:
    template, source = tmp_path / "t.jinja", write(tmp_path / "a.jsonl", *RECORDS)
    template.write_text(TEMPLATE)
    options = (source, "-t", TOKENIZER, "--chat-template", str(template))
    done = sftprep("build", *options, "-o", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stderr.split())
    assert "left out 2 messages whose reasoning is not in the text" in words
    assert words.count("left out") == len(COUNTS)
    config = tmp_path / "c.toml"
    config.write_text('on-unprinted = "reject"\n')
    refused = sftprep("build", *options, "-o", str(tmp_path / "refused"), "--config", str(config))
    assert refused.returncode == 0, refused.stderr
    assert "2 × system message that the chat template does not print" in " ".join(refused.stderr.split())
    assert "left out" not in refused.stderr
    assert sftprep("build", *options, "-o", str(tmp_path / "x"), "--on-unprinted", "print").returncode == 2


def test_there_is_a_total_and_a_line_for_each_kind() -> None:
    totals = [each.name.removeprefix("unprinted_") for each in fields(Totals) if each.name.startswith("unprinted_")]
    assert totals == list(KINDS) == list(LEFT_OUT)


@pytest.mark.parametrize(
    ("tokenizer", "expected"),
    [
        ("qwen3", {"developer": 1}),
        ("llama3_1", {"reasoning": 1, "tools": 4, "tool_calls": 3}),
    ],
)
def test_records_of_the_field(
    shared_data: Path, tmp_path: Path, tokenizer: str, expected: dict[str, int], cache: Path
) -> None:
    cases = [*(shared_data / "cases").glob("11_*.jsonl"), *(shared_data / "cases").glob("24_*.jsonl")]
    cases += (shared_data / "cases").glob("07_*.jsonl")
    given = {"tokenizer": str(shared_data / "tokenizers" / tokenizer), "keep_untrained": True}
    manifest = build(tmp_path / "out", *map(str, cases), **given)
    found = {kind: manifest.totals[f"unprinted_{kind}"] for kind in KINDS if manifest.totals[f"unprinted_{kind}"]}
    assert found == expected
    refused = build(tmp_path / "refused", *map(str, cases), on_unprinted="reject", **given)
    assert refused.totals["rejected"] == {"qwen3": 1, "llama3_1": 5}[tokenizer]
    for reject in rejects(tmp_path / "refused"):
        line = (shared_data / "cases" / reject["source"]).read_bytes().splitlines()[reject["line"] - 1]
        assert not any(
            message["content"] and message["content"] in reject["reason"] for message in json.loads(line)["messages"]
        )
