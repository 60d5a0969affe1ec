"""Tokens -> the characters each of them stands for, without asking the tokenizer again.

The tokens of a byte-level tokenizer tile the text: their bytes, one after another, are the text's. Then a token begins
where the bytes before it end, which is a running sum over a table. It is proved for every text by comparing its bytes
with those of its tokens, so nothing is assumed about the tokenizer: where a normalizer changed the text, or a token
takes white space around it, the text is reported as not tiled. Cost: some 20 ns a byte, a fiftieth of `tokenizers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, partial
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from sftprep.characters.offsets import ExactEncoder
from sftprep.characters.placed import PlacedTokens, emptied, replaced
from sftprep.tokens.batch import TokenBatch
from sftprep.tokens.engines import TokenEngine
from sftprep.tokens.resolve import ResolvedTokenizer

IntArray = npt.NDArray[np.int64]
Places = npt.NDArray[np.int32]
# In byte-level names a printable byte of Latin-1 stands for itself; the others are the characters from 256 on, in order.
_PRINTABLE = [*range(33, 127), *range(161, 173), *range(174, 256)]
_UNPRINTABLE = sorted(set(range(256)) - set(_PRINTABLE))
_UNKNOWN = (1 << 31) - 1  # bytes: the length of a token that no text is tiled with
_BLOCK = 1 << 16  # tokens that are looked at together


class TiledEncoder:
    """Encodes with positions as ExactEncoder does, by an engine that gives none, where its tokens tile the text."""

    def __init__(self, resolved: ResolvedTokenizer, engine: TokenEngine, exact: ExactEncoder) -> None:
        """exact: does what is left, and says which tokens are control tokens."""
        self._resolved, self._engine, self._exact = resolved, engine, exact

    @cached_property
    def tiler(self) -> ByteTiler | None:
        """Made when it is first needed: that takes up to a quarter of a second. None: not a byte-level tokenizer."""
        return ByteTiler.of(self._resolved)

    def encode_with_starts(self, texts: Sequence[str]) -> PlacedTokens:
        """As `ExactEncoder.encode_with_starts`; texts that are not tiled are left to that."""
        if self.tiler is None:
            return self._exact.encode_with_starts(texts)
        placed, tiled = self._place(self.tiler, texts)
        placed = emptied(placed, ~tiled)
        return replaced(placed, np.flatnonzero(~tiled), self._exact.encode_with_starts, texts)

    def encode_plain_text(self, texts: Sequence[str], controls: Sequence[Sequence[tuple[int, int]]]) -> PlacedTokens:
        """As `ExactEncoder.encode_plain_text`; what is forged, or not tiled, is left to that."""
        if self.tiler is None:
            return self._exact.encode_plain_text(texts, controls)
        tiler = self.tiler
        placed, tiled = self._place(tiler, texts)
        forged = tiled & ~self._exact.only_at(placed, texts, controls)
        placed = emptied(placed, forged | ~tiled)
        encode_forged = partial(self._exact.encode_forged, as_text=partial(self._as_text, tiler))
        placed = replaced(placed, np.flatnonzero(forged), encode_forged, texts, controls)
        return replaced(placed, np.flatnonzero(~tiled), self._exact.encode_plain_text, texts, controls)

    def _as_text(self, tiler: ByteTiler, texts: Sequence[str]) -> PlacedTokens:
        """As `ExactEncoder.as_text`: special tokens are text anyway where none was found."""
        spelled = np.array([self._exact.is_spelled(text) for text in texts], np.bool_)
        placed, tiled = self._place(
            tiler, ["" if known else text for text, known in zip(texts, spelled.tolist(), strict=True)]
        )
        rest = spelled | ~tiled | self._exact.have_controls(placed.tokens)
        placed = emptied(placed, rest)
        return replaced(placed, np.flatnonzero(rest), self._exact.as_text, texts)

    def _place(self, tiler: ByteTiler, texts: Sequence[str]) -> tuple[PlacedTokens, npt.NDArray[np.bool_]]:
        """Tokens by the engine, with places of those texts that are tiled: (B,) True."""
        tokens = self._engine.encode(texts)
        starts, stops, tiled = tiler.place(texts, tokens)
        return PlacedTokens(tokens, starts, stops), tiled


class ByteTiler:
    """Places the tokens of one byte-level tokenizer, whichever engine they come from."""

    def __init__(
        self, pool: npt.NDArray[np.uint8], begins: npt.NDArray[np.int32], lengths: npt.NDArray[np.int32]
    ) -> None:
        """The bytes of token i are pool[begins[i]:begins[i] + lengths[i]]; begins and lengths: (size,)."""
        self._pool, self._begins, self._lengths = pool, begins, lengths

    @classmethod
    def of(cls, resolved: ResolvedTokenizer) -> ByteTiler | None:
        """None where the tokenizer is not byte-level."""
        vocabulary = orjson.loads(resolved.backend)["model"]["vocab"]
        steps = chain(*resolved.steps().values())
        if not isinstance(vocabulary, dict) or all(step["type"] != "ByteLevel" for step in steps):
            return None
        spelled, sizes, valid = _bytes_of(vocabulary)
        added = [token.content.encode() for token in resolved.added_tokens]  # these names are the text itself
        pool = np.concatenate([spelled, np.frombuffer(b"".join(added), np.uint8)])
        sizes = np.concatenate([sizes, np.array([len(content) for content in added], np.int64)])
        valid = np.concatenate([valid, np.ones(len(added), np.bool_)]) & (sizes > 0)
        ids = [*vocabulary.values(), *(token.id for token in resolved.added_tokens)]
        begins, lengths = np.zeros(resolved.size, np.int32), np.full(resolved.size, _UNKNOWN, np.int32)
        begins[ids] = np.cumsum(sizes) - sizes  # an added token can be in the vocabulary, too: the last one holds
        lengths[ids] = np.where(valid, sizes, _UNKNOWN)
        return cls(pool, begins, lengths)

    def place(self, texts: Sequence[str], tokens: TokenBatch) -> tuple[Places, Places, npt.NDArray[np.bool_]]:
        """starts and stops: (T,) code points, as in PlacedTokens, of texts that are tiled; tiled: (B,).

        The texts must be encodable; tokens: what an engine gave for them.
        """
        encoded = [text.encode() for text in texts]
        sizes = np.fromiter(map(len, encoded), np.int64, len(encoded))
        counts = np.diff(tokens.offsets)
        tiled = _totals(self._lengths[tokens.ids], tokens.offsets) == sizes  # only these are looked at below
        kept, chosen = np.flatnonzero(tiled), np.repeat(tiled, counts)
        data = np.frombuffer(b"".join([encoded[row] for row in kept]), np.uint8)
        del encoded  # each array of a long text counts
        text_bounds = _sums(sizes[kept])
        bases = np.zeros(len(texts), np.int64)  # characters of data before each text
        bases[kept] = _sums(np.fromiter(map(len, texts), np.int64, len(texts))[kept])[:-1]
        starts, stops = np.zeros((2, tokens.ids.size), np.int32)
        at = seen = 0  # bytes of data, and characters that begin in them
        for begin in range(0, tokens.ids.size, _BLOCK):
            block = slice(begin, begin + _BLOCK)
            some = chosen[block]
            own, first, last = self._spelled(tokens.ids[block][some])
            part = data[at : at + own.size]
            wrong = at + np.flatnonzero(own != part)
            tiled[kept[np.searchsorted(text_bounds, wrong, side="right") - 1]] = False
            counted = _sums((part & 0xC0) != 0x80, np.int32) + np.int32(seen)
            base = np.repeat(bases, np.diff(np.minimum(np.maximum(tokens.offsets, begin), begin + _BLOCK)))[some]
            starts[block][some] = counted[first + 1] - 1 - base
            stops[block][some] = counted[last] - base
            at, seen = at + own.size, int(counted[-1])
        return starts, stops, tiled

    def spell(self, ids: npt.NDArray[np.int64]) -> tuple[bytes, IntArray] | None:
        """The bytes of (T,) ids, which may be anything, and (T + 1,) where those of each begin, and the end; None where some
        have none that are known."""
        inside = (ids >= 0) & (ids < len(self._lengths))
        if not inside.all() or (self._lengths[ids] == _UNKNOWN).any():
            return None
        data, _, stops = self._spelled(ids)
        return data.tobytes(), np.append(0, stops)

    def _spelled(self, ids: npt.NDArray[Any]) -> tuple[npt.NDArray[np.uint8], IntArray, IntArray]:
        """The bytes of tokens, one after another, and where those of each begin and end."""
        lengths = self._lengths[ids]
        last = np.cumsum(lengths, dtype=np.int64)
        first = last - lengths
        shifts = np.repeat((self._begins[ids] - first).astype(np.int32), lengths)
        return self._pool[shifts + np.arange(shifts.size, dtype=np.int32)], first, last


def _sums(values: npt.NDArray[Any], dtype: type[np.signedinteger[Any]] = np.int64) -> npt.NDArray[Any]:
    """(N + 1,) sums of the values before each one, and of all."""
    sums = np.zeros(values.size + 1, dtype)
    np.cumsum(values, out=sums[1:])
    return sums


def _totals(values: npt.NDArray[Any], bounds: IntArray) -> IntArray:
    """(B,) the sum of values[bounds[b]:bounds[b + 1]] for each b."""
    totals = np.zeros(bounds.size - 1, np.int64)
    filled = np.diff(bounds) > 0
    if filled.any():
        totals[filled] = np.add.reduceat(values, bounds[:-1][filled], dtype=np.int64)
    return totals


def bytes_of_name(name: str) -> bytes | None:
    """The bytes that a byte-level name spells; None if it is no such name."""
    values, _, valid = _bytes_of({name: 0})
    return values.tobytes() if valid.all() else None


def _bytes_of(vocabulary: Mapping[str, int]) -> tuple[npt.NDArray[np.uint8], IntArray, npt.NDArray[np.bool_]]:
    """The bytes that byte-level names spell, one name after another, the length of each, and whether it is such a name."""
    table = np.full(256 + len(_UNPRINTABLE) + 1, -1, np.int16)  # byte of each character, the last entry for any other
    table[_PRINTABLE] = _PRINTABLE
    table[256:-1] = _UNPRINTABLE
    characters = np.frombuffer("".join(vocabulary).encode("utf-32-le"), "<u4")
    values = table[np.minimum(characters, table.size - 1)]
    sizes = np.fromiter(map(len, vocabulary), np.int64, len(vocabulary))
    return values.astype(np.uint8), sizes, np.diff(_sums(values < 0)[_sums(sizes)]) == 0
