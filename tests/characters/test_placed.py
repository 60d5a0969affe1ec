"""Where tokens stand in the text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from placed_tokens import encoded, metaspace, pieces
from tokenizers import normalizers

from sftprep.characters.offsets import ExactEncoder
from sftprep.tokens.engines import HfEngine
from sftprep.tokens.resolve import ResolvedTokenizer
from tests.small_tokenizer import resolve, special, train


def test_a_token_with_a_space_begins_at_the_space(resolved: ResolvedTokenizer) -> None:
    text = "<|im_start|> the  the<|im_end|>"
    placed = ExactEncoder(resolved).encode_with_starts([text])
    assert pieces(placed, text) == ["<|im_start|>", " the", " ", " the", "<|im_end|>"]


def test_trim_offsets_of_a_post_processor_do_not_matter(tmp_path: Path) -> None:
    from tokenizers import processors

    tokenizer = train()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=True)
    text = "fox the  the"
    placed = ExactEncoder(resolve(tokenizer, tmp_path)).encode_with_starts([text])
    assert " the" in pieces(placed, text)
    assert "".join(pieces(placed, text)) == text


def test_all_tokens_of_a_character_begin_at_it(resolved: ResolvedTokenizer) -> None:
    text = "a\U0001d54fb"  # never seen in training: four bytes, four tokens
    assert [(start, stop) for _, start, stop in encoded(ExactEncoder(resolved).encode_with_starts([text]))] == [
        *[(0, 1)],
        *[(1, 2)] * 4,
        *[(2, 3)],
    ]


def test_white_space_that_a_token_takes_belongs_to_it(tmp_path: Path) -> None:
    added = [*special("<l>", lstrip=True), *special("<r>", rstrip=True)]
    text = "a  <l>  b <r> \n c"
    placed = ExactEncoder(resolve(train(added=added), tmp_path)).encode_with_starts([text])
    assert [piece for piece in pieces(placed, text) if "<" in piece] == ["  <l>", "<r> \n "]


def test_positions_are_of_the_text_before_normalization(tmp_path: Path) -> None:
    text = "Cafe\u0301 Ａx"
    resolved = resolve(train(normalizer=normalizers.NFKC()), tmp_path)
    placed = ExactEncoder(resolved).encode_with_starts([text])
    assert placed.starts.tolist() == sorted(placed.starts.tolist())
    assert (placed.starts[0], placed.stops[-1]) == (0, len(text))
    x = next(start for number, start, _ in encoded(placed) if number == HfEngine(resolved).encode(["x"]).ids[0])
    assert x == text.index("x")


@pytest.mark.parametrize("scheme", ["first", "always", "never"])
def test_metaspace_positions(scheme: str, tmp_path: Path) -> None:
    text = "<s>The quick</s> fox 🦊\n<s>The"
    resolved = resolve(metaspace(scheme), tmp_path)
    placed = ExactEncoder(resolved).encode_with_starts([text])
    assert [text[start:stop] for number, start, stop in encoded(placed) if number < 3] == ["<s>", "</s>", "<s>"]
    assert (np.diff(placed.starts) >= 0).all()
    covered = np.zeros(len(text), np.bool_)
    for _, start, stop in encoded(placed):
        covered[start:stop] = True
    assert covered.all()
