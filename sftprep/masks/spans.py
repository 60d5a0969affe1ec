"""Spans of text -> masks over flat token arrays.

Spans arrive as code points of a conversation's text and become runs of tokens by binary search over the whole batch at
once. Cost: O(T + K log K) for T tokens and K spans, no Python loop over either.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sftprep.errors import TemplateError
from sftprep.masks.paint import IntArray, Mask
from sftprep.template.turns import NOT_BLANK

if TYPE_CHECKING:
    from sftprep.template.turns import Rendering

Places = npt.NDArray[np.signedinteger[Any]]
BEYOND = np.iinfo(np.int64).max  # after every code point
_BLOCK = 1 << 16  # tokens that are looked at together


@dataclass(frozen=True, slots=True, eq=False)
class CharSpans:
    """Spans of text in a batch of conversations, grouped by conversation."""

    conversation: IntArray  # (K,) int64, never decreasing: index in the batch
    start: IntArray  # (K,) int64, code points of that conversation's text
    stop: IntArray  # (K,) int64
    weight: npt.NDArray[np.float32] | None = None  # (K,) float32; None: every span counts 1
    blank: IntArray | None = None  # (K,) int64: where the white space before it begins; None: at its start
    word: IntArray | None = None  # (K,) int64: its first character that is no white space; -1, and None: it has none


def char_spans(
    renderings: Sequence[Rendering], weights: Sequence[npt.NDArray[np.float32]], *, train_end_of_turn: bool = True
) -> CharSpans:
    """Every span of a batch of renderings with its message's weight (`message_weights` of each conversation).

    With `train_end_of_turn=False` a span that ends with a control token of the template stops before that token.
    """
    spans = []
    for conversation, (rendering, weight) in enumerate(zip(renderings, weights, strict=True)):
        begins = {} if train_end_of_turn else {stop: start for start, stop in rendering.controls}
        for span in rendering.spans:
            stop = max(begins.get(span.stop, span.stop), span.start)
            blank, said = span.start, NOT_BLANK.search(rendering.text, span.start, stop)
            while blank and rendering.text[blank - 1].isspace():
                blank -= 1
            word = said.start() if said else -1
            spans.append((conversation, span.start, stop, weight[span.message], blank, word))
    table = np.array(spans, np.float64).reshape(-1, 6)  # code points stay far below 2**53
    columns = table.astype(np.int64).T
    conversations, starts, stops, _, blanks, words = columns
    return CharSpans(conversations, starts, stops, table[:, 3].astype(np.float32), blanks, words)


def span_mask(starts: Places, stops: Places, offsets: IntArray, spans: CharSpans) -> tuple[Mask, IntArray]:
    """Train each token whose first character lies in a span, or that holds a word of it and of what is before nothing but
    white space, as ` Yes` may behind `Assistant: `; its weight is that of the span.

    starts, stops: (T,) integers, the code points each token covers in its own conversation's text; tokens that share a
    character (byte-level pieces of it) share its start. offsets: (B + 1,) int64, the tokens of each conversation.
    Returns the mask (T,) bool or float32, and (B,) int64: how many tokens of each conversation begin before a
    trained span, reach into it and are not trained: the model never produces them in one piece at inference.
    Raises TemplateError if spans of a conversation overlap or are not in text order.
    """
    weight = np.ones(len(spans.start), np.float32) if spans.weight is None else spans.weight
    used = (spans.stop > spans.start) & (weight != 0)
    conversation, weight = spans.conversation[used], weight[used]
    stride = stride_of(starts, stops, spans)
    first, last = conversation * stride + spans.start[used], conversation * stride + spans.stop[used]
    overlaps = np.flatnonzero(first[1:] < last[:-1])
    if overlaps.size:
        where = conversation[overlaps[0] + 1]
        raise TemplateError(f"conversation {where} of the batch: spans overlap; expected them one after another")
    plain = bool(np.isin(weight, (0.0, 1.0)).all())
    blank, word = first, np.full(len(first), BEYOND)
    if spans.blank is not None and spans.word is not None:
        blank = conversation * stride + spans.blank[used]
        word = np.where(spans.word[used] < 0, BEYOND, conversation * stride + spans.word[used])
    first, last, weight = np.append(first, BEYOND), np.append(last, -1), np.append(weight, np.float32(0))
    blank, word = np.append(blank, BEYOND), np.append(word, BEYOND)
    mask: Mask = np.zeros(len(starts), np.bool_ if plain else np.float32)
    boundary_tokens = np.zeros(len(offsets) - 1, np.int64)
    for block, owner in parts(offsets):
        begins, ends = owner * stride + starts[block], owner * stride + stops[block]
        following = np.searchsorted(first[:-1], begins, side="right")  # the first span that starts after the token does
        inside = begins < last[following - 1]  # at 0 this reads the -1: no span starts before the token
        learned = ~inside & (blank[following] <= begins) & (word[following] < ends)
        straddling = ~inside & ~learned & (first[following] < ends)
        boundary_tokens += np.bincount(owner[straddling], minlength=len(offsets) - 1)
        mask[block] = (
            inside | learned if plain else np.where(inside, weight[following - 1], learned * weight[following])
        )
    return mask, boundary_tokens


def parts(offsets: IntArray) -> Iterator[tuple[slice, IntArray]]:
    """All tokens, some at a time, and whose each of them is: arrays of a long text are not made whole."""
    for at in range(0, int(offsets[-1]), _BLOCK):
        within = np.minimum(np.maximum(offsets, at), at + _BLOCK)
        yield slice(at, at + _BLOCK), np.repeat(np.arange(len(offsets) - 1), np.diff(within))


def stride_of(starts: Places, stops: Places, spans: CharSpans) -> int:
    """More than any code point of the batch: `conversation * stride + code point` puts all texts on one axis."""
    return 1 + max(int(array.max(initial=0)) for array in (starts, stops, spans.start, spans.stop))
