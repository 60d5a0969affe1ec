"""Rows on the screen: which text is bright, where it came from, and what of it may reach a terminal."""

from __future__ import annotations

import io
import re
import unicodedata
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console
from rich.text import Text
from small_dataset import npy, origins, parquet, rewrite, three_rows, write_dataset
from tokenizers import Tokenizer

from sftprep.look.rows import PROMPT_STYLES, TRAINED_STYLES, render_row, render_tokens
from sftprep.sample import TOKENIZER
from sftprep.tokens.resolve import resolve_tokenizer
from sftprep.views.conversations import load_rows, take_out
from sftprep.views.spelling import Spelling

SAMPLE = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
LETTERS = dict(enumerate(["<pad>", "a", " b", "\n", "  ", "c", "<end>"]))
COLOUR_CODE = re.compile(r"\x1b\[[0-9;]*m")


def letters(ids: Sequence[int]) -> str:
    return "".join(LETTERS[token] for token in ids)


def sample_text(ids: Sequence[int]) -> str:
    return str(SAMPLE.decode(ids, skip_special_tokens=False))


def spans(text: Text) -> list[tuple[str, str]]:
    return [(text.plain[span.start : span.end], str(span.style)) for span in text.spans]


def printed(text: Text) -> str:
    console = Console(file=io.StringIO(), force_terminal=True, color_system="256", width=80)
    console.print(text, soft_wrap=True)
    output = console.file
    assert isinstance(output, io.StringIO)
    return output.getvalue()


def test_prompt_and_answer_have_their_own_styles_and_tokens_alternate() -> None:
    text = render_tokens([1, 2, 5, 6, 1], [False, False, True, True, False], letters)

    assert spans(text) == [
        ("a", PROMPT_STYLES[0]),
        (" b", PROMPT_STYLES[1]),
        ("c", TRAINED_STYLES[0]),
        ("<end>", TRAINED_STYLES[1]),
        ("a", PROMPT_STYLES[0]),
    ]


def test_white_space_is_seen() -> None:
    assert render_tokens([1, 3, 4, 2, 3], [False] * 5, letters).plain == "a↵\n·· b↵\n"


def test_brackets_mark_trained_text_without_colours() -> None:
    trained = [True, False, False, True, True]

    assert render_tokens([1, 2, 5, 5, 6], trained, letters, brackets=True).plain == "⟦a⟧ bc⟦c<end>⟧"
    assert render_tokens([1, 2], [False, False], letters, brackets=True).plain == "a b"
    assert render_tokens([], [], letters, brackets=True).plain == ""


def test_without_a_decoder_the_ids_are_shown() -> None:
    text = render_tokens([17, 4000], [False, True])

    assert spans(text) == [("17 ", PROMPT_STYLES[0]), ("4000 ", TRAINED_STYLES[1])]


@pytest.mark.parametrize("first_trained", [0, 1])
def test_tokens_that_share_a_character_are_one_and_the_first_decides(first_trained: int) -> None:
    ids = SAMPLE.encode("x🧑y").ids
    assert len(ids) > 4, "this emoji has to be several tokens for the test to mean anything"

    shown = spans(render_tokens(ids, [i >= 1 + first_trained for i in range(len(ids))], sample_text))

    assert [part for part, _ in shown] == ["x", "🧑", "y"]
    assert (shown[1][1] in TRAINED_STYLES) == (first_trained == 0)
    assert shown[2][1] in TRAINED_STYLES


def test_bytes_that_are_no_character_are_shown_and_do_not_swallow_what_follows() -> None:
    half = SAMPLE.encode("🧑").ids[:2]
    ids = [*half, *SAMPLE.encode(" the cat").ids]
    shown = spans(render_tokens(ids, [False] * len(half) + [True] * (len(ids) - len(half)), sample_text))

    assert shown[0] == ("\ufffd", PROMPT_STYLES[0])
    assert "".join(part for part, style in shown if style in TRAINED_STYLES) == " the cat"


# U+FFFD in a text is left out: a decoder cannot tell it from half a character.
TEXTS = st.text(
    st.characters(codec="utf-8", exclude_characters="\ufffd") | st.sampled_from("🧑‍🚀¤éतé भ b\n"), max_size=60
)


@given(text=TEXTS, data=st.data())
def test_all_text_is_shown_once_and_coloured_by_its_token(text: str, data: st.DataObject) -> None:
    ids = SAMPLE.encode(text).ids
    trained = data.draw(st.lists(st.booleans(), min_size=len(ids), max_size=len(ids)))
    shown = render_tokens(ids, trained, sample_text)

    # Oracle, by bytes: a group begins at each token that begins a character.
    starts = {len(text[:n].encode()) for n in range(len(text))}
    group_trained = []  # of every byte
    for token, is_trained in zip(ids, trained, strict=True):
        decides = is_trained if len(group_trained) in starts else group_trained[-1]
        group_trained += [decides] * len(token_bytes(token))
    expected = []
    for n, character in enumerate(text):
        expected += [(part, group_trained[len(text[:n].encode())]) for part in escaped(character)]
    styled = [(c, str(style).split(" reverse")[0] in TRAINED_STYLES) for part, style in spans(shown) for c in part]
    marks = " ·\n↵"
    assert [pair for pair in styled if pair[0] not in marks] == [pair for pair in expected if pair[0] not in marks]


def token_bytes(token: int) -> bytes:
    alphabet = {character: byte for byte, character in BYTE_LEVEL.items()}
    return bytes(alphabet[character] for character in str(SAMPLE.id_to_token(token)))


def byte_level_alphabet() -> dict[int, str]:
    """The table of GPT-2: bytes that print stand for themselves, the others for characters from U+0100."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {byte: chr(byte) for byte in plain} | {byte: chr(256 + n) for n, byte in enumerate(rest)}


BYTE_LEVEL = byte_level_alphabet()


def escaped(character: str) -> str:
    hostile = unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp") and character not in "\n\u200c\u200d"
    return character.encode("unicode_escape").decode() if hostile else character


@pytest.mark.parametrize(
    ("hostile", "visible"),
    [
        ("\x1b[2J\x1b]0;owned\x07", r"\x1b[2J\x1b]0;owned\x07"),
        ("\x9b31m", r"\x9b31m"),
        ("a\rb\x08\x7f", r"a\rb\x08\x7f"),
        ("\u202eevil\u2066\u200f", r"\u202eevil\u2066\u200f"),
        ("\u200b\ufeff\u2028\U000e0041", r"\u200b\ufeff\u2028\U000e0041"),
        ("[bold]:smile:[/]", "[bold]:smile:[/]"),
        ("न\u200dम 👩\u200d🚀", "न\u200dम 👩\u200d🚀"),
    ],
)
def test_hostile_text_is_shown_not_obeyed(hostile: str, visible: str) -> None:
    text = render_tokens([0], [True], lambda ids: hostile if ids else "")

    assert text.plain == visible
    assert COLOUR_CODE.sub("", printed(text)) == visible + "\n"


@given(st.text(st.characters(categories=["Cc", "Cf", "Cs", "Zl", "Zp", "Lu"]), min_size=1, max_size=30))
def test_nothing_that_controls_a_terminal_gets_through(text: str) -> None:
    output = COLOUR_CODE.sub("", printed(render_tokens([0], [False], lambda ids: text if ids else "")))

    assert all(unicodedata.category(c) in ("Lu", "Ll", "Nd", "Po", "Sm") or c in "↵\n\u200c\u200d" for c in output), (
        output
    )


@pytest.fixture
def dataset(tmp_path: Path) -> Path:
    return three_rows(tmp_path)


def shown(dataset: Path, *rows: int, **options: bool) -> list[str]:
    return [render_row(each, letters, **options).plain for each in load_rows(dataset, rows)]


def test_rows_say_where_they_lie_and_where_they_came_from(dataset: Path) -> None:
    assert shown(dataset, 2, 0, 1, brackets=True) == [
        "row 2 · shard-00001 · a.jsonl:4 · 3 tokens · 1 trained (33%)\na⟦c⟧<end>\n",
        "row 0 · shard-00000 · a.jsonl:2 · 4 tokens · 2 trained (50%)\na b⟦c<end>⟧\n",
        "row 1 · shard-00000 · a.jsonl:3 · 5 of 7 tokens (truncated) · 2 trained (40%)\na b↵\n⟦cc⟧\n",
    ]


def test_what_is_not_trained_can_be_left_out(dataset: Path) -> None:
    assert [text.partition("\n")[2] for text in shown(dataset, 2, 0, only_trained=True)] == ["c ⋯\n", "c<end>\n"]


def test_trained_pads_are_counted_though_pads_are_hidden(dataset: Path) -> None:
    manifest = write_dataset(dataset, [[([1, 2], [0, 1])]], max_length=5)
    rewrite(dataset, manifest, "shard-00000.mask.npy", npy(np.array([[True, True, True, False]])))

    assert shown(dataset, 0) == ["row 0 · shard-00000 · a.jsonl:2 · 2 tokens · 1 trained (50%) · and 2 pads\na b\n"]


def test_a_hostile_file_name_is_escaped(dataset: Path) -> None:
    manifest = write_dataset(dataset, [[([1, 2], [0, 1])]], max_length=5)
    rewrite(dataset, manifest, "shard-00000.provenance.parquet", parquet(origins(["\x1b[2J\n.jsonl"])))

    assert shown(dataset, 0)[0].split(" · ")[2] == r"\x1b[2J\n.jsonl:1"


ARABIC, HEBREW = "مرحبا بالعالم", "שלום"


def test_what_runs_from_right_to_left_is_isolated_line_by_line_and_apart_from_control_tokens() -> None:
    """So a terminal that reorders it moves neither the control token behind it nor the mark of a line's end."""
    ids = [3992, *SAMPLE.encode(f"a {ARABIC}\nb\n{HEBREW}").ids, 3993]
    text = render_tokens(ids, [False] * len(ids), Spelling(resolve_tokenizer(str(TOKENIZER)))).plain

    assert text == f"<|im_start|>\u2068a {ARABIC}\u2069↵\nb↵\n\u2068{HEBREW}\u2069<|im_end|>"


@given(st.text(st.sampled_from(f"ab \n{ARABIC}{HEBREW}\u2068\u2069\u202e\x1b"), max_size=40))
def test_isolates_are_ours_and_end_where_they_begin(text: str) -> None:
    for line in render_tokens([0], [True], lambda ids: text if ids else "").plain.split("\n"):
        assert re.fullmatch("([^\u2068\u2069]|\u2068[^\u2068\u2069]+\u2069)*", line), line
        assert "\u202e" not in line
        assert "\x1b" not in line


def test_a_header_is_not_reordered_by_a_file_name(dataset: Path) -> None:
    manifest = write_dataset(dataset, [[([1, 2], [0, 1])]], max_length=5)
    rewrite(dataset, manifest, "shard-00000.provenance.parquet", parquet(origins([f"{HEBREW}.jsonl"])))

    assert shown(dataset, 0)[0].split(" · ")[2] == f"\u2068{HEBREW}.jsonl:1\u2069"


def test_several_conversations_of_a_row_each_say_where_they_lie() -> None:
    arrays = np.array([[1, 2, 5, 1, 5, 0]]), np.array([[2, 5, 6, 5, 6, 0]]), np.array([[0, 1, 1, 0, 1, 0]]) > 0
    segments, place = (
        np.array([[0, 0, 2], [0, 3, 2]]),
        {"source": "a", "line": 1, "byte_offset": 0, "truncated": False, "tokens_in_all": 3},
    )
    both = [take_out(arrays, segments, segment, 7, "shard-00000", 0, place) for segment in (0, 1)]

    assert [render_row(each, letters, brackets=True).plain for each in both] == [
        "row 7 · conversation 1 of 2, from position 0 · shard-00000 · a:1 · 3 tokens · 1 trained (33%) · and 1 pads\na b⟦c⟧\n",
        "row 7 · conversation 2 of 2, from position 3 · shard-00000 · a:1 · 3 tokens · 1 trained (33%) · and 1 pads\nac⟦<end>⟧\n",
    ]
