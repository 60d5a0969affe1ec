"""What two manifests state differently."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from small_dataset import random_rows, write_dataset

from sftprep.compare.findings import Change
from sftprep.compare.settings import changed_options, changed_totals


def test_changes(tmp_path: Path) -> None:
    a = write_dataset(tmp_path / "a", [random_rows(np.random.default_rng(1), 3, 12)], max_length=12)
    assert (changed_options(a, a), changed_totals(a, a)) == ([], [])
    b = replace(
        a,
        sftprep="9",
        config={**a.config, "max_length": 99, "chat_template": "{{ messages }}"},
        tokenizer={**a.tokenizer, "sha256": "f" * 64},
        inputs=(replace(a.inputs[0], name="b.jsonl"),),
        totals={**a.totals, "rows": 4, "near_copies": 0, "duplicates": 2},
    )
    assert changed_options(a, b) == [
        Change("max_length", 12, 99),
        Change("chat_template", None, "sha256 f24189f08c85"),
        Change("tokenizer sha256", None, "f" * 12),
        Change("sftprep", "0.1.0", "9"),
        Change("input a.jsonl", "1" * 12, None),
        Change("input b.jsonl", None, "1" * 12),
    ]
    assert changed_totals(a, b) == [Change("rows", 3, 4), Change("duplicates", 0, 2)]
