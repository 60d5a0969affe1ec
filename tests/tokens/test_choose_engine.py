"""Which engine is chosen, why, and what is remembered of it."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from small_tokenizer import cut_shower, resolve, save, train
from tokenizers import AddedToken, Tokenizer, models, normalizers

from sftprep.cache import write_entry
from sftprep.errors import TokenizerError
from sftprep.tokens import choose_engine as choose_engine_room
from sftprep.tokens.ask_transformers import resolve_here
from sftprep.tokens.batch import TokenBatch, split_rows
from sftprep.tokens.choose_engine import SAMPLE, check_equal, choose_engine, unsafe_trait
from sftprep.tokens.engines import FastEngine, HfEngine
from sftprep.tokens.hostile_texts import hostile_texts
from sftprep.tokens.resolve import ResolvedTokenizer

pytestmark = pytest.mark.usefixtures("cache")

LLAMA = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
GPT4O = (
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?|"
    r"\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


class Wrong:
    """An engine that is wrong about texts with a `q`, or with something else."""

    name = "wrong"

    def __init__(self, reference: HfEngine, wrong: str = "q", right: str = "k") -> None:
        self._reference, self._wrong, self._right = reference, wrong, right

    def encode(self, texts: Sequence[str]) -> TokenBatch:
        return self._reference.encode([text.replace(self._wrong, self._right) for text in texts])


def test_a_difference_names_the_first_text(resolved: ResolvedTokenizer) -> None:
    reference = HfEngine(resolved)
    texts = ["fox", "the", ""]
    check_equal(Wrong(reference), texts, reference.encode(texts))
    texts = ["fox", "the", "quick", "quack"]
    with pytest.raises(TokenizerError, match="engines wrong and hf give different ids for text 2"):
        check_equal(Wrong(reference), texts, reference.encode(texts))


def test_auto_takes_fast_where_it_is_equal(resolved: ResolvedTokenizer) -> None:
    engine, reason = choose_engine(resolved, "auto", ["a conversation"] * 3)
    assert engine.name == "fast"
    assert "3 conversations" in reason
    assert choose_engine(resolved, "hf")[0].name == "hf"


@pytest.mark.parametrize("pattern", [LLAMA, GPT4O, r"\p{N}| ?\p{L}+|[^\p{L}\p{N}]+"])
def test_known_patterns_are_fast(pattern: str, tmp_path: Path) -> None:
    assert choose_engine(resolve(train(pattern), tmp_path))[0].name == "fast"


UNSAFE = [
    (r"\p{Han}+|\P{Han}", r"\p{Han}"),
    (r"[\p{L}&&[^\p{Han}]]+", r"\p{Han}"),
    (r"\p{Greek}+|.", r"\p{Greek}"),
    (r"[\p{Hiragana}\p{L}]+", r"\p{Hiragana}"),
    (r"\p{Alphabetic}+", r"\p{Alphabetic}"),
    (r"\P{^Latin}+", r"\P{^Latin}"),
    (r"\w+|\W", r"\w"),
    (r"\bx", r"\b"),
    (r"\h+", r"\h"),
    (r"[[:alpha:]]+", "[["),
    (r"[a-z&&[aeiou]]", "[a-z&&["),
    (r"\p{N}{1,3}+", "}+"),
    (r"a.c", "."),
    (r"^x", "^"),
    (r"x$", "$"),
    (r"(?i:ss|x)", "(?"),
    (r"(?m:x.)", "(?"),
    (r"(?<=a)b", "(?"),
]


@pytest.mark.parametrize(("pattern", "named"), UNSAFE)
def test_patterns_that_may_be_read_otherwise_are_not_fast(pattern: str, named: str, tmp_path: Path) -> None:
    resolved = resolve(train(pattern), tmp_path)
    assert f"its pattern has {named}" in (unsafe_trait(resolved) or "")
    engine, reason = choose_engine(resolved)
    assert engine.name == "hf"
    assert named in reason
    with pytest.raises(TokenizerError, match=re.escape(f"engine fast cannot be used: its pattern has {named}")):
        choose_engine(resolved, "fast")


@pytest.mark.parametrize(
    ("pattern", "text"), [(r"\p{Han}", "\u3001x"), (r"\w+", "\u0903x"), (LLAMA, "'\u017fx"), (r"\s+", "\u180ex")]
)
def test_fastokens_alone_differs_in_silence(pattern: str, text: str, tmp_path: Path) -> None:
    """Why there are traits, and texts that go to the reference. When this fails, some of it can go."""
    resolved = resolve_here(str(save(cut_shower(pattern), tmp_path / "t")))
    fast = FastEngine(resolved)
    raw, _ = fast.tokenizer.encode_batch_flat([text])
    expected = HfEngine(resolved).encode([text]).ids.tolist()
    assert np.frombuffer(raw, np.uint32).tolist() != expected
    assert unsafe_trait(resolved) or fast.encode([text]).ids.tolist() == expected


def test_long_texts_whose_matches_hang_together_go_to_the_reference(tmp_path: Path) -> None:
    """Where a quotation ends depends on all quotes before it, so that no text may be begun in the middle."""
    resolved = resolve_here(str(save(cut_shower(r'"[^"]*"|[^"]+|"'), tmp_path / "t")))
    assert unsafe_trait(resolved) is None
    fast, reference = FastEngine(resolved), HfEngine(resolved)
    quotations = ['"' + "ax" * run + 'x"' + "xa" * run + "x" for run in (350, 353, 1500, 2777)]
    texts = [(each * 100)[:size] for each in quotations for size in (1000, 66_000, 100_000)]
    expected = [ids.tolist() for ids in split_rows(reference.encode(texts))]
    assert [ids.tolist() for ids in split_rows(fast.encode(texts))] == expected
    alone = [np.frombuffer(fast.tokenizer.encode_batch_flat([text])[0], np.uint32).tolist() for text in texts]
    assert alone != expected  # else there is nothing to go to the reference for


def test_a_comparison_that_comes_to_no_end_is_ended(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cache: Path
) -> None:
    def never(*_: object) -> None:
        while True:
            pass

    monkeypatch.setattr(choose_engine_room, "check_equal", never)
    monkeypatch.setattr(choose_engine_room, "_SECONDS", 1.5)  # the reference takes a fifth of that
    resolved = resolve_here(str(save(train(), tmp_path / "t")))
    engine, why = choose_engine(resolved, "auto", ["Hello"])
    assert (engine.name, "ran out of time" in why) == ("hf", True)
    with pytest.raises(TokenizerError, match="ran out of time; use auto or hf"):
        choose_engine(resolved, "fast", ["Hello"])


def flagged(content: str, *, normalized: bool) -> AddedToken:
    return AddedToken(content, special=True, normalized=normalized)


@pytest.mark.parametrize(
    ("first", "second"),
    [("<a>", "<a><b>"), ("<a><b>", "<a>"), ("<ab", "b>"), ("b>", "<ab"), ("x<a>y", "<a>"), ("<A>", "<a>")],
)
def test_overlapping_tokens_of_two_kinds_are_not_fast(first: str, second: str, tmp_path: Path) -> None:
    added = [flagged(first, normalized=True), flagged(second, normalized=False)]
    resolved = resolve(train(added=added, normalizer=normalizers.NFC()), tmp_path)
    engine, reason = choose_engine(resolved)
    assert engine.name == "hf"
    assert "overlapping added tokens" in reason


@pytest.mark.parametrize(
    "added",
    [
        [flagged("<a>", normalized=False), flagged("<a><b>", normalized=False)],
        [flagged("<a>", normalized=True), flagged("<a><b>", normalized=True)],
        [flagged("<a>", normalized=True), flagged("<b>", normalized=False)],
        [
            AddedToken("<a>", lstrip=True, rstrip=True, normalized=False),
            AddedToken("tok", single_word=True, normalized=False),
        ],
    ],
)
def test_other_added_tokens_are_fast(added: list[AddedToken], tmp_path: Path) -> None:
    assert choose_engine(resolve(train(added=added), tmp_path), "fast")[0].name == "fast"


def test_what_fastokens_refuses_is_hf(tmp_path: Path) -> None:
    resolved = resolve(train(normalizer=normalizers.NFKC()), tmp_path)
    engine, reason = choose_engine(resolved)
    assert engine.name == "hf"
    assert "fastokens cannot load it" in reason
    with pytest.raises(TokenizerError, match="engine fast cannot be used"):
        choose_engine(resolved, "fast")


def test_a_difference_in_the_conversations_is_hf(resolved: ResolvedTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(FastEngine, "encode", lambda self, texts: Wrong(HfEngine(resolved)).encode(texts))
    monkeypatch.setattr("sftprep.tokens.choose_engine.hostile_texts", lambda _: ["fox"])
    resolved = replace(resolved, hostile_ids=HfEngine(resolved).encode(["fox"]).sha256())
    assert choose_engine(resolved, "auto", ["fox"])[0].name == "fast"
    engine, reason = choose_engine(resolved, "auto", ["fox", "quick"])
    assert engine.name == "hf"
    assert "different ids for text 1" in reason


@pytest.mark.parametrize(
    ("wrong", "right"),
    [("\u07fd", ""), ("a\u1acf\u0334", "a\u0334"), ("1\U0001e134", "1"), (" \u08cf", " "), ("\U0001e6f5" * 2, "")],
)
def test_an_engine_that_is_wrong_about_one_new_mark_is_not_fast(
    wrong: str, right: str, cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = resolve(train(LLAMA, normalizer=normalizers.NFC()), tmp_path)
    assert choose_engine(resolved)[0].name == "fast"
    known = hostile_texts([token.content for token in resolved.added_tokens])
    assert sum(wrong in text for text in known) == 1  # nothing but the text of this mark brings it out
    monkeypatch.setattr(FastEngine, "encode", lambda self, texts: Wrong(self.reference, wrong, right).encode(texts))
    for entry in cache.glob("engines-*"):
        entry.unlink()
    engine, reason = choose_engine(resolved)
    assert (engine.name, "different ids" in reason) == ("hf", True)


@pytest.mark.parametrize("wanted", ["auto", "fast", "hf"])
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"hostile_ids": "0" * 64}, "what Transformers wrote of it gives other ids when it is read back"),
        ({"sha256": "0" * 64}, "its merges mean something else when they are read back"),
    ],
)
def test_a_reference_that_is_not_what_transformers_has_is_refused(
    wanted: str, change: dict[str, str], why: str, resolved: ResolvedTokenizer, cache: Path
) -> None:
    with pytest.raises(TokenizerError, match=why):
        choose_engine(replace(resolved, **change), wanted, ["a conversation"])
    assert not list(cache.glob("engines-*"))


def test_a_tokenizer_as_transformers_wrote_it_needs_not_be_written_again(tmp_path: Path) -> None:
    whole = resolve_here(str(save(Tokenizer(models.BPE({"a": 0, " ": 1, "a ": 2}, [("a", " ")])), tmp_path / "t")))
    assert hashlib.sha256(whole.backend.encode()).hexdigest() == whole.sha256
    assert choose_engine(whole, "hf")[0].encode(["a a"]).ids.tolist() == [2, 0]


def test_the_reference_is_read_back_once(resolved: ResolvedTokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    choose_engine(resolved, "hf")
    monkeypatch.setattr(HfEngine, "encode", lambda *_: pytest.fail("compared again"))
    choose_engine(resolved, "hf")


def test_without_fastokens_hf_does_the_job(tmp_path: Path) -> None:
    folder = save(train(), tmp_path / "t")
    code = (
        "import sys; sys.modules['fastokens'] = None\n"
        "from sftprep.tokens.choose_engine import choose_engine\n"
        "from sftprep.tokens.resolve import resolve_tokenizer\n"
        "resolved = resolve_tokenizer(sys.argv[1])\n"
        "engine, reason = choose_engine(resolved)\n"
        "print(engine.name, reason, engine.encode(['hello']).ids.size > 0)\n"
        "try: choose_engine(resolved, 'fast')\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    first, second = done.stdout.splitlines()
    assert first.startswith("hf fast cannot be used: the fastokens package cannot be imported")
    assert first.endswith("True")
    assert second.startswith("TokenizerError engine fast cannot be used: the fastokens package cannot be imported")


# -- what is remembered of it --


def never() -> Iterator[str]:
    pytest.fail("asked for conversations again")
    yield ""


def test_a_thousand_conversations_are_compared_once(
    resolved: ResolvedTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = []
    sample = (taken.append(number) or f"conversation {number}" for number in range(2 * SAMPLE))  # type: ignore[func-returns-value]
    choose_engine(resolved, "auto", sample)
    assert len(taken) == SAMPLE
    monkeypatch.setattr(HfEngine, "encode", lambda *_: pytest.fail("compared again"))
    assert choose_engine(resolved, "auto", never())[1].endswith("1,000 conversations")


def test_fewer_are_compared_again_unless_they_are_the_same(
    resolved: ResolvedTokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_engine(resolved, "auto", ["one", "two"])
    compared: list[Sequence[str]] = []
    monkeypatch.setattr(choose_engine_room, "run_apart", lambda step, **_: step())  # here, so that it is seen
    real = HfEngine.encode
    monkeypatch.setattr(HfEngine, "encode", lambda self, texts: compared.append(texts) or real(self, texts))  # type: ignore[func-returns-value]
    choose_engine(resolved, "auto", ["one", "two"])
    assert compared == []
    choose_engine(resolved, "auto", ["one", "three"])
    assert compared == [["one", "three"]]


@pytest.mark.parametrize(
    "contents",
    [
        b"",
        b"[]",
        b'{"count": 1000}',
        b'{"count": "1000", "sample": ""}',
        b'{"count": true, "sample": ""}',
        b'{"count": 1e3, "sample": ""}',
        b'{"count": 0, "sample": 7}',
    ],
)
def test_memory_that_says_something_else_is_compared_again(
    contents: bytes, resolved: ResolvedTokenizer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_engine(resolved, "auto", ["one"])
    (entry,) = cache.glob("engines-*")
    whole = entry.read_bytes()
    write_entry("engines", entry.name.removeprefix("engines-"), contents)
    compared: list[Sequence[str]] = []
    monkeypatch.setattr(choose_engine_room, "run_apart", lambda step, **_: step())  # here, so that it is seen
    real = HfEngine.encode
    monkeypatch.setattr(HfEngine, "encode", lambda self, texts: compared.append(texts) or real(self, texts))  # type: ignore[func-returns-value]
    assert choose_engine(resolved, "auto", ["one"])[0].name == "fast"
    assert compared[0][0] == "one"
    assert entry.read_bytes() == whole


def test_damaged_memory_is_compared_again(
    resolved: ResolvedTokenizer, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choose_engine(resolved, "auto", ["one"])
    (entry,) = cache.glob("engines-*")
    entry.write_bytes(entry.read_bytes()[:-1] + b"]")
    compared: list[Sequence[str]] = []
    monkeypatch.setattr(choose_engine_room, "run_apart", lambda step, **_: step())  # here, so that it is seen
    real = HfEngine.encode
    monkeypatch.setattr(HfEngine, "encode", lambda self, texts: compared.append(texts) or real(self, texts))  # type: ignore[func-returns-value]
    choose_engine(resolved, "auto", ["one"])
    assert len(compared) == 2  # the conversation with hostile texts; of these, long s and the like for `fast`
    assert compared[0][0] == "one"
