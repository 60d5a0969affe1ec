"""Hypothesis strategies for all rooms' tests, in one place."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from sftprep.scan import ScanRule

# -- patterns in ids (test_scan) --


def scan_rules() -> st.SearchStrategy[ScanRule]:
    """Short patterns over a tiny alphabet, so that they overlap themselves and each other; offsets of both signs."""
    pattern = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple)
    offset = st.integers(-6, 6)
    return st.builds(ScanRule, pattern, pattern, offset, offset)


@st.composite
def rows_with_patterns(draw: st.DrawFn, rule: ScanRule) -> list[list[int]]:
    """Rows of ids (some empty) in which the rule's patterns stand whole, cut, nested, next to each other, or not at all."""
    pieces = st.sampled_from([rule.header, rule.end, rule.header[:-1], rule.end[1:], (0,), (1,), (2, 3)])
    row = st.lists(pieces, max_size=12).map(lambda parts: [token for part in parts for token in part])
    return draw(st.lists(row, max_size=6))


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value, with keys and texts that a manifest has."""
    words = st.sampled_from(["format", "sftprep", "version", "checksum", "files", "shards", "width", "uint16"])
    scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words | st.text(max_size=20)
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(words | st.text(max_size=9), inner),
        max_leaves=20,
    )


# -- tokens with a mask (test_rows) --


@st.composite
def masked_conversations(draw: st.DrawFn) -> tuple[list[list[int]], list[list[float]]]:
    """Ids of a few conversations, some empty or of one id, and a weight for every id."""
    pair = st.tuples(st.integers(0, 9), st.sampled_from([0.0, 0.0, 1.0, 0.5]))
    drawn = draw(st.lists(st.lists(pair, max_size=14), max_size=6))
    return [[token for token, _ in row] for row in drawn], [[weight for _, weight in row] for row in drawn]
