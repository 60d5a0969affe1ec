"""A tokenizer as what turns ids into text, bytes and back to whole characters."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:  # what is seldom needed is imported then: a row should be there at once
    from sftprep.characters.tiling import ByteTiler
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
            from sftprep.characters.tiling import bytes_of_name

            return bytes_of_name(name)
        found = _BYTE.fullmatch(name)
        return bytes.fromhex(found[1]) if found else str(name).replace(_SPACE, " ").encode()

    def holding(self, conversations: Sequence[npt.NDArray[np.int64]], text: str) -> list[int]:
        """The indices of those whose text has another text in it. conversations: (T,) ids of each."""
        stops = np.cumsum([0, *map(len, conversations)])
        spelled = self._tiler.spell(np.concatenate([np.zeros(0, np.int64), *conversations])) if self._tiler else None
        if spelled is None:
            return [index for index, ids in enumerate(conversations) if text in self(ids.tolist())]
        data, places = spelled
        wanted, bounds = text.encode("utf-8", "surrogatepass"), places[stops].tolist()
        if wanted not in data:
            return []
        return [index for index in range(len(conversations)) if data.find(wanted, *bounds[index : index + 2]) >= 0]

    @cached_property
    def _tiler(self) -> ByteTiler | None:
        """Spells some hundred times as fast as a decoder decodes; made when it is first needed, which takes 0.1 s."""
        from sftprep.characters.tiling import ByteTiler

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
