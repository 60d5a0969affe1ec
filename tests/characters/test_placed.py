"""Where tokens stand in the text."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from placed_tokens import encoded, metaspace, pieces
from small_tokenizer import resolve, special, train
from tokenizers import normalizers

from sftprep.characters.offsets import ExactEncoder
from sftprep.characters.placed import PlacedTokens, emptied, join_places, replaced, split_places
from sftprep.tokens.batch import TokenBatch
from sftprep.tokens.engines import HfEngine
from sftprep.tokens.resolve import ResolvedTokenizer


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


# -- batches taken apart and put together, against lists --

Row = list[tuple[int, int, int]]  # (id, start, stop) of each token


def placed_of(rows: list[Row]) -> PlacedTokens:
    columns = np.array([token for row in rows for token in row], np.int64).reshape(-1, 3).T
    tokens = TokenBatch(columns[0].astype(np.uint32), np.cumsum([0, *map(len, rows)]))
    return PlacedTokens(tokens, columns[1].astype(np.int32), columns[2].astype(np.int32))


def rows_of(placed: PlacedTokens) -> list[Row]:
    return [encoded(placed, row) for row in range(placed.tokens.offsets.size - 1)]


ROWS = st.lists(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 9)), max_size=4), min_size=1)


@given(ROWS)
def test_texts_split_and_join(rows: list[Row]) -> None:
    parts = split_places(placed_of(rows))
    assert [rows_of(part) for part in parts] == [[row] for row in rows]
    joined = join_places(parts)
    assert rows_of(joined) == rows
    assert (joined.tokens.offsets.dtype, joined.starts.dtype) == (np.int64, np.int32)


@given(ROWS, st.data())
def test_some_texts_are_emptied_or_get_other_tokens(rows: list[Row], data: st.DataObject) -> None:
    chosen = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    emptied_rows = [[] if empty else row for row, empty in zip(rows, chosen, strict=True)]
    left = emptied(placed_of(rows), np.array(chosen))
    assert rows_of(left) == emptied_rows
    others = [[(100 + number, 0, number)] * (number % 3) for number in range(len(rows))]

    def encode(numbers: list[int], names: list[str]) -> PlacedTokens:
        assert names == [f"text {number}" for number in numbers]
        return placed_of([others[number] for number in numbers])

    every = range(len(rows))
    found = replaced(left, np.flatnonzero(chosen), encode, every, [f"text {number}" for number in every])
    assert rows_of(found) == [other if empty else row for row, empty, other in zip(rows, chosen, others, strict=True)]
