"""Padded rows against a conversation-by-conversation oracle."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from strategies import masked_conversations

from sftprep.errors import ConfigError, DatasetError
from sftprep.layouts.padded import lay_out
from sftprep.masks.scan import ScanRule
from sftprep.tokens.batch import TokenBatch


def batch_of(conversations: list[list[int]]) -> TokenBatch:
    flat = [token for ids in conversations for token in ids]
    return TokenBatch(np.array(flat, np.uint32), np.cumsum([0, *map(len, conversations)]))


def one_row(ids: list[int], mask: list[Any], length: int, pad: int) -> tuple[list[int], list[int], list[Any]]:
    """The seed's `__getitem__`: cut, pad, shift."""
    ids, mask = ids[:length], mask[:length]
    ids, mask = ids + [pad] * (length - len(ids)), mask + [0] * (length - len(mask))
    return ids[:-1], ids[1:], mask[1:]


def test_cut_padded_and_shifted() -> None:
    batch = batch_of([[5, 6, 7], [], [8], [1, 2, 3, 4, 5, 6]])
    mask = np.array([1, 0, 1, 1, 0, 0, 0, 1, 1, 1], bool)
    rows = lay_out(batch, mask, 5, 9, np.uint16, keep_untrained=True)
    assert rows.x.tolist() == [[5, 6, 7, 9], [9] * 4, [8, 9, 9, 9], [1, 2, 3, 4]]
    assert rows.y.tolist() == [[6, 7, 9, 9], [9] * 4, [9] * 4, [2, 3, 4, 5]]
    assert rows.mask.tolist() == [[False, True, False, False], [False] * 4, [False] * 4, [False, False, True, True]]
    assert rows.segments.tolist() == [[0, 0, 2], [1, 0, 0], [2, 0, 0], [3, 0, 4]]
    assert rows.tokens.tolist() == [3, 0, 1, 5]
    assert rows.trained.tolist() == [1, 0, 0, 2]
    assert rows.truncated.tolist() == [False, False, False, True]


def test_conversations_without_a_trained_target_are_left_out() -> None:
    # the first is trained only at its first id, which no id predicts; the second only beyond the cut
    batch = batch_of([[1, 2], [3, 4, 5, 6], [7, 8], [9]])
    mask = np.array([1, 0, 0, 0, 0, 1, 0, 1, 1], bool)
    rows = lay_out(batch, mask, 3, 0, np.uint16)
    assert rows.conversation.tolist() == [2]
    assert rows.x.tolist() == [[7, 8]]
    assert rows.segments.tolist() == [[0, 0, 1]]


def test_a_rule_scans_the_padded_row_and_may_train_a_pad() -> None:
    batch = batch_of([[1, 10, 101, 102, 103, 2, 1, 20, 200, 2]])
    rows = lay_out(batch, ScanRule((1, 20), (2,), 1, 1), 12, 0, np.uint16)
    assert np.flatnonzero(rows.mask[0]).tolist() == [8, 9]
    assert rows.y[0, [8, 9]].tolist() == [2, 0]
    assert rows.trained.tolist() == [2]
    assert rows.segments.tolist() == [[0, 0, 9]]


@given(st.data(), masked_conversations(), st.integers(2, 12), st.integers(0, 9), st.booleans())
def test_equals_the_seed_row_by_row(
    data: st.DataObject, drawn: tuple[list[list[int]], list[list[Any]]], length: int, pad: int, keep: bool
) -> None:
    conversations, masks = drawn
    flat = [value for mask in masks for value in mask]
    dtype = data.draw(st.sampled_from([np.uint16, np.uint32]))
    mask_dtype = data.draw(st.sampled_from([np.bool_, np.float32]))
    mask = np.array(flat, mask_dtype)
    rows = lay_out(batch_of(conversations), mask, length, pad, dtype, keep_untrained=keep)
    oracle = [
        one_row(i, np.array(m, mask_dtype).tolist(), length, pad) for i, m in zip(conversations, masks, strict=True)
    ]
    kept = [index for index, (_, _, targets) in enumerate(oracle) if keep or any(targets)]
    assert rows.conversation.tolist() == kept
    for number, array in enumerate((rows.x, rows.y, rows.mask)):
        assert array.tolist() == [list(oracle[index][number]) for index in kept]
        assert array.shape == (len(kept), length - 1)
        assert array.flags.c_contiguous
    assert (rows.x.dtype, rows.y.dtype, rows.mask.dtype) == (dtype, dtype, mask_dtype)
    assert rows.trained.tolist() == [sum(t > 0 for t in oracle[index][2]) for index in kept]
    assert rows.truncated.tolist() == [len(conversations[index]) > length for index in kept]
    assert rows.tokens.tolist() == [min(len(conversations[index]), length) for index in kept]
    lengths = [max(min(len(conversations[index]), length) - 1, 0) for index in kept]
    assert rows.segments.tolist() == [[row, 0, n] for row, n in enumerate(lengths)]


@pytest.mark.parametrize("length", [255, 256, 257])
def test_rows_as_wide_as_a_byte_counts(length: int) -> None:
    batch = batch_of([list(range(1, n)) for n in (length - 1, length, length + 1, length + 2)])
    rows = lay_out(batch, np.ones(batch.ids.size, bool), length, 0, np.uint16)
    assert rows.trained.tolist() == [length - 3, length - 2, length - 1, length - 1]
    assert (rows.y != 0).sum(axis=1).tolist() == rows.trained.tolist()


@pytest.mark.parametrize(("ids", "pad"), [([1, 70000], 0), ([1, 2], 65536), ([1, 2], -1)])
def test_ids_that_do_not_fit_are_refused(ids: list[int], pad: int) -> None:
    with pytest.raises(DatasetError, match=r"uint16 holds 0 to 65535"):
        lay_out(batch_of([ids]), np.ones(2, bool), 4, pad, np.uint16)


def test_the_largest_id_that_fits() -> None:
    rows = lay_out(batch_of([[65535, 65535]]), np.ones(2, bool), 3, 65535, np.uint16)
    assert rows.x.tolist() == [[65535, 65535]]


def test_a_length_without_a_target_is_refused() -> None:
    with pytest.raises(ConfigError, match="2 ids or more"):
        lay_out(batch_of([[1, 2]]), np.ones(2, bool), 1, 0, np.uint16)


def test_an_empty_batch() -> None:
    rows = lay_out(batch_of([]), np.zeros(0, bool), 4, 0, np.uint16)
    assert rows.x.shape == rows.y.shape == rows.mask.shape == (0, 3)
    assert rows.segments.shape == (0, 3)
