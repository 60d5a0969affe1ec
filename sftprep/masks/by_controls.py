"""The fast way to turn masks: the control tokens of a batch, counted against what the template wrote.

A conversation's shape says which control tokens its rendering holds and between which of them each span lies
(`SpanPlaces`). Where the ids hold exactly those control tokens, in that order, and each header's ids stand whole before
its span, every boundary lies between two tokens, and the spans are known without one character offset. A conversation
for which anything differs is not guessed: it is handed back to be masked by its characters.
Cost: two passes over the ids and O(1) numpy work per control token and span.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sftprep.masks.paint import IntArray, Mask, paint

if TYPE_CHECKING:
    from sftprep.template.turns import SpanPlaces
    from sftprep.tokens.batch import TokenBatch

_NO_ID = -1  # fills the ids of shorter headers


@dataclass(frozen=True, slots=True, eq=False)
class ControlIds:
    """The ids of control tokens, and the widest gap between them, which rules most tokens out in one comparison."""

    ids: npt.NDArray[np.uint32]  # (N,) in order
    gap_start: np.uint32
    gap_length: np.uint32  # no control id lies in [gap_start, gap_start + gap_length), counted modulo 2**32

    @classmethod
    def of(cls, is_control: npt.NDArray[np.bool_]) -> ControlIds:
        """From a (vocabulary,) bool table, True for control ids."""
        ids = np.flatnonzero(is_control)
        if not ids.size:
            return cls(ids.astype(np.uint32), np.uint32(0), np.uint32(2**32 - 1))
        gaps = np.diff(ids, append=ids[0] + is_control.size)  # the last one wraps around the vocabulary's end
        widest = int(np.argmax(gaps))
        start = int(ids[widest]) + 1
        stop = int(ids[0]) + 2**32 if widest == ids.size - 1 else int(ids[widest + 1])
        return cls(ids.astype(np.uint32), np.uint32(start), np.uint32(stop - start))

    def find(self, ids: npt.NDArray[np.uint32]) -> IntArray:
        """(N,) int64: where control ids stand in (T,) uint32 ids."""
        at = np.flatnonzero(ids - self.gap_start >= self.gap_length)  # unsigned: wraps around
        return at[np.isin(ids[at], self.ids)]


@dataclass(frozen=True, slots=True, eq=False)
class PlacesInIds:
    """SpanPlaces in a tokenizer's ids (K spans, C control tokens)."""

    usable: bool  # False: no such conversation can be masked this way
    controls: IntArray  # (C,) ids
    message: IntArray  # (K,) message index of each span
    placed: npt.NDArray[np.bool_]  # (K,) False: the span's place is not known
    first: IntArray  # (K,) index into controls
    last: IntArray  # (K,) index into controls; C: the conversation's end
    header: tuple[tuple[int, ...], ...]  # (K,) ids between controls[first] and the span
    weight: npt.NDArray[np.float32]  # (K,)


def places_in_ids(
    marks: SpanPlaces, weights: npt.NDArray[np.float32], encode: Callable[[str], Sequence[int]]
) -> PlacesInIds:
    """Spell marks in ids. weights: (M,), by message. `encode` should remember its answers: texts are few and come again.

    Not usable if a control token is not one id. A span is not placed if the marks do not place it, or if its header
    does not begin with its control token's id.
    """
    single = [tuple(encode(token)) for token in marks.controls]
    header, placed = [], []
    for first, last, text in zip(marks.first, marks.last, marks.header, strict=True):
        ids = tuple(encode(marks.controls[first] + text)) if 0 <= first < last else ()
        placed.append(bool(ids) and ids[:1] == single[first])
        header.append(ids[1:])
    usable = all(len(ids) == 1 for ids in single)
    message = np.array(marks.message, np.int64)
    return PlacesInIds(
        usable=usable,
        controls=np.array([ids[0] for ids in single] if usable else [], np.int64),
        message=message,
        placed=np.array(placed, np.bool_),
        first=np.array(marks.first, np.int64),
        last=np.array(marks.last, np.int64),
        header=tuple(header),
        weight=np.asarray(weights, np.float32)[message],
    )


@dataclass(frozen=True, slots=True, eq=False)
class PlaceTable:
    """Many PlacesInIds end to end (N entries, S spans and C control tokens in all)."""

    usable: npt.NDArray[np.bool_]  # (N,)
    controls: IntArray  # (C,)
    control_offsets: IntArray  # (N + 1,)
    span_offsets: IntArray  # (N + 1,)
    placed: npt.NDArray[np.bool_]  # (S,)
    first: IntArray  # (S,)
    last: IntArray  # (S,) the number of the entry's control tokens: the conversation's end
    header: IntArray  # (S, longest), -1 after a header's last id
    weight: npt.NDArray[np.float32]  # (S,)

    @classmethod
    def of(cls, entries: Sequence[PlacesInIds]) -> PlaceTable:
        """Entry i of the table is `entries[i]`."""
        headers = [header for entry in entries for header in entry.header]
        longest = max(map(len, headers), default=0)
        padded = [header + (_NO_ID,) * (longest - len(header)) for header in headers]
        empty = np.zeros(0, np.int64)
        return cls(
            usable=np.array([entry.usable for entry in entries], np.bool_),
            controls=np.concatenate([empty, *(entry.controls for entry in entries)]),
            control_offsets=np.cumsum([0, *(entry.controls.size for entry in entries)]),
            span_offsets=np.cumsum([0, *(entry.first.size for entry in entries)]),
            placed=np.concatenate([np.zeros(0, np.bool_), *(entry.placed for entry in entries)]),
            first=np.concatenate([empty, *(entry.first for entry in entries)]),
            last=np.concatenate([empty, *(entry.last for entry in entries)]),
            header=np.array(padded, np.int64).reshape(len(headers), longest),
            weight=np.concatenate([np.zeros(0, np.float32), *(entry.weight for entry in entries)]),
        )


@dataclass(frozen=True, slots=True, eq=False)
class GivenWeights:
    """Span weights of single conversations, in place of those in the table."""

    conversation: IntArray  # (G,) index in the batch
    weight: npt.NDArray[np.float32]  # those conversations' span weights, end to end


def mask_by_controls(
    batch: TokenBatch,
    control_ids: ControlIds,
    entry: IntArray,
    table: PlaceTable,
    given: GivenWeights | None = None,
    *,
    train_end_of_turn: bool = True,
) -> tuple[Mask, npt.NDArray[np.bool_]]:
    """Mask a batch by its control tokens. entry: (B,) each conversation's entry in the table.

    Returns the mask (T,) bool, or float32 if some weight is neither 0 nor 1, and (B,) bool, False for conversations
    that do not add up; their part of the mask is zero.
    """
    at = control_ids.find(batch.ids)
    begin = np.searchsorted(at, batch.offsets)  # (B + 1,): at[begin[b] : begin[b + 1]] are those of conversation b
    ok = table.usable[entry] & (np.diff(begin) == np.diff(table.control_offsets)[entry])
    expected, owner = _members(table.control_offsets, entry, np.flatnonzero(ok))
    found, _ = _members(begin, None, np.flatnonzero(ok))
    ok[owner[table.controls[expected] != batch.ids[at[found]]]] = False

    spans, owner = _members(table.span_offsets, entry, np.flatnonzero(ok))
    weight = _span_weights(table, entry, given, spans, owner)
    ok[owner[(weight != 0) & ~table.placed[spans]]] = False
    used = (weight != 0) & ok[owner]  # other spans, and their headers, need not add up
    spans, owner, weight = spans[used], owner[used], weight[used]
    start, end = at[begin[owner] + table.first[spans]] + 1, begin[owner] + table.last[spans]
    to_end = end == begin[owner + 1]
    last = np.where(to_end, batch.offsets[owner + 1], np.append(at, 0)[end])
    for column in table.header.T:
        wanted = column[spans]
        present = wanted != _NO_ID
        ok[owner[present & (batch.ids[np.minimum(start, last - to_end)] != wanted)]] = False
        start = start + present
    stop = last + (train_end_of_turn & ~to_end)
    ok[owner[start + to_end > last]] = False
    ok[owner[1:][start[1:] < stop[:-1]]] = False
    kept = ok[owner]
    return paint(start[kept], stop[kept], batch.ids.size, weight[kept]), ok


def unended_runs(batch: TokenBatch, mask: Mask, control_ids: ControlIds) -> IntArray:
    """(B,) int64: how many runs of trained tokens of each conversation do not end with a control token."""
    trained = mask != 0
    ends = trained & ~np.append(trained[1:], False)[: len(trained)]
    last = batch.offsets[1:][np.diff(batch.offsets) > 0] - 1  # of each conversation
    ends[last] = trained[last]
    ends[control_ids.find(batch.ids)] = False
    return np.diff(np.searchsorted(np.flatnonzero(ends), batch.offsets))


def _span_weights(
    table: PlaceTable, entry: IntArray, given: GivenWeights | None, spans: IntArray, owner: IntArray
) -> npt.NDArray[np.float32]:
    """(S,) loss weight of the spans `spans`, indices into the table; owner: (S,) each one's conversation in the batch. Weights
    that are given go before the table's."""
    weight = table.weight[spans]
    if given is not None:
        counts = np.diff(table.span_offsets)[entry[given.conversation]]
        if counts.sum() != given.weight.size:
            raise ValueError(f"{given.weight.size} span weights given, the conversations have {counts.sum()} spans")
        source = np.full(len(entry), -1)
        source[given.conversation] = np.cumsum(counts) - counts
        within = spans - table.span_offsets[entry[owner]]
        overridden = source[owner] >= 0
        weight[overridden] = given.weight[(source[owner] + within)[overridden]]
    return weight


def _members(offsets: IntArray, entry: IntArray | None, chosen: IntArray) -> tuple[IntArray, IntArray]:
    """Indices of all members of the chosen groups, end to end, and the group each is a member of.

    Group g holds `offsets[e]` ... `offsets[e + 1] - 1` where e = entry[g] (None: e = g).
    """
    group = chosen if entry is None else entry[chosen]
    start, count = offsets[group], offsets[group + 1] - offsets[group]
    before = np.cumsum(count) - count
    return np.repeat(start - before, count) + np.arange(count.sum()), np.repeat(chosen, count)
