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


# -- tokens that cover characters (test_loss_mask) --


@st.composite
def covered_texts(draw: st.DrawFn) -> list[list[tuple[int, int]]]:
    """Conversations as the (start, stop) characters of their tokens, in text order.

    Tokens hold several characters, or a byte of one, or a character and the first byte of the next, or none; some
    characters are in no token.
    """
    kinds = st.sampled_from(["one", "three", "bytes", "reaches", "empty", "skip"])
    conversations = []
    for steps in draw(st.lists(st.lists(kinds, max_size=8), max_size=4)):
        tokens: list[tuple[int, int]] = []
        at = 0
        for step in steps:
            pieces = {
                "one": [(0, 1)],
                "three": [(0, 3)],
                "bytes": [(0, 1), (0, 1)],
                "reaches": [(0, 2), (1, 2)],
                "empty": [(0, 0)],
                "skip": [],
            }[step]
            tokens += [(at + start, at + stop) for start, stop in pieces]
            at += max((stop for _, stop in pieces), default=1)
        conversations.append(tokens)
    return conversations


def separate_spans(weights: st.SearchStrategy[float]) -> st.SearchStrategy[list[tuple[int, int, float]]]:
    """(start, stop, weight) in order, next to each other at most, some empty."""
    cuts = st.lists(st.integers(0, 20), max_size=8).map(sorted)
    pairs = cuts.map(lambda at: list(zip(at[::2], at[1::2], strict=False)))
    return pairs.flatmap(lambda spans: st.tuples(*(st.tuples(st.just(a), st.just(b), weights) for a, b in spans)).map(list))


# -- inputs (test_records, test_sources) --


def texts_of_lines() -> st.SearchStrategy[bytes]:
    """Files of short and long lines: blank ones, carriage returns, byte order marks in odd places, no last newline."""
    pieces = [b"\n", b"\n", b"\n\n", b"\r\n", b" ", b"\t", b'{"a": 1}', b"x", b"x" * 35, b" " * 45, b"\xef\xbb\xbf", b"\xff\0"]
    return st.lists(st.sampled_from(pieces), max_size=25).map(b"".join)


def cut_points() -> st.SearchStrategy[list[int]]:
    """Where a text is cut into chunks, bytes from its start."""
    return st.lists(st.integers(0, 300), max_size=12)


def json_documents() -> st.SearchStrategy[Any]:
    """JSON values whose strings hold what JSON itself is made of."""
    text = st.text("[]{},:\"\\ \n\ta\u00e9\U0001f600", max_size=8)
    scalars = st.none() | st.booleans() | st.integers() | text
    return st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4))
