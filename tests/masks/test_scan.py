"""Scan masks against the seed's loop, written out in plain Python."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import orjson
import pytest
from conftest import FULL
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizer import shared_engine
from strategies import rows_with_patterns, scan_rules
from transformers import AutoTokenizer

from sftprep.errors import ConfigError
from sftprep.layouts.padded import lay_out
from sftprep.masks.scan import PRESETS, Encode, ScanRule, rule_of_preset, scan_flat, scan_mask, scan_rule
from sftprep.tokens.batch import TokenBatch, split_rows

# the tutorial's toy: <s> = 1, </s> = 2, user = 10, assistant = 20, pad = 0; one turn each, then two pads
TOY = np.array([[1, 10, 101, 102, 103, 2, 1, 20, 200, 2, 0, 0]])
CORPUS_STEP = 1 if FULL else 64  # of the corpus, conversations that the reference tokenizes, too


def seed_loop(ids: list[int], rule: ScanRule) -> list[bool]:
    """MiniMind's `_generate_loss_mask`, by token."""
    header, end, length = list(rule.header), list(rule.end), len(ids)
    mask = [False] * length
    i = 0
    while i < length:
        if ids[i] != header[0] or ids[i : i + len(header)] != header:
            i += 1
            continue
        start = k = i + len(header)
        while k < length and (ids[k] != end[0] or ids[k : k + len(end)] != end):
            k += 1
        for j in range(max(start + rule.start_offset, 0), min(k + len(end) + rule.end_offset, length)):
            mask[j] = True
        if k == length:
            break
        i = k + len(end)
    return mask


def toy_encode(text: str) -> list[int]:
    words = {"<s>assistant": [1, 20], "</s>": [2]}
    return words[text]


def preset_rule(name: str, encode: Encode, special: Mapping[str, str]) -> ScanRule:
    return rule_of_preset({"mask": name}, special, lambda: pytest.fail("it needs no talk"), encode)


def test_minimind_trains_what_its_loop_trains_in_the_toy_example() -> None:
    rule = preset_rule("minimind", toy_encode, {"bos_token": "<s>", "eos_token": "</s>"})
    assert np.flatnonzero(scan_mask(TOY, rule)).tolist() == [9, 10]  # </s> and a pad


def test_scan_without_offsets_trains_what_the_tutorials_table_wants() -> None:
    rule = scan_rule("<s>assistant", "</s>", toy_encode)
    assert np.flatnonzero(scan_mask(TOY, rule)).tolist() == [8, 9]  # 200 and </s>


@pytest.mark.parametrize(
    ("rule", "ids", "trained"),
    [
        pytest.param(ScanRule((7,), (9,)), [7, 7, 1, 9, 7, 9], [1, 2, 3, 5], id="header inside a turn is content"),
        pytest.param(ScanRule((7,), (9,)), [9, 7, 1, 2], [2, 3], id="cut turn is trained to the end"),
        pytest.param(ScanRule((7,), (9,)), [1, 2, 7], [], id="header at the very end"),
        pytest.param(ScanRule((7, 7), (9,)), [7, 7, 7, 9, 7], [2, 3], id="header overlaps itself"),
        pytest.param(ScanRule((7,), (7,)), [7, 7, 7, 7], [1, 3], id="header is the terminator"),
        pytest.param(ScanRule((7,), (9, 9)), [7, 9, 7, 9, 9, 9], [1, 2, 3, 4], id="terminator cut, then whole"),
        pytest.param(
            ScanRule((7,), (9,), 0, 2), [7, 9, 7, 9, 1, 1, 1], [1, 2, 3, 4, 5], id="spans reach into the next"
        ),
        pytest.param(ScanRule((7,), (9,), -3, -1), [7, 1, 9, 1], [0, 1], id="negative offsets stop at the row"),
        pytest.param(ScanRule((7,), (9,), 3, 0), [7, 1, 9, 1], [], id="span starts after it stops"),
        pytest.param(ScanRule((7,) * 9, (9,)), [7, 9], [], id="pattern longer than the row"),
    ],
)
def test_single_rows(rule: ScanRule, ids: list[int], trained: list[int]) -> None:
    assert np.flatnonzero(scan_mask(np.array([ids]), rule)).tolist() == trained
    assert np.flatnonzero(seed_loop(ids, rule)).tolist() == trained


def test_a_pattern_across_two_rows_is_no_match() -> None:
    rule = ScanRule((7, 8), (9, 9))
    assert not scan_mask(np.array([[1, 1, 7], [8, 1, 9]]), rule).any()
    assert scan_mask(np.array([[7, 8, 9], [9, 1, 1]]), rule).tolist() == [[False, False, True], [False] * 3]


@given(st.data(), scan_rules())
def test_equals_the_loop_on_ragged_and_lay_out(data: st.DataObject, rule: ScanRule) -> None:
    rows = data.draw(rows_with_patterns(rule))
    offsets = np.cumsum([0, *map(len, rows)])
    flat = np.array([token for row in rows for token in row], np.uint32)
    mask = scan_flat(flat, offsets, rule)
    assert mask.dtype == bool
    assert mask.tolist() == [trained for row in rows for trained in seed_loop(row, rule)]

    length, pad = data.draw(st.integers(1, 40)), data.draw(st.integers(0, 4))
    padded = [(row + [pad] * length)[:length] for row in rows]
    grid = np.array(padded, np.uint16).reshape(len(rows), length)
    assert scan_mask(grid, rule).tolist() == [seed_loop(row, rule) for row in padded]


def test_hundreds_of_nested_headers_in_one_row() -> None:
    rng = np.random.default_rng(0)
    rule = ScanRule((1, 1), (2,), 0, 1)
    ids = rng.choice([0, 1, 2], p=[0.1, 0.7, 0.2], size=(3, 5000)).astype(np.uint16)
    assert scan_mask(ids, rule).tolist() == [seed_loop(row, rule) for row in ids.tolist()]


def test_no_rows() -> None:
    assert scan_mask(np.zeros((0, 5), np.uint16), ScanRule((1,), (2,))).shape == (0, 5)


def test_a_blank_at_a_headers_end_is_the_answers_where_they_are_one_token() -> None:
    merged = {"A: ": [1, 2, 3], "A: a": [1, 2, 4], "A:": [1, 2], "e": [9]}
    apart = {"A: ": [1, 2, 3], "A: a": [1, 2, 3, 4], "e": [9]}
    assert scan_rule("A: ", "e", merged.__getitem__).header == (1, 2)
    assert scan_rule("A: ", "e", apart.__getitem__).header == (1, 2, 3)


def test_what_cannot_be_a_rule() -> None:
    with pytest.raises(ConfigError, match="at least one id"):
        scan_rule("", "</s>", lambda text: [1] if text else [])


@pytest.mark.parametrize("name", ["minimind-2", "minimind-3"])
def test_presets_equal_the_seed_on_conversations_of_the_corpus(name: str, shared_data: Path, corpus: Path) -> None:
    folder = shared_data / "tokenizers" / name
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    fast = shared_engine(folder)

    def encode(text: str) -> list[int]:
        return list(tokenizer(text, add_special_tokens=False).input_ids)

    rules = [preset_rule(preset, encode, tokenizer.special_tokens_map) for preset in PRESETS]
    lines = corpus.read_bytes().splitlines()[:: 1 if FULL else 8]
    assert len(lines) == (24_196 if FULL else 3_025)
    for at in range(0, len(lines), 1000):
        chats = [orjson.loads(line)["conversations"] for line in lines[at : at + 1000]]
        texts = [tokenizer.apply_chat_template(chat, tokenize=False) for chat in chats]
        ids = [row.tolist() for row in split_rows(fast.encode(texts))]
        assert ids[::CORPUS_STEP] == tokenizer(texts[::CORPUS_STEP]).input_ids
        for length in (128, 512, 1024):
            assert_as_the_seed(ids, rules, length, tokenizer.pad_token_id)


def assert_as_the_seed(ids: list[list[int]], rules: list[ScanRule], length: int, pad: int) -> None:
    """The seed's `__getitem__`: cut, padded, masked, then shifted."""
    batch = TokenBatch(np.concatenate([np.array(row, np.uint32) for row in ids]), np.cumsum([0, *map(len, ids)]))
    padded = [(row + [pad] * length)[:length] for row in ids]
    expected = np.array(padded)
    for rule in rules:
        rows = lay_out(batch, rule, length, pad, np.uint16, keep_untrained=True)
        mask = np.array([seed_loop(row, rule) for row in padded])[:, 1:]
        assert np.array_equal(rows.x, expected[:, :-1])
        assert np.array_equal(rows.y, expected[:, 1:])
        assert np.array_equal(rows.mask, mask)
        assert np.array_equal(rows.trained, np.sum(mask, axis=1))
        assert rows.truncated.any()
        assert not rows.truncated.all()
