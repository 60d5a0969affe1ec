"""Published tool-calling and reasoning data, from file to mask: what is trained of one conversation of each, spelled out."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sftprep.build import build_dataset
from sftprep.config import BuildConfig
from sftprep.resolve import resolve_tokenizer
from sftprep.tokenizer import HfEngine

THOUGHT = (
    "Okay, the user is asking for the capital of the Kumasi district in Ghana. Let me think about the available tools. "
    'The list of tools shows that there\'s a function called "get_district_capital_by_name" which takes a district name '
    "as input and returns its capital. That's exactly what the user needs. \n\nSo, to use this function, I need to call "
    'it with the district name "Kumasi". The function parameters require the name to be a string, so "Kumasi" should '
    "work. The function should then return the capital city associated with that district.\n\nI don't see any other "
    'functions that could help with this, so the best approach is to directly call "get_district_capital_by_name" with '
    '"Kumasi" as the argument. That should give the correct capital without needing any other steps.\n</think>\n\n'
    '<tool_call>\n{"name": "get_district_capital_by_name", "arguments": {"name": "Kumasi"}}\n</tool_call><|im_end|>'
)
AGE = '<tool_call>\n{"name": "calculate_age", "arguments": {"birthdate": "1990-05-15"}}\n</tool_call><|im_end|>'
AGED = "Based on the birthdate you provided, you are 31 years old today.<|im_end|>"
FACT = '<tool_call>\n{"name": "get_random_fact", "arguments": {}}\n</tool_call><|im_end|>'
OCTOPUS = "你知道吗，章鱼有三颗心脏？相当有趣，不是吗？<|im_end|>"
NO_THOUGHT = "<think>\n\n</think>\n\n"

EN, ZH = "glaive_toolcall_en_demo.json", "glaive_toolcall_zh_demo.json"
REASON, PARTS = "reason_tool_use_demo_50.jsonl", "v1_sft_demo.jsonl"
# Qwen 3 prints an empty thought in the last answer, which its generation prompt does not give; MiniMind 3's gives it.
# The template of Llama 3.1 that is tried here prints no tool calls: nothing but the end of such a turn is left of it.
CASES = [
    ("qwen3", EN, 203, [AGE, NO_THOUGHT + AGED]),
    ("qwen3", ZH, 90, [FACT, NO_THOUGHT + OCTOPUS]),
    ("qwen3", REASON, 25, ["<think>\n" + THOUGHT]),
    ("qwen3", PARTS, 393, [NO_THOUGHT + "Action.<|im_end|>"]),
    ("minimind-3", EN, 203, [AGE, AGED]),
    ("minimind-3", ZH, 90, [FACT, OCTOPUS]),
    ("minimind-3", REASON, 25, [THOUGHT]),
    ("minimind-3", PARTS, 393, ["Action.<|im_end|>"]),
    ("llama3_1", EN, 203, ["<|eot_id|>", AGED.replace("<|im_end|>", "<|eot_id|>")]),
    ("llama3_1", ZH, 90, ["<|eot_id|>", OCTOPUS.replace("<|im_end|>", "<|eot_id|>")]),
    ("llama3_1", REASON, 25, ["<|eot_id|>"]),
    ("llama3_1", PARTS, 393, ["Action.<|eot_id|>"]),
]


def trained_runs(folder: Path, row: int) -> Iterator[list[int]]:
    """The ids of every run of trained targets of a row, the first run first."""
    y, mask = (np.load(folder / f"shard-00000.{kind}.npy", mmap_mode="r")[row] for kind in ("Y", "mask"))
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask > 0, [0]]))).reshape(-1, 2)
    for start, stop in edges:
        yield y[start:stop].tolist()


@pytest.mark.parametrize(("name", "file", "record", "expected"), CASES)
def test_trained_text(
    shared_data: Path, tmp_path: Path, name: str, file: str, record: int, expected: list[str]
) -> None:
    tokenizer, source = str(shared_data / "tokenizers" / name), shared_data / "conversations" / file
    text = source.read_text(encoding="utf-8")
    records = len(json.loads(text)) if source.suffix == ".json" else len(text.splitlines())
    manifest = build_dataset(BuildConfig((str(source),), tokenizer, max_length=8192, workers=2), tmp_path / "out")
    assert manifest.totals["conversations"] == manifest.totals["records"] == records
    assert (manifest.totals["silent_turns"] > 0) == (expected[0] == "<|eot_id|>")
    assert len(pq.read_table(tmp_path / "out" / "shard-00000.provenance.parquet")) == records
    decode = HfEngine(resolve_tokenizer(tokenizer)).tokenizer.decode
    runs = [decode(ids, skip_special_tokens=False) for ids in trained_runs(tmp_path / "out", record)]
    assert runs == expected
