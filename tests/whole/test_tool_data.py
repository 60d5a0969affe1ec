"""Published tool-calling and reasoning data, from file to mask: what is trained of one conversation of each, spelled out."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from sftprep.config import BuildConfig
from sftprep.dataset.manifest import load_manifest
from sftprep.jobs.build import build_dataset
from sftprep.tokens.engines import HfEngine
from sftprep.tokens.resolve import resolve_tokenizer

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
# The template of Llama 3.1 that is tried here prints no tool calls: nothing of such a turn is trained.
EXPECTED = {
    "qwen3": {
        (EN, 203): [AGE, NO_THOUGHT + AGED],
        (ZH, 90): [FACT, NO_THOUGHT + OCTOPUS],
        (REASON, 25): ["<think>\n" + THOUGHT],
        (PARTS, 393): [NO_THOUGHT + "Action.<|im_end|>"],
    },
    "minimind-3": {
        (EN, 203): [AGE, AGED],
        (ZH, 90): [FACT, OCTOPUS],
        (REASON, 25): [THOUGHT],
        (PARTS, 393): ["Action.<|im_end|>"],
    },
    "llama3_1": {
        (EN, 203): [AGED.replace("<|im_end|>", "<|eot_id|>")],
        (ZH, 90): [OCTOPUS.replace("<|im_end|>", "<|eot_id|>")],
        (REASON, 25): [],
        (PARTS, 393): ["Action.<|eot_id|>"],
    },
}


def rows_of(folder: Path) -> Iterator[tuple[str, np.ndarray, np.ndarray]]:
    """Source, targets and mask of every row, in order."""
    for shard in load_manifest(folder).shards:
        y, mask = (np.load(folder / f"{shard.name}.{kind}.npy", mmap_mode="r") for kind in ("Y", "mask"))
        sources = pq.read_table(folder / f"{shard.name}.provenance.parquet")["source"].to_pylist()
        for row, source in enumerate(sources):
            yield source, y[row], mask[row]


def trained_runs(y: np.ndarray, mask: np.ndarray) -> Iterator[list[int]]:
    """The ids of every run of trained targets of a row, the first run first."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], mask > 0, [0]]))).reshape(-1, 2)
    for start, stop in edges:
        yield y[start:stop].tolist()


@pytest.mark.parametrize("name", EXPECTED)
def test_trained_text(shared_data: Path, tmp_path: Path, name: str) -> None:
    tokenizer = str(shared_data / "tokenizers" / name)
    sources = [shared_data / "conversations" / file for file in (EN, ZH, REASON, PARTS)]
    texts = {source.name: source.read_text(encoding="utf-8") for source in sources}
    records = {
        file: len(json.loads(text) if file.endswith(".json") else text.splitlines()) for file, text in texts.items()
    }
    config = BuildConfig(tuple(map(str, sources)), tokenizer, max_length=8192, workers=2, keep_untrained=True)
    manifest = build_dataset(config, tmp_path / "out")
    assert manifest.totals["conversations"] == manifest.totals["records"] == sum(records.values())
    assert (manifest.totals["empty_turns"] > 0) == (name == "llama3_1")
    decode = HfEngine(resolve_tokenizer(tokenizer)).tokenizer.decode
    seen: Counter[str] = Counter()
    trained = {}
    for file, y, mask in rows_of(tmp_path / "out"):
        if (file, seen[file]) in EXPECTED[name]:
            trained[file, seen[file]] = [decode(ids, skip_special_tokens=False) for ids in trained_runs(y, mask)]
        seen[file] += 1
    assert seen == records
    assert trained == EXPECTED[name]
