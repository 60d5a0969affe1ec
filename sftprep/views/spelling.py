"""A tokenizer as what turns ids into text, bytes and back to whole characters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from sftprep.characters.tiling import ByteTiler, bytes_of_name
from sftprep.tokens.resolve import ResolvedTokenizer

_BYTE = re.compile(r"<0x([0-9A-F]{2})>")  # a token of one byte, in vocabularies that are not of bytes
_SPACE = "\u2581"  # stands for a blank there


class Spelling:
    """What ids of a tokenizer stand for. Called with ids it gives their text, special tokens kept."""

    def __init__(self, resolved: ResolvedTokenizer) -> None:
        from tokenizers import Tokenizer

        self._resolved = resolved
        self._tokenizer: Any = Tokenizer.from_str(resolved.backend)
        self._is_byte_level = any(step["type"] == "ByteLevel" for steps in resolved.steps().values() for step in steps)
        self._added = {token.id: token.content for token in resolved.added_tokens}

    def __call__(self, ids: Sequence[int]) -> str:
        """The text of ids; U+FFFD where bytes are no whole character."""
        text: str = self._tokenizer.decode(ids, skip_special_tokens=False)
        return text

    def is_added(self, token: int) -> bool:
        """Whether it is found in the text before the model's own words are, as control tokens are."""
        return token in self._added

    def bytes_of(self, token: int) -> bytes | None:
        """What it adds to a text; None where that is not known."""
        if token in self._added:
            return self._added[token].encode()
        name = self._tokenizer.id_to_token(token) if 0 <= token < 1 << 32 else None
        if name is None:
            return None
        if self._is_byte_level:
            return bytes_of_name(name)
        found = _BYTE.fullmatch(name)
        return bytes.fromhex(found[1]) if found else str(name).replace(_SPACE, " ").encode()

    def holds(self, ids: npt.NDArray[np.int64], text: str) -> bool:
        """Whether the text of (T,) ids has another text in it."""
        if self._tiler is not None and (data := self._tiler.spell(ids)) is not None:
            return text.encode("utf-8", "surrogatepass") in data
        return text in self(ids.tolist())

    @cached_property
    def _tiler(self) -> ByteTiler | None:
        """Spells some hundred times as fast as a decoder decodes; made when it is first needed, which takes 0.1 s."""
        return ByteTiler.of(self._resolved)


def in_bytes(data: bytes) -> str:
    """UTF-8 as text, with bytes that are no whole character in digits: ⟨e2 98⟩."""
    parts = []
    while data:
        try:
            parts.append(data.decode())
            break
        except UnicodeDecodeError as error:
            parts += [data[: error.start].decode(), f"⟨{data[error.start : error.end].hex(' ')}⟩"]
            data = data[error.end :]
    return "".join(parts)
