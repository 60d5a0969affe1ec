"""Long texts in pieces: the tokens are those of the whole, and memory stays small."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import FULL, TOKENIZERS
from hypothesis import given
from hypothesis import strategies as st
from small_tokenizer import TEXT, resolve, save, shared_tokenizer, special, train
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from sftprep.characters.offsets import ExactEncoder
from sftprep.characters.placed import PlacedTokens
from sftprep.tokens import cuts as text_cuts
from sftprep.tokens.ask_transformers import resolve_here
from sftprep.tokens.cuts import TextCuts
from sftprep.tokens.hostile_texts import hostile_texts
from sftprep.tokens.resolve import ResolvedTokenizer

GPT_4 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@pytest.fixture
def smallest_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every text is cut wherever that is allowed, and few pieces are encoded at once."""
    monkeypatch.setattr(text_cuts, "PIECE", 1)
    monkeypatch.setattr(text_cuts, "_GROUP", 100)


def whole(encoder: ExactEncoder, text: str, *, as_text: bool) -> list[tuple[int, int, int]]:
    """Ids and places by the library itself, of a text that nobody cuts."""
    tokenizer = encoder.reference.tokenizer
    tokenizer.encode_special_tokens = as_text
    try:
        encoding = tokenizer.encode(text, add_special_tokens=False)
    finally:
        tokenizer.encode_special_tokens = False
    return [(number, *place) for number, place in zip(encoding.ids, encoding.offsets, strict=True)]


def each(placed: PlacedTokens) -> list[list[tuple[int, int, int]]]:
    flat = list(zip(placed.tokens.ids.tolist(), placed.starts.tolist(), placed.stops.tolist(), strict=True))
    bounds = placed.tokens.offsets.tolist()
    return [flat[start:stop] for start, stop in pairwise(bounds)]


def mixtures(tokens: list[str], count: int) -> list[str]:
    """Texts of letters, what may follow them at a cut, and what could reach across."""
    rng = random.Random(0)
    pool = [
        *tokens,
        *"aZ中のя,.:;!?) \n\t09'’，。\u0301\u0338\u200d",
        "'s",
        "'LL",
        "  ",
        "\r\n",
        "don't",
        "3.14",
        "ſ",
        "ﬀ",
    ]
    return ["".join(rng.choices(pool, k=rng.randint(2, 60))) for _ in range(count)]


def assert_cuts_change_nothing(resolved: ResolvedTokenizer, texts: list[str]) -> int:
    """How many pieces there were."""
    encoder = ExactEncoder(resolved)
    for as_text, placed in ((False, encoder.encode_with_starts(texts)), (True, encoder.as_text(texts))):
        for text, tokens in zip(texts, each(placed), strict=True):
            assert tokens == whole(encoder, text, as_text=as_text), text
    ids = encoder.reference.encode(texts)
    placed = encoder.encode_with_starts(texts)
    assert np.array_equal(ids.ids, placed.tokens.ids)
    assert np.array_equal(ids.offsets, placed.tokens.offsets)
    return sum(map(len, encoder.reference.cuts.groups(texts)))


@pytest.mark.usefixtures("smallest_pieces")
@pytest.mark.parametrize("name", TOKENIZERS)
def test_pieces_of_real_tokenizers_give_the_tokens_of_the_whole(shared_data: Path, name: str) -> None:
    resolved = shared_tokenizer(shared_data / "tokenizers" / name)
    tokens = [token.content for token in resolved.added_tokens][:40]
    texts = [*hostile_texts(tokens), *mixtures(tokens, 500)]
    assert assert_cuts_change_nothing(resolved, texts) > len(texts) + 500


@pytest.mark.usefixtures("smallest_pieces")
@pytest.mark.parametrize("pattern", [None, GPT_4, r"\p{L}+|[^\p{L}]+", r"(?:\p{L}|\p{M})+|\s|(.|\n)", r"[^\s]+|\s+"])
@pytest.mark.parametrize("normalizer", [None, normalizers.NFC(), normalizers.NFKC()])
def test_pieces_of_any_tokenizer_give_the_tokens_of_the_whole(
    tmp_path: Path, pattern: str | None, normalizer: normalizers.Normalizer | None
) -> None:
    added = [*special("<s>", "a b", "<x,1>", "k9", lstrip=True), AddedToken("b\u037e", normalized=True)]
    resolved = resolve(train(pattern, added, normalizer, size=600), tmp_path)
    assert_cuts_change_nothing(resolved, [*TEXT, *mixtures([token.content for token in added], 300)])


def places(resolved: ResolvedTokenizer) -> str:
    """The characters before which texts are cut."""
    found = TextCuts(resolved).places
    return "" if found is None else "".join(mark for mark in text_cuts._AFTER if found.search("a" + mark))


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (None, text_cuts._AFTER),
        (GPT_4, text_cuts._AFTER),
        (r"\p{L}+|\p{N}|[^\p{L}\p{N}]+", text_cuts._AFTER),
        (r"\p{L}+,?|\s+|[^\p{L}]", text_cuts._AFTER.replace(",", "")),  # a match may hold the two
        (r"\p{L}+(?!,)|\p{L}|[^\p{L}]", text_cuts._AFTER.replace(",", "")),  # or look from one to the other
        (r"\p{L}+(?= |$)|\p{L}|[^\p{L}]", ""),  # the end of the text is something
        (r"\p{L}{2}|[^\p{L}]+", ""),  # one letter by itself is in no match, so there is no end of one
        (r"[a-z]+|[^a-z]+", ""),  # others than a to z go together with what follows
        (r"\p{L}+(?! )|[^\p{L}]", ""),  # nor is one before a space
        (r"(?<=a) |\p{L}+|[^\p{L}]", ""),  # looks back
        (r"\b\p{L}+|[^\p{L}]+|\p{L}", ""),
        (r"\p{L}+?|[^\p{L}]+", ""),  # not followed
        (r"[\p{L}&&[^a]]+|[^\p{L}]|a", ""),
        (r"\S+|\s+", " \n\t"),
        (r"\p{L}*|[^\p{L}]+", ""),  # matches nothing
        (r"[^\p{L}]||\p{L}+", ""),
        (r"(?:a?)|\p{L}+|[^\p{L}]", ""),
        (r"(?:a|)|\p{L}+|[^\p{L}]", ""),
        (r"((?=a))|\p{L}+|[^\p{L}]", ""),  # a group in a group
        (r"(?:\p{L})+|[^\p{L}]", ""),  # a group that is repeated
        (r"(?i:k,|'s)|\p{L}+|[^\p{L}]", text_cuts._AFTER.replace(",", "")),
        (r"\p{L}+(?i:'s|'t)?|[^\p{L}]", text_cuts._AFTER),
        (r"\p{L}+(?i:'s|'t)|[^\p{L}]", ""),  # a letter that is not followed by them is in no match
    ],
)
def test_where_a_pattern_lets_texts_be_cut(tmp_path: Path, pattern: str | None, expected: str) -> None:
    assert places(resolve(train(pattern, []), tmp_path)) == expected


def test_added_tokens_are_not_cut(tmp_path: Path) -> None:
    def after(*added: AddedToken) -> str:
        return places(resolve(train(None, list(added)), tmp_path))

    assert after(*special("<s>", "a", ",b", "1.5")) == text_cuts._AFTER
    assert after(*special("a,b")) == text_cuts._AFTER.replace(",", "")
    assert after(*special("<m>", rstrip=True)) == text_cuts._AFTER.replace(" ", "").replace("\n", "").replace("\t", "")
    assert after(*special("<m>", lstrip=True)) == text_cuts._AFTER
    assert after(*special("word", single_word=True)) == ""
    greek_question_mark = AddedToken("b\u037e", normalized=True)  # a semicolon, once it is normalized
    assert after(greek_question_mark) == text_cuts._AFTER.replace(";", "")


@pytest.mark.parametrize(
    "step",
    [
        pre_tokenizers.Metaspace(),
        pre_tokenizers.Whitespace(),
        pre_tokenizers.ByteLevel(add_prefix_space=True),
        pre_tokenizers.Split(" ", "merged_with_previous"),
        None,
    ],
)
def test_other_ways_to_split_are_not_cut(tmp_path: Path, step: pre_tokenizers.PreTokenizer | None) -> None:
    tokenizer = Tokenizer(models.BPE({"a": 0, "b": 1}, []))
    if step is not None:
        tokenizer.pre_tokenizer = step
    assert places(resolve_here(str(save(tokenizer, tmp_path / "tokenizer")))) == ""


@given(text=st.text(alphabet="ab中 ,.\n1'😀", max_size=200), piece=st.integers(1, 40), group=st.integers(1, 80))
def test_pieces_are_the_text(text: str, piece: int, group: int) -> None:
    cuts = TextCuts.__new__(TextCuts)
    cuts.__dict__["places"] = text_cuts.re.compile(r"(?<=[a-z中])[ ,]")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_cuts, "PIECE", piece)
        patch.setattr(text_cuts, "_GROUP", group)
        groups = list(cuts.groups(["x", text, ""]))
    pieces = [each for group in groups for each in group]
    for row, expected in enumerate(["x", text, ""]):
        own = [each for each in pieces if each.row == row]
        assert "".join(each.text for each in own) == expected
        assert all(each.start == expected.index(each.text, each.start) for each in own)
        assert [each.start for each in own] == sorted(each.start for each in own)
    assert all(len(each) == 1 or sum(len(one.text) for one in each) <= group for each in groups)


MEASURE = """
import os, sys
os.environ["TOKENIZERS_PARALLELISM"] = "false"
from sftprep.characters.offsets import ExactEncoder
from sftprep.tokens.engines import HfEngine
from sftprep.tokens.ask_transformers import resolve_here

def peak():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith("VmHWM"))

resolved = resolve_here(sys.argv[1])
engine = HfEngine(resolved)
encoder = ExactEncoder(resolved, ["<|im_start|>"], engine)
text = "The quick brown fox, it's 12345 times; 3.14!\\n" * (int(sys.argv[2]) // 45)
engine.encode(["warm"])
before = peak()
if sys.argv[3] == "ids":
    engine.encode([text])
elif sys.argv[3] == "places":
    encoder.encode_with_starts([text])
else:
    encoder.encode_plain_text([text + "<|im_start|>" + text[:9]], [[]])
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="the peak of a process's memory is read from /proc")
@pytest.mark.parametrize("way", ["ids", "places", "forged"] if FULL else ["places"])
def test_a_long_text_takes_little_memory(tmp_path: Path, way: str) -> None:
    folder = save(train(), tmp_path / "tokenizer")
    size = 3 << 20
    command = [sys.executable, "-c", MEASURE, str(folder), str(size), way]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert int(done.stdout) < 100 * size  # in one piece it takes 150 to 600 bytes a character
