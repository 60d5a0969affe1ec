"""What other lengths would cut off, beside conversations counted one by one and builds of these lengths."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from sftprep.batches.lengths import LENGTHS, count_at_lengths
from sftprep.masks.scan import ScanRule
from sftprep.tokens.batch import TokenBatch

SIZES = st.lists(st.sampled_from([0, 1, 2, 511, 512, 513, 1024, 1025, 5000, 40_000]), max_size=5)


def slowly(batch: TokenBatch, mask: npt.NDArray[Any]) -> list[list[int]]:
    found = []
    for length in LENGTHS:
        truncated = dropped = tokens = trained = 0
        for start, stop in pairwise(batch.offsets.tolist()):
            targets = [bool(each) for each in mask[start:stop][1:length]]
            if any(targets):
                truncated += stop - start > length
                tokens += min(stop - start, length)
                trained += sum(targets)
            else:
                dropped += 1
        found.append([truncated, dropped, tokens, trained])
    return found


@given(SIZES, st.integers(0, 2**32 - 1), st.booleans())
def test_counts_are_those_of_conversations_one_by_one(sizes: list[int], seed: int, weighted: bool) -> None:
    random = np.random.default_rng(seed)
    batch = TokenBatch(np.zeros(sum(sizes), np.uint32), np.cumsum([0, *sizes], dtype=np.int64))
    first = np.repeat(random.integers(0, [size + 1 for size in sizes]) if sizes else [], sizes)
    position = np.arange(sum(sizes)) - np.repeat(batch.offsets[:-1], sizes)
    mask: npt.NDArray[Any] = (position >= first) & (random.random(sum(sizes)) < 0.5)
    assert count_at_lengths(batch, mask * np.float32(0.5) if weighted else mask).tolist() == slowly(batch, mask)


def test_a_rule_scans_each_conversation_whole() -> None:
    talk = [1, 7, 8, 3, 3, 9, 3]  # 7 8 begins an answer, 9 ends it
    ids = [*talk, *[3] * 600, *talk]
    batch = TokenBatch(np.array(ids + talk, np.uint32), np.array([0, len(ids), len(ids) + len(talk)]))
    mask = np.isin(np.arange(7), [3, 4, 5])
    mask = np.concatenate([mask, np.zeros(600, np.bool_), mask, mask])
    assert count_at_lengths(batch, ScanRule((7, 8), (9,))).tolist() == slowly(batch, mask)
