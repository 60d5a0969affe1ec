"""A split's rows, written batch by batch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from small_builds import GOOD, build, load, write

from sftprep.dataset.verify import verify_dataset


def test_weights_widen_the_mask_of_their_shard(tmp_path: Path) -> None:
    half = {"messages": [GOOD["messages"][0], {**GOOD["messages"][1], "weight": 0.5}]}
    # enough records before it that the mask has been begun as bool
    manifest = build(tmp_path / "out", write(tmp_path / "a.jsonl", *[GOOD] * 1500, half))
    mask = load(tmp_path / "out", "mask")
    assert mask.dtype == np.float32
    assert set(np.unique(mask[:1500])) == {0.0, 1.0}
    assert set(np.unique(mask[1500])) == {0.0, 0.5}
    assert (mask[0] > 0).tolist() == (mask[1500] > 0).tolist()
    assert manifest.totals["trained_tokens"] == (mask > 0).sum()
    assert verify_dataset(tmp_path / "out") == []
