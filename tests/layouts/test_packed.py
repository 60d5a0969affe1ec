"""Packed rows hold each conversation once, as it is, and nothing is trained across two of them."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from strategies import masked_conversations

from sftprep.layouts import packed
from sftprep.layouts.types import Rows
from sftprep.tokens.batch import TokenBatch

WIDTH, PAD = 8, 3


def batch_of(conversations: list[list[int]]) -> TokenBatch:
    flat = [token for ids in conversations for token in ids]
    return TokenBatch(np.array(flat, np.uint32), np.cumsum([0, *map(len, conversations)]))


def joined(parts: list[Rows]) -> dict[str, Any]:
    arrays = {name: np.concatenate([part.arrays[name] for part in parts]) for name in ("X", "Y", "mask")}
    before = np.cumsum([0, *(len(part) for part in parts)])
    segments = [part.segments + np.array([first, 0, 0]) for part, first in zip(parts, before.tolist(), strict=False)]
    return {**arrays, "segments": np.concatenate(segments), "order": np.concatenate([p.conversation for p in parts])}


@given(st.lists(masked_conversations(), min_size=1, max_size=3), st.integers(1, 20))
def test_each_conversation_is_in_one_row_as_it_is(batches: list[Any], at_once: int) -> None:
    laid = []
    for conversations, masks in batches:
        mask = np.array([value for mask in masks for value in mask], np.float32)
        laid.append(packed.lay_out(batch_of(conversations), mask, WIDTH + 1, PAD, np.uint16))
    expected = []
    for part in laid:
        for _, start, length in part.segments.tolist():
            own = slice(start, start + length)
            expected.append((part.x[start : start + length + 1].tolist(), part.mask[own].tolist()))
    if not expected:
        return
    whole, packed._AT_ONCE = packed._AT_ONCE, at_once
    try:
        found = joined([*packed.gather(laid, WIDTH, PAD)])
    finally:
        packed._AT_ONCE = whole
    x, y, mask, segments = (found[name] for name in ("X", "Y", "mask", "segments"))
    assert sorted(found["order"].tolist()) == [*range(len(expected))]
    padding = np.ones(x.shape, bool)
    for (row, start, length), number in zip(segments.tolist(), found["order"].tolist(), strict=True):
        ids, weights = expected[number]
        own = (row, slice(start, start + length))
        assert [x[own].tolist(), y[own].tolist(), mask[own].tolist()] == [ids[:-1], ids[1:], weights]
        padding[own] = False
    assert (x[padding] == PAD).all()
    assert (y[padding] == PAD).all()
    assert not mask[padding].any()
    arrays = {"X": x, "Y": y, "mask": mask}
    assert not any(wrong.any() for wrong in packed.wrong_segments(segments, x.shape).values())
    assert list(packed.wrong_entries(arrays, segments, PAD, pads_trained=False)) == []
    trained = [sum(weight > 0 for weight in expected[number][1]) for number in found["order"].tolist()]
    assert packed.count_trained(mask, segments).tolist() == trained


def test_what_is_wrong_is_named() -> None:
    x = np.array([[1, 2, 4, 5], [6, PAD, PAD, PAD]])
    y = np.array([[2, 3, 5, 7], [8, PAD, PAD, PAD]])
    segments = np.array([[0, 0, 2], [0, 2, 2], [1, 0, 1]])

    def wrong(name: str, place: tuple[int, int], value: int) -> list[Any]:
        arrays = {"X": x.copy(), "Y": y.copy(), "mask": np.zeros(x.shape, bool)}
        arrays[name][place] = value
        return [(each.array, each.place) for each in packed.wrong_entries(arrays, segments, PAD, pads_trained=False)]

    assert wrong("X", (0, 0), 1) == []
    assert wrong("Y", (0, 1), 9) == []  # a last id: nothing in the rows says which it is
    assert wrong("Y", (0, 2), 9) == [("Y", (0, 2))]
    assert wrong("X", (1, 2), 9) == [("X", (1, 2))]
    assert wrong("Y", (1, 3), 9) == [("Y", (1, 3))]
    assert wrong("mask", (1, 1), 1) == [("mask", (1, 1))]
    for bad in (
        [[0, 0, 2], [0, 3, 1], [1, 0, 1]],
        [[0, 0, 2], [1, 1, 1]],
        [[0, 0, 5], [1, 0, 1]],
        [[0, 0, 4], [2, 0, 1]],
        [[0, 0, 4]],
    ):
        assert any(each.any() for each in packed.wrong_segments(np.array(bad), x.shape).values()), bad
    assert packed.wrong_counts(3, 2)
