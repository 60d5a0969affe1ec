"""A row as a table: a line for each position, whose columns stay where they are whatever the text."""

from __future__ import annotations

import re
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len
from rich.text import Text
from tokenizers import Tokenizer

from sftprep.look.rows import PROMPT_STYLES, TRAINED_STYLES
from sftprep.look.table import cell_of, render_table
from sftprep.sample import TOKENIZER
from sftprep.tokens.resolve import resolve_tokenizer
from sftprep.views.conversations import RowConversation, take_out
from sftprep.views.spelling import Spelling

SAMPLE = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))


def row(ids: list[int], mask: list[float], start: int = 0) -> RowConversation:
    x, y = np.zeros((1, start + len(ids) + 2), np.uint16), np.zeros((1, start + len(ids) + 2), np.uint16)
    own = slice(start, start + len(ids) - 1)
    x[0, own], y[0, own] = ids[:-1], ids[1:]
    weights = np.zeros(x.shape, np.float32)
    weights[0, own] = mask[1:]
    place = {"source": "a.jsonl", "line": 5, "byte_offset": 0, "truncated": False, "tokens_in_all": 3}
    return take_out((x, y, weights), np.array([[0, start, len(ids) - 1]]), 0, 3, "shard-00000", 0, place)


def lines(text: Text) -> list[list[str]]:
    return [re.split("  +", line.strip()) for line in text.plain.split("\n")[1:-1]]


def test_each_pair_has_a_line_with_its_mask() -> None:
    ids = [3992, *SAMPLE.encode("a\nb").ids, 3993]
    table = render_table(row(ids, [0, 0, 0, 0.5, 1], start=4), Spelling(resolve_tokenizer(str(TOKENIZER))))

    a, end, b = SAMPLE.encode("a\nb").ids
    assert table.plain.startswith("row 3 · shard-00000 · a.jsonl:5 · 5 tokens · 2 trained (40%)\n")
    assert lines(table) == [
        ["position", "id", "token", "→ id", "target", "mask"],
        ["4", "3992", "<|im_start|>", str(a), "a", "0"],
        ["5", str(a), "a", str(end), "↵", "0"],
        ["6", str(end), "↵", str(b), "b", "0.5"],
        ["7", str(b), "b", "3993", "<|im_end|>", "1"],
    ]
    styles = [str(span.style) for span in table.spans[2:]]
    assert styles == [PROMPT_STYLES[0], PROMPT_STYLES[1], TRAINED_STYLES[0], TRAINED_STYLES[1]]


def test_what_is_not_trained_can_be_left_out_and_ids_need_no_tokenizer() -> None:
    assert lines(render_table(row([7, 8, 9], [0, 0, 1]), only_trained=True)) == [
        ["position", "id", "→ id", "mask"],
        ["1", "8", "9", "1"],
    ]


def test_tokens_that_share_a_character_show_their_bytes() -> None:
    ids = SAMPLE.encode("🧑").ids
    assert len(ids) == 3
    shown = lines(render_table(row([*ids, ids[0]], [0] * 4), Spelling(resolve_tokenizer(str(TOKENIZER)))))

    assert [line[2] for line in shown[1:]] == ["🧑 ⟨f0 9f⟩", "⟨a7⟩", "⟨91⟩"]
    assert shown[3][4] == "⟨f0 9f⟩", "bytes that are no whole character are not shown as U+FFFD"


@pytest.mark.parametrize(
    ("token", "cell"),
    [
        (" the cat", "·the·cat"),
        ("\n\n", "↵↵"),
        ("\x1b[2J\t", r"\x1b[2J\t"),
        ("\u202e\u2067", r"\u202e\u2067"),
        ("\u0301", "◌\u0301"),
        ("\u200d", "◌\u200d"),
        ("⟨e2 98⟩ a", "⟨e2 98⟩·a"),
    ],
)
def test_a_cell_is_one_line_in_which_every_character_is_seen(token: str, cell: str) -> None:
    assert cell_of((token, None)) == cell


@given(st.lists(st.text(st.characters(exclude_categories=["Cn"]), max_size=60), min_size=2, max_size=6))
def test_nothing_that_controls_a_terminal_gets_through_and_columns_stay(texts: list[str]) -> None:
    """Whatever tokens say: a line each, of the same width but for the mask's; isolates are ours."""
    table = render_table(
        row(list(range(1, len(texts) + 1)), [0] * len(texts)), lambda ids: "".join(texts[i - 1] for i in ids)
    )

    shown = table.plain.split("\n")
    assert len(shown) == len(texts) + 2  # a header, names, a pair less than texts, the end
    for line in shown[1:-1]:
        assert all(unicodedata.category(c) not in ("Cc", "Cs", "Zl", "Zp") for c in line)
        assert re.fullmatch("([^\u2066-\u2069]|\u2068[^\u2066-\u2069]+\u2069)*", line)
        assert {c for c in line if unicodedata.category(c) == "Cf"} <= set("\u200c\u200d\u2068\u2069")
    assert len({cell_len(re.sub("[\u2068\u2069]", "", line)) for line in shown[1:-1]}) == 1
