"""Tokens with the characters they stand for, of a batch or of pieces of one text."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from sftprep.errors import typed_errors
from sftprep.tokens.batch import TokenBatch, batch_of, join_rows
from sftprep.tokens.cuts import Piece, TextCuts
from sftprep.tokens.engines import encode_pieces


@dataclass(frozen=True, slots=True, eq=False)
class PlacedTokens:
    """Tokens, and the code points of their own text that each of them stands for."""

    tokens: TokenBatch  # T tokens
    starts: npt.NDArray[np.int32]  # (T,) where the first character begins that a token is a part of
    stops: npt.NDArray[np.int32]  # (T,) where the last one ends


def place(tokenizer: Any, texts: Sequence[str], cuts: TextCuts) -> PlacedTokens:
    """The tokens of texts by the `tokenizers` library, a long text in pieces, with their places in it."""
    starts, stops = array("i"), array("i")  # they grow in place

    def place_pieces(pieces: Sequence[Piece]) -> TokenBatch:
        with typed_errors("tokenizers cannot encode a text"):
            encodings = tokenizer.encode_batch([piece.text for piece in pieces], add_special_tokens=False)
        tokens = batch_of(encodings)
        flat = chain.from_iterable(chain.from_iterable(encoding.offsets for encoding in encodings))
        begins = np.repeat(np.array([piece.start for piece in pieces], np.int32), np.diff(tokens.offsets))
        places = np.fromiter(flat, np.int32, 2 * tokens.ids.size).reshape(-1, 2).T + begins
        starts.frombytes(places[0].tobytes())
        stops.frombytes(places[1].tobytes())
        return tokens

    tokens = encode_pieces(texts, cuts, place_pieces)
    return PlacedTokens(tokens, np.frombuffer(starts, np.int32), np.frombuffer(stops, np.int32))


def emptied(placed: PlacedTokens, rows: npt.NDArray[np.bool_]) -> PlacedTokens:
    """The same without the tokens of the texts where `rows` (B,) is True: a long one need not be in memory twice."""
    if not rows.any():
        return placed
    counts = np.diff(placed.tokens.offsets)
    kept, counts[rows] = np.repeat(~rows, counts), 0
    tokens = TokenBatch(placed.tokens.ids[kept], np.concatenate([[0], np.cumsum(counts)]))
    return PlacedTokens(tokens, placed.starts[kept], placed.stops[kept])


def replaced(
    placed: PlacedTokens, rows: npt.NDArray[np.int64], encode: Callable[..., PlacedTokens], *given: Sequence[Any]
) -> PlacedTokens:
    """The same with other tokens for the texts at `rows`. given: what `encode` takes, for all texts."""
    if not rows.size:
        return placed
    parts, chosen = split_places(placed), rows.tolist()
    others = encode(*([each[row] for row in chosen] for each in given))
    for row, other in zip(chosen, split_places(others), strict=True):
        parts[row] = other
    return join_places(parts)


def split_places(placed: PlacedTokens) -> list[PlacedTokens]:
    """Each text as a batch of its own."""
    bounds = placed.tokens.offsets
    parts = (np.split(values, bounds[1:-1]) for values in (placed.tokens.ids, placed.starts, placed.stops))
    return [
        PlacedTokens(TokenBatch(ids, np.array([0, ids.size])), starts, stops)
        for ids, starts, stops in zip(*parts, strict=True)
    ]


def join_places(rows: Sequence[PlacedTokens]) -> PlacedTokens:
    """Batches of one text each as one batch."""
    if len(rows) == 1:
        return rows[0]
    return PlacedTokens(
        join_rows([row.tokens.ids for row in rows]),
        np.concatenate([row.starts for row in rows]),
        np.concatenate([row.stops for row in rows]),
    )
