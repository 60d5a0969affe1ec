"""Texts -> tokens and the characters each of them stands for, and texts in which forged control tokens stay text.

All of it by the `tokenizers` library. Positions are code points of the text as given, whatever the normalizer does to
it. A byte-level token can be a part of a character; every token of a character begins at that character.

Plain text: to keep a control token that a message spells out from becoming one, the tokenizer is changed, not the text.
In a copy of it every control token has another name, an alias that occurs in no text, and where the template itself
wrote a control token, the alias is put. So the library's own rules hold at genuine tokens (white space that a token
takes, normalization), other added tokens stay what they are, and what is forged is text like any other.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
import orjson

from sftprep.characters.placed import PlacedTokens, emptied, join_places, place, replaced, split_places
from sftprep.errors import ConversationError, TokenizerError, typed_errors
from sftprep.tokens.batch import TokenBatch, batch_of
from sftprep.tokens.cuts import TextCuts
from sftprep.tokens.engines import HfEngine
from sftprep.tokens.resolve import ResolvedTokenizer

# Code points that are no characters, and that no normalizer or pattern knows. An alias is one of them and a number.
_MARKS = [chr(code) for code in range(0xFDD0, 0xFDF0)]
_MARKS += [chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF)]
_NUMBERS = 0xF0000  # private use: 131,068 code points in a row
_ALIAS = 2  # code points
_LONG = 1 << 18  # characters: less is nothing to save memory of


class ExactEncoder:
    """Encodes with positions. Loads a tokenizer when one is first needed, and another one for the first forged text."""

    def __init__(
        self, resolved: ResolvedTokenizer, control_tokens: Collection[str] = (), reference: HfEngine | None = None
    ) -> None:
        """control_tokens: contents of the added tokens that plain text must not turn into, special or not.

        reference: the engine to use, where there is one already.
        """
        self._resolved = resolved
        self.reference = reference or HfEngine(resolved)
        added = {token.content: token.id for token in resolved.added_tokens}
        if missing := sorted(set(control_tokens) - set(added)):
            raise TokenizerError(f"{missing[0]!r} is no added token of the tokenizer, so it cannot be a control token")
        self._controls = {token: added[token] for token in sorted(control_tokens)}
        self._is_control = np.zeros(resolved.size, np.bool_)
        self._is_control[list(self._controls.values())] = True
        self._renamed: _RenamedTokenizer | None = None

    def encode_with_starts(self, texts: Sequence[str]) -> PlacedTokens:
        """Tokens of whole texts, as `AutoTokenizer` gives them. Raises TokenizerError if a text cannot be encoded."""
        return place(self.reference.tokenizer, texts, self.reference.cuts)

    def encode_plain_text(self, texts: Sequence[str], controls: Sequence[Sequence[tuple[int, int]]]) -> PlacedTokens:
        """Tokens of texts in which a control token is one only at the given places, (start, stop) in text order.

        Equal to `encode_with_starts` where no control token stands anywhere else. Raises ConversationError if a text
        leaves no way to tell them apart (it holds all of Unicode's noncharacters), TokenizerError if one cannot be
        encoded or a place holds no control token.
        """
        placed = self.encode_with_starts(texts)
        forged = ~self.only_at(placed, texts, controls)
        placed = emptied(placed, forged)
        return replaced(placed, np.flatnonzero(forged), self.encode_forged, texts, controls)

    def encode_forged(
        self,
        texts: Sequence[str],
        controls: Sequence[Sequence[tuple[int, int]]],
        as_text: Callable[[Sequence[str]], PlacedTokens] | None = None,
    ) -> PlacedTokens:
        """As `encode_plain_text`, for texts that are known to spell control tokens at other places.

        as_text: what to use instead of the method of that name.
        """
        if self.pieces_suffice:
            return self._encode_pieces(texts, controls, as_text or self.as_text)
        return self._encode_renamed(texts, controls)

    def as_text(self, texts: Sequence[str]) -> PlacedTokens:
        """Tokens of texts in which special tokens are text."""
        tokenizer = self.reference.tokenizer
        tokenizer.encode_special_tokens = True
        try:
            return place(tokenizer, texts, self.reference.cuts)
        finally:
            tokenizer.encode_special_tokens = False

    def is_spelled(self, text: str) -> bool:
        """Whether a text spells a control token."""
        return any(token in text for token in self._controls)

    def have_controls(self, tokens: TokenBatch) -> npt.NDArray[np.bool_]:
        """(B,) True for texts among whose tokens is a control token."""
        found = np.searchsorted(tokens.offsets, np.flatnonzero(self._is_control[tokens.ids]), side="right") - 1
        has = np.zeros(tokens.offsets.size - 1, np.bool_)
        has[found] = True
        return has

    def only_at(
        self, placed: PlacedTokens, texts: Sequence[str], controls: Sequence[Sequence[tuple[int, int]]]
    ) -> npt.NDArray[np.bool_]:
        """(B,) True where the control ids of a text are those that stand at its places."""
        given = [(row, start, stop) for row, places in enumerate(controls) for start, stop in places]
        try:
            expected = np.array([self._controls[texts[row][start:stop]] for row, start, stop in given], np.uint32)
        except KeyError:
            raise TokenizerError("no control token stands where the template is said to have written one") from None
        given_row, given_start, given_stop = np.array(given, np.int64).reshape(-1, 3).T
        found = np.flatnonzero(self._is_control[placed.tokens.ids])
        found_row = np.searchsorted(placed.tokens.offsets, found, side="right") - 1
        same: npt.NDArray[np.bool_] = np.bincount(found_row, minlength=len(texts)) == np.bincount(
            given_row, minlength=len(texts)
        )
        found, chosen = found[same[found_row]], same[given_row]
        wrong = placed.tokens.ids[found] != expected[chosen]
        wrong |= (placed.starts[found] > given_start[chosen]) | (placed.stops[found] < given_stop[chosen])
        same[given_row[chosen][wrong]] = False
        return same

    @cached_property
    def pieces_suffice(self) -> bool:
        """Whether a text may be cut at its control tokens and encoded piece by piece with the library's own switch for
        special tokens as text: it turns all of them into text, no control token touches its neighbours, and nothing
        treats a text's start specially."""
        tokens = [token for token in self._resolved.added_tokens if token.content in self._controls]
        if any(token.special and token.content not in self._controls for token in self._resolved.added_tokens) or any(
            not token.special or token.lstrip or token.rstrip or token.single_word or token.normalized
            for token in tokens
        ):
            return False
        return all(map(_is_local, chain(*self._resolved.steps().values()))) and not any(
            np.isin(self.as_text([token.content]).tokens.ids, [token.id]).any() for token in tokens
        )

    def _encode_pieces(
        self,
        texts: Sequence[str],
        controls: Sequence[Sequence[tuple[int, int]]],
        as_text: Callable[[Sequence[str]], PlacedTokens],
    ) -> PlacedTokens:
        """`encode_forged`, a text cut at its control tokens: what is between them by `as_text`, some at a time; places are
        moved by where in its text, in code points, a piece begins."""
        cuts = [
            [0, *(edge for place in places for edge in place), len(text)]
            for text, places in zip(texts, controls, strict=True)
        ]
        encoded: list[PlacedTokens] = []
        pieces: list[str] = []  # some at a time: all are as long as the texts
        size = 0
        for text, edges in zip(texts, cuts, strict=True):
            for start, stop in zip(edges[::2], edges[1::2], strict=True):
                if pieces and size + stop - start > _LONG:
                    encoded += split_places(as_text(pieces))
                    pieces, size = [], 0
                pieces.append(text[start:stop])
                size += stop - start
        encoded += split_places(as_text(pieces))
        del pieces
        between = iter(encoded)
        parts, counts = [], []
        for text, places, edges in zip(texts, controls, cuts, strict=True):
            parts.append(next(between))
            for (start, stop), at in zip(places, edges[2::2], strict=True):
                parts += [_one(self._controls[text[start:stop]], start, stop), _moved(next(between), at)]
            counts.append(len(parts))
        joined = join_places(parts)
        return replace(joined, tokens=TokenBatch(joined.tokens.ids, joined.tokens.offsets[[0, *counts]]))

    def _encode_renamed(self, texts: Sequence[str], controls: Sequence[Sequence[tuple[int, int]]]) -> PlacedTokens:
        """`encode_forged` by a tokenizer whose control tokens go by other names, begun with a noncharacter that no text holds."""
        renamed = self._renamed
        if renamed is None or any(renamed.mark in text for text in texts):
            mark = next((mark for mark in _MARKS if all(mark not in text for text in texts)), None)
            if mark is None and len(texts) > 1:
                pairs = zip(texts, controls, strict=True)
                return join_places([self._encode_renamed([text], [places]) for text, places in pairs])
            if mark is None:
                raise ConversationError(
                    "text holds every noncharacter of Unicode; control tokens in it cannot be split"
                )
            self._renamed = renamed = None  # two of them need not be in memory
            self._renamed = renamed = _RenamedTokenizer(self._resolved, self._controls, mark, self.reference.cuts)
        return renamed.encode(texts, controls)


def _is_local(step: Mapping[str, Any]) -> bool:
    """Whether a normalizer or pre-tokenizer is of a kind that gives a piece of text the same wherever it stands."""
    return step["type"] in ("NFC", "Split", "Digits") or (
        step["type"] == "ByteLevel" and step.get("add_prefix_space") is False
    )


def _one(number: int, start: int, stop: int) -> PlacedTokens:
    """One token of one text."""
    tokens = TokenBatch(np.array([number], np.uint32), np.array([0, 1]))
    return PlacedTokens(tokens, np.array([start], np.int32), np.array([stop], np.int32))


def _moved(piece: PlacedTokens, by: int) -> PlacedTokens:
    """The tokens of a piece of text that begins at code point `by`; the piece's own are changed."""
    for positions in (piece.starts, piece.stops):
        positions += np.int32(by)
    return piece


class _RenamedTokenizer:
    """A tokenizer whose control tokens go by aliases that begin with `mark`."""

    def __init__(self, resolved: ResolvedTokenizer, controls: Mapping[str, int], mark: str, cuts: TextCuts) -> None:
        """cuts: where texts may be cut; an alias holds neither letters nor what may follow them at a cut.

        Raises TokenizerError where control tokens of this tokenizer cannot be told from text.
        """
        from tokenizers import Tokenizer

        self.mark, self._cuts = mark, cuts
        self._aliases = {token: mark + chr(_NUMBERS + number) for number, token in enumerate(controls)}
        if any(mark in token.content for token in resolved.added_tokens):
            raise TokenizerError(
                f"an added token holds the noncharacter U+{ord(mark):04X}; control tokens cannot be split"
            )
        stated = orjson.loads(resolved.backend)
        unknown = _rename(stated, self._aliases)
        with typed_errors("tokenizers cannot load it with other names for its control tokens"):
            self._tokenizer: Any = Tokenizer.from_str(orjson.dumps(stated).decode())
        self._check({self._aliases[token]: number for token, number in controls.items()}, unknown)

    def _check(self, ids: Mapping[str, int], unknown: int | None) -> None:
        """Each alias gives the id of the token it stands for, and that token's own name gives none of these ids."""
        given = [encoding.ids for encoding in self._tokenizer.encode_batch(list(ids), add_special_tokens=False)]
        if given != [[number] for number in ids.values()]:
            raise TokenizerError("its normalizer changes noncharacters, so forged control tokens cannot be split")
        names = batch_of(self._tokenizer.encode_batch(list(self._aliases), add_special_tokens=False))
        if np.isin(names.ids, [number for number in ids.values() if number != unknown]).any():
            raise TokenizerError("its model knows a control token as a word, so forged ones cannot be split")

    def encode(self, texts: Sequence[str], controls: Sequence[Sequence[tuple[int, int]]]) -> PlacedTokens:
        aliased = [self._put_aliases(text, places) for text, places in zip(texts, controls, strict=True)]
        placed = place(self._tokenizer, aliased, self._cuts)
        bounds = placed.tokens.offsets
        for row, places in enumerate(controls):
            for positions in (placed.starts, placed.stops):
                own = positions[bounds[row] : bounds[row + 1]]
                own += _shifts(own, places)
        return placed

    def _put_aliases(self, text: str, places: Sequence[tuple[int, int]]) -> str:
        pieces, end = [], 0
        for start, stop in places:
            pieces += [text[end:start], self._aliases[text[start:stop]]]
            end = stop
        return "".join([*pieces, text[end:]])


def _shifts(positions: npt.NDArray[np.int32], places: Sequence[tuple[int, int]]) -> npt.NDArray[np.int64]:
    """What to add to (N,) positions in a text with aliases to get those in the text itself."""
    spans = np.array(places, np.int64).reshape(-1, 2)
    longer = np.cumsum(spans[:, 1] - spans[:, 0] - _ALIAS)
    alias_stops = spans[:, 1] - longer
    return np.concatenate([[0], longer])[np.searchsorted(alias_stops, positions, side="right")]


def _rename(stated: dict[str, Any], aliases: Mapping[str, str]) -> int | None:
    """Give added tokens other names in a tokenizer.json, in the model's vocabulary too; every id stays what it is.

    A merge that would spell such a token out of its parts is dropped: text must not get there in another way.
    Returns the id that the model gives for what it does not know, if there is one: text may well get that.
    """
    stated["post_processor"] = None
    for token in stated["added_tokens"]:
        token["content"] = aliases.get(token["content"], token["content"])
    model = stated["model"]
    vocabulary = model["vocab"]
    if "merges" in model:
        prefix = len(model.get("continuing_subword_prefix") or "")
        pairs = (merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"])
        model["merges"] = [
            [left, right]
            for left, right in pairs
            if left not in aliases and right not in aliases and left + right[prefix:] not in aliases
        ]
    if isinstance(vocabulary, list):  # of pieces and scores
        model["vocab"] = [[aliases.get(piece, piece), score] for piece, score in vocabulary]
        unknown: int | None = model.get("unk_id")
        return unknown
    unknown = vocabulary.get(model.get("unk_token"))
    model["vocab"] = {aliases.get(token, token): number for token, number in vocabulary.items()}
    model["unk_token"] = aliases.get(model.get("unk_token"), model.get("unk_token"))
    return unknown
