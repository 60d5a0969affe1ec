"""What becomes of each record of a batch."""

from __future__ import annotations

import json
from hashlib import blake2b
from pathlib import Path

import numpy as np
import pytest
from small_builds import GOOD, build, load, rejects, write

from sftprep.dataset.origins import read_origins
from sftprep.errors import ConversationError, InputError

BROKEN = {
    "not JSON": b"{broken",
    "none of messages": {"text": "no such key"},
    "role 'robot'": {"messages": [{"role": "robot", "content": "x"}]},
    "no messages": {"messages": []},
    "surrogate": b'{"messages":[{"role":"user","content":"\\ud800"},{"role":"assistant","content":"x"}]}',
    "content": {"messages": [{"role": "user"}, {"role": "assistant", "content": "x"}]},
}


def test_bad_records_are_rejected_one_by_one_and_the_rest_goes_on(tmp_path: Path) -> None:
    records = [record for bad in BROKEN.values() for record in (GOOD, bad)]
    manifest = build(tmp_path / "out", write(tmp_path / "a.jsonl", *records))
    totals = manifest.totals
    assert (totals["records"], totals["conversations"], totals["rejected"]) == (12, 6, 6)
    lines = (tmp_path / "a.jsonl").read_bytes().splitlines(keepends=True)
    for number, (word, reject) in enumerate(zip(BROKEN, rejects(tmp_path / "out"), strict=True)):
        assert reject["source"] == "a.jsonl"
        assert reject["line"] == 2 * number + 2
        assert reject["byte_offset"] == sum(map(len, lines[: 2 * number + 1]))
        assert word in reject["reason"]


def test_a_template_that_refuses_rejects_the_record(tmp_path: Path) -> None:
    template = "{% if messages|length > 2 %}{{ raise_exception('too long') }}{% endif %}{% for message in messages %}"
    template += "{{ '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}{% endfor %}"
    template += "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    long = {"messages": GOOD["messages"] * 2}
    build(tmp_path / "out", write(tmp_path / "a.jsonl", GOOD, long), chat_template=template)
    assert [(each["line"], "too long" in each["reason"]) for each in rejects(tmp_path / "out")] == [(2, True)]


@pytest.mark.parametrize("word", BROKEN)
def test_on_error_stop_says_file_and_line(tmp_path: Path, word: str) -> None:
    source = write(tmp_path / "a.jsonl", GOOD, BROKEN[word])
    with pytest.raises(ConversationError, match=r"^a\.jsonl:2: "):
        build(tmp_path / "out", source, on_error="stop")
    assert not (tmp_path / "out" / "manifest.json").exists()


@pytest.mark.parametrize("mask", ["turns", "scan"])
def test_turns_of_which_nothing_is_printed_are_dropped_with_that_reason(tmp_path: Path, mask: str) -> None:
    template = "{% for m in messages %}{% if m.role == 'user' %}<|im_start|>user\n{{ m.content }}<|im_end|>\n{% endif %}{% endfor %}"
    template += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    options = {"scan_header": "<|im_start|>assistant\n", "scan_end": "<|im_end|>"} if mask == "scan" else {}
    with pytest.raises(InputError, match="no row to train on: 0 records rejected, 1 dropped"):
        build(tmp_path / "out", write(tmp_path / "a.jsonl", GOOD), chat_template=template, mask=mask, **options)
    (reject,) = rejects(tmp_path / "out")
    said = "no answer is found" if mask == "scan" else "the chat template prints nothing of what would be trained"
    assert (reject["kind"], said in reject["reason"]) == ("dropped", True)


def test_turns_of_which_nothing_is_printed_are_counted(tmp_path: Path) -> None:
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    template += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    thought, nothing = ({"role": "assistant", "content": "", **more} for more in ({"reasoning_content": "Hm."}, {}))
    two = {"messages": [*GOOD["messages"], GOOD["messages"][0], thought]}
    untrained = {"messages": [*GOOD["messages"], GOOD["messages"][0], {**thought, "train": False}]}
    empty = {"messages": [*GOOD["messages"], GOOD["messages"][0], nothing]}  # has nothing to say: it is trained to end
    source = write(tmp_path / "a.jsonl", two, untrained, empty, two)
    manifest = build(tmp_path / "out", source, chat_template=template)
    assert (manifest.totals["empty_turns"], manifest.totals["conversations"]) == (2, 4)
    masks = np.load(tmp_path / "out" / "shard-00000.mask.npy")
    trained = masks.sum(axis=1).tolist()
    assert trained == [trained[0], trained[0], trained[0] + 1, trained[0]]


def test_turns_that_the_template_does_not_end_are_counted(tmp_path: Path) -> None:
    two = {"messages": GOOD["messages"] * 2}
    ended = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    prompt = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    open_ended = ended.replace("<|im_end|>\n", "")  # a turn is ended by the next one's first token, the last by nothing
    source = write(tmp_path / "a.jsonl", two, two)
    for name, template, count in (("ended", ended, 0), ("open", open_ended, 2)):
        manifest = build(tmp_path / name, source, chat_template=template + prompt)
        assert manifest.totals["unended_turns"] == count, name
    without = build(tmp_path / "without", source, chat_template=ended + prompt, train_end_of_turn=False)
    assert without.totals["unended_turns"] == 0  # asked for


def test_conversations_without_a_trained_token_are_dropped_unless_kept(tmp_path: Path) -> None:
    mute = {"messages": [{"role": "user", "content": "Anyone?"}]}
    source = write(tmp_path / "a.jsonl", GOOD, mute)
    assert build(tmp_path / "dropped", source).totals["dropped"] == 1
    assert "tokens_in_all" not in rejects(tmp_path / "dropped")[0]
    kept = build(tmp_path / "kept", source, keep_untrained=True)
    assert (kept.totals["dropped"], kept.totals["rows"]) == (0, 2)
    assert not load(tmp_path / "kept", "mask")[1].any()


def test_where_an_example_came_from_and_what_it_is(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "add", "parameters": {}}}
    thought = {"messages": [GOOD["messages"][0], {**GOOD["messages"][1], "reasoning_content": "Hm."}] * 2}
    forging = {"messages": [{"role": "user", "content": "<|im_end|>"}, GOOD["messages"][1]]}
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if loop.last %}{{ m.reasoning_content }}{% endif %}"
    template += (
        "{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    options = {"chat_template": template}
    records = [GOOD, b"{broken", {**GOOD, "tools": [tool]}, thought, forging, GOOD]
    build(tmp_path / "out", write(tmp_path / "a.jsonl", *records), max_length=20, **options)
    path = tmp_path / "out" / "shard-00000.provenance.parquet"
    origins = read_origins(path, path.stat().st_size, 5)
    seen = {name: origins[name].tolist() for name in ("line", "turns", "tools", "reasoning", "forged", "other_context")}
    assert seen == {
        "line": [1, 3, 4, 5, 6],
        "turns": [1, 1, 2, 1, 1],
        "tools": [False, True, False, False, False],
        "reasoning": [False, False, True, False, False],
        "forged": [False, False, False, True, False],
        "other_context": [False, False, True, False, False],
    }
    keys = origins["record_key"].tolist()
    assert (keys[0] == keys[4], len(set(keys))) == (True, 4)
    whole, cut = tmp_path / "whole", origins["tokens_in_all"]
    build(whole, str(tmp_path / "a.jsonl"), **options)
    assert cut.tolist() == (load(whole, "segments")[:, 2] + 1).tolist()
    assert origins["truncated"].tolist() == (cut > 20).tolist() == [False, False, True, True, False]
    for row, record in enumerate(records):
        if row != 1:
            data = json.dumps(record, ensure_ascii=False).encode()
            assert int.from_bytes(blake2b(data, digest_size=8).digest(), "little", signed=True) in keys


def test_what_is_dropped_for_its_length_says_how_long_it_is(tmp_path: Path) -> None:
    long = {"messages": [{"role": "user", "content": "Hello? " * 50}, GOOD["messages"][1]]}
    source = write(tmp_path / "a.jsonl", long, GOOD)
    build(tmp_path / "whole", source)
    for mask, options in (
        ("turns", {}),
        ("scan", {"scan_header": "<|im_start|>assistant\n", "scan_end": "<|im_end|>"}),
    ):
        build(tmp_path / mask, source, max_length=30, mask=mask, **options)
        (reject,) = rejects(tmp_path / mask)
        assert reject["tokens_in_all"] == load(tmp_path / "whole", "segments")[0, 2] + 1
