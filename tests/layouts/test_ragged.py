"""Ids as they are, against one conversation after another in plain Python."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import masked_conversations

from sftprep.errors import DatasetError
from sftprep.layouts import ragged
from sftprep.masks.scan import ScanRule
from sftprep.tokens.batch import TokenBatch


def batch_of(conversations: list[list[int]]) -> TokenBatch:
    flat = [token for ids in conversations for token in ids]
    return TokenBatch(np.array(flat, np.uint32), np.cumsum([0, *map(len, conversations)]))


@given(masked_conversations(), st.none() | st.integers(2, 9), st.booleans(), st.sampled_from([np.bool_, np.float32]))
def test_every_kept_id_is_there_once_and_predicts_the_next(
    drawn: tuple[list[list[int]], list[list[Any]]], limit: int | None, keep: bool, mask_dtype: type
) -> None:
    conversations, masks = drawn
    mask = np.array([value for mask in masks for value in mask], mask_dtype)
    before = mask.copy()
    rows = ragged.lay_out(batch_of(conversations), mask, limit, 0, np.uint16, keep_untrained=keep)
    x, targets, segments, kept = [], [], [], []
    for number, (ids, weights) in enumerate(zip(conversations, masks, strict=True)):
        ids, own = ids[:limit], np.array(weights[:limit], mask_dtype).tolist()
        if any(own[1:]) or (keep and len(ids) > 1):
            segments.append([0, len(x), len(ids) - 1])
            x, targets, kept = x + ids, [*targets, *own[1:], 0], [*kept, number]
    assert (rows.x.tolist(), rows.mask.tolist()) == (x, targets)
    assert (rows.segments.tolist(), rows.conversation.tolist()) == (segments, kept)
    assert rows.trained.tolist() == [sum(w > 0 for w in targets[s : s + n]) for _, s, n in segments]
    assert (rows.x.dtype, rows.mask.dtype, rows.y, len(rows)) == (np.uint16, mask_dtype, None, len(kept))
    assert (mask == before).all()
    assert ragged.count_trained(rows.mask, rows.segments).tolist() == rows.trained.tolist()
    arrays = {"X": rows.x, "mask": rows.mask}
    assert not any(wrong.any() for wrong in ragged.wrong_segments(rows.segments, rows.x.shape).values())
    assert list(ragged.wrong_entries(arrays, rows.segments, 0, pads_trained=False)) == []
    as_x, as_y, as_mask = ragged.as_rows(arrays)
    for (row, start, length), number in zip(segments, kept, strict=True):
        ids = conversations[number][:limit]
        assert as_x[row, start : start + length].tolist() == ids[:-1]
        assert as_y[row, start : start + length].tolist() == ids[1:]
        assert as_mask[row, start : start + length].shape == (length,)


def test_a_rule_scans_each_conversation_by_itself() -> None:
    rule = ScanRule((1, 20), (2,))
    rows = ragged.lay_out(batch_of([[1, 20, 7, 8], [9, 2, 1, 20, 5, 2, 6]]), rule, None, 0, np.uint16)
    assert rows.mask.tolist() == [False, True, True, False, False, False, False, True, True, False, False]


def test_what_is_wrong_is_named() -> None:
    mask = np.array([True, False, True])
    segments = np.array([[0, 0, 1], [0, 2, 0]])
    (wrong,) = ragged.wrong_entries({"X": np.zeros(3), "mask": mask}, segments, 0, pads_trained=False)
    assert wrong == ("mask", (2,), "trains what follows a conversation's last id")
    for bad in ([[0, 0, 1], [0, 3, 0]], [[0, 0, 1]], [[0, 0, -1], [0, 0, 2]], [[1, 0, 2]]):
        assert any(each.any() for each in ragged.wrong_segments(np.array(bad), (3,)).values()), bad
    assert ragged.wrong_counts(2, 3)
    with pytest.raises(DatasetError, match="uint16 holds"):
        ragged.lay_out(batch_of([[1, 70_000]]), np.ones(2, bool), None, 0, np.uint16)
