"""Tokens with their places, as tests look at them, and tokenizers that place them in different ways."""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from pathlib import Path

from small_tokenizer import CHATML, TEXT, shared_engine, shared_tokenizer, train
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from sftprep.characters.offsets import ExactEncoder
from sftprep.characters.placed import PlacedTokens
from sftprep.characters.tiling import ByteTiler
from sftprep.tokens.resolve import AddedToken as ResolvedToken
from sftprep.tokens.resolve import ResolvedTokenizer

Places = list[tuple[int, int]]


def encoded(placed: PlacedTokens, row: int = 0) -> list[tuple[int, int, int]]:
    """(id, start, stop) of the tokens of a text."""
    part = slice(*placed.tokens.offsets[row : row + 2])
    columns = (placed.tokens.ids[part], placed.starts[part], placed.stops[part])
    return list(zip(*(column.tolist() for column in columns), strict=True))


def pieces(placed: PlacedTokens, text: str) -> list[str]:
    return [text[start:stop] for _, start, stop in encoded(placed)]


def places_of(text: str, contents: Collection[str]) -> Places:
    """Every control token that is spelled out in a text: none of it forged."""
    found = re.finditer("|".join(re.escape(each) for each in sorted(contents, key=len, reverse=True)), text)
    return [match.span() for match in found]


def control_tokens(resolved: ResolvedTokenizer) -> set[str]:
    """The special ones, and DeepSeek's that begin a turn without being special."""
    structural = {"<｜User｜>", "<｜Assistant｜>"} & {token.content for token in resolved.added_tokens}
    return resolved.control_tokens() | structural


def metaspace(scheme: str) -> Tokenizer:
    """SentencePiece's way: spaces are marked, one is put before the text, unknown characters become bytes."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))  # noqa: S106
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=scheme)
    names = ["<unk>", "<s>", "</s>", *(f"<0x{number:02X}>" for number in range(256))]
    tokenizer.train_from_iterator(TEXT, trainers.BpeTrainer(vocab_size=450, special_tokens=names, show_progress=False))
    stated = json.loads(tokenizer.to_str())
    stated["added_tokens"] = stated["added_tokens"][:3]
    return Tokenizer.from_str(json.dumps(stated))


_SMALL: list[tuple[ByteTiler, ExactEncoder]] = []


def small_tiler() -> tuple[ByteTiler, ExactEncoder]:
    if not _SMALL:
        tokenizer = train()
        added = tuple(
            {"id": number, "content": content} for number, content in enumerate(CHATML, tokenizer.get_vocab_size() - 3)
        )
        flags = {"special": True, "lstrip": False, "rstrip": False, "normalized": False, "single_word": False}
        tokens = tuple(ResolvedToken(**token, **flags) for token in added)  # type: ignore[arg-type]
        resolved = ResolvedTokenizer(
            tokenizer.to_str(), "", {}, {}, tokens, None, None, 0, tokenizer.get_vocab_size(), {}, "", ""
        )
        tiler = ByteTiler.of(resolved)
        assert tiler is not None
        _SMALL.append((tiler, ExactEncoder(resolved, CHATML)))
    return _SMALL[0]


_ENCODERS: dict[Path, ExactEncoder] = {}


def shared_encoder(folder: Path) -> tuple[ResolvedTokenizer, ExactEncoder]:
    resolved = shared_tokenizer(folder)
    if folder not in _ENCODERS:
        _ENCODERS[folder] = ExactEncoder(resolved, control_tokens(resolved), shared_engine(folder).reference)
    return resolved, _ENCODERS[folder]
