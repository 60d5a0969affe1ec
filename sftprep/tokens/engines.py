"""Texts -> TokenBatch, by one of two libraries that have to agree.

`hf` is the `tokenizers` library, the reference: what it gives is right. `fast` is `fastokens`, some twenty times faster;
`choose_engine` says when it may be trusted. Both tokenize texts as they are: no BOS or EOS is added, nothing is cut or
padded.
"""

from __future__ import annotations

import hashlib
from array import array
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from sftprep.errors import TokenizerError, typed_errors
from sftprep.tokens.batch import TokenBatch, batch_of, join_rows, split_rows
from sftprep.tokens.cuts import Piece, TextCuts
from sftprep.tokens.load_early import NOT_LOADED, FastTokens, Loaded, text_for_fast
from sftprep.tokens.resolve import ResolvedTokenizer

# What fastokens reads in another way inside of patterns that are equal otherwise: the long s as a contraction's s, and
# the Mongolian vowel separator as white space. Found by comparing every code point in 17 surroundings.
_LONG_S, _SEPARATOR = "'\u017f", "\u180e"
_IN_PARTS = 1 << 16  # bytes: from there on fastokens looks for matches in parts of a text, side by side


class HfEngine:
    """The `tokenizers` library: the reference. It gets long texts in pieces, where that is proved to change nothing."""

    name = "hf"

    def __init__(self, resolved: ResolvedTokenizer, loaded: Loaded = NOT_LOADED) -> None:
        """loaded: what is loading already."""
        self._resolved, self._loaded = resolved, loaded.reference
        self.cuts = TextCuts(resolved)

    @property
    def reference(self) -> HfEngine:
        """The engine to compare with: itself."""
        return self

    @cached_property
    def tokenizer(self) -> Any:
        """A `tokenizers.Tokenizer`, loaded when it is first needed.

        Raises TokenizerError where the library in use reads the file in another way than the one that wrote it.
        """
        from tokenizers import Tokenizer

        with typed_errors("tokenizers cannot load it", in_its_words=True):
            tokenizer = self._loaded or Tokenizer.from_str(self._resolved.backend)
        self._post_processor = tokenizer.post_processor
        tokenizer.post_processor = None  # it could trim offsets, and adds nothing that is asked for here
        for token in self._resolved.added_tokens:
            if tokenizer.token_to_id(token.content) != token.id:
                raise TokenizerError(f"added token {token.id} gets another id when the tokenizer is loaded again")
        return tokenizer

    def check_read_back(self, hostile: TokenBatch) -> None:
        """Raise TokenizerError where the tokenizer, as it was read, is not what Transformers has: where other ids than these
        are right for the hostile texts, or merges, which were written anew, mean something else."""
        if hostile.sha256() != self._resolved.hostile_ids:
            raise TokenizerError("what Transformers wrote of it gives other ids when it is read back")
        if _sha256(self._resolved.backend) == self._resolved.sha256:
            return  # nothing was written anew
        self.tokenizer.post_processor = self._post_processor
        try:
            meant = _sha256(self.tokenizer.to_str())
        finally:
            self.tokenizer.post_processor = None
        if meant != self._resolved.sha256:
            raise TokenizerError("its merges mean something else when they are read back")

    def begin(self) -> None:
        """Nothing: `tokenizers` holds Python's lock while it loads."""

    def encode(self, texts: Sequence[str]) -> TokenBatch:
        """Ids by the `tokenizers` library. Raises TokenizerError if one of the texts cannot be encoded."""
        tokenizer = self.tokenizer

        def ids_of(pieces: Sequence[Piece]) -> TokenBatch:
            with typed_errors("tokenizers cannot encode a text"):
                return batch_of(tokenizer.encode_batch_fast([each.text for each in pieces], add_special_tokens=False))

        return encode_pieces(texts, self.cuts, ids_of)


class FastEngine:
    """The `fastokens` library. One thread: cores are used by processes, each with an engine of its own.

    The few texts that hold something which it is known to read in another way go to the reference.
    """

    name = "fast"

    def __init__(self, resolved: ResolvedTokenizer, loaded: Loaded = NOT_LOADED) -> None:
        """loaded: what is loading already. Raises TokenizerError where fastokens is not installed."""
        self._tokens = loaded.fast or FastTokens(text_for_fast(resolved.backend))
        self.reference = HfEngine(resolved, loaded)

    def begin(self) -> None:
        """Load in a thread."""
        self._tokens.begin()

    @property
    def tokenizer(self) -> Any:
        """A `fastokens.Tokenizer`. Raises TokenizerError where fastokens refuses the tokenizer."""
        return self._tokens.tokenizer

    def encode(self, texts: Sequence[str]) -> TokenBatch:
        """Ids by fastokens; the arrays are read-only views of its buffers. Raises TokenizerError as `HfEngine.encode` does."""
        tokenizer = self.tokenizer
        with typed_errors("fastokens cannot encode a text"):
            ids, offsets = tokenizer.encode_batch_flat(texts)
        batch = TokenBatch(np.frombuffer(ids, "<u4"), np.frombuffer(offsets, "<u8").view(np.int64))
        unlike = [row for row, text in enumerate(texts) if self._reads_otherwise(text)]
        if not unlike:
            return batch
        rows = split_rows(batch)
        for row, own in zip(unlike, split_rows(self.reference.encode([texts[row] for row in unlike])), strict=True):
            rows[row] = own
        return join_rows(rows)

    def _reads_otherwise(self, text: str) -> bool:
        """Whether the library may read a text in another way. Parts of a long one give the matches of the whole where a
        text may be cut; not so where a match depends on all those before it."""
        if _LONG_S in text or _SEPARATOR in text:
            return True
        long = len(text) * 4 >= _IN_PARTS and len(text.encode()) >= _IN_PARTS
        return long and self.reference.cuts.places is None


TokenEngine = HfEngine | FastEngine


def encode_pieces(texts: Sequence[str], cuts: TextCuts, encode: Callable[[Sequence[Piece]], TokenBatch]) -> TokenBatch:
    """The tokens of texts, of which `encode` gets some pieces at a time."""
    sizes, ids = np.zeros(len(texts), np.int64), array("I")
    for pieces in cuts.groups(texts):
        tokens = encode(pieces)
        np.add.at(sizes, np.array([piece.row for piece in pieces], np.int64), np.diff(tokens.offsets))
        ids.frombytes(tokens.ids.tobytes())
    return TokenBatch(np.frombuffer(ids, np.uint32), np.concatenate([[0], np.cumsum(sizes)]))


def encode_apart(engine: TokenEngine, texts: Sequence[str]) -> tuple[TokenBatch, list[int]]:
    """Tokens of texts of which some cannot be encoded, and the indices of these; they have no tokens."""
    rows, failed = [], []
    for index, text in enumerate(texts):
        try:
            rows.append(engine.encode([text]).ids)
        except TokenizerError:
            rows.append(np.zeros(0, np.uint32))
            failed.append(index)
    return join_rows(rows), failed


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
