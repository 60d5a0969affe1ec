"""Tokens and spans of text, as masks take them."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import numpy as np

from sftprep.masks.spans import CharSpans

Tokens = list[list[tuple[int, int]]]  # (start, stop) characters of each token, by conversation


def arrays(tokens: Tokens) -> tuple[Any, Any, Any]:
    """starts, stops, offsets as the masks take them."""
    flat = np.array([pair for row in tokens for pair in row], np.int64).reshape(-1, 2)
    return flat[:, 0], flat[:, 1], np.array([0, *accumulate(map(len, tokens))], np.int64)


def spans_of(spans: list[list[tuple[int, int, float]]]) -> CharSpans:
    flat = [(index, *span) for index, row in enumerate(spans) for span in row]
    columns = np.array(flat, np.float64).reshape(-1, 4).T
    conversation, start, stop = columns[:3].astype(np.int64)
    return CharSpans(conversation, start, stop, columns[3].astype(np.float32))
