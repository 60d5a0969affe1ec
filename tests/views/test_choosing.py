"""Which conversations are chosen: told by a plain loop over all of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_builds import CONVERSATIONS, GOOD, TOKENIZER, build, write

from sftprep.errors import ConfigError
from sftprep.tokens.resolve import resolve_tokenizer
from sftprep.views.choosing import Choice, choose, place_named, rows_named, why_none
from sftprep.views.conversations import OpenSet, RowConversation
from sftprep.views.spelling import Spelling


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory) -> OpenSet:
    """The sample, in which some is cut, beside a file with a bad line and a conversation that trains nothing."""
    folder = tmp_path_factory.mktemp("choosing")
    untrained = {"messages": [{"role": "user", "content": "Nothing is to be learned here."}]}
    (folder / "in").mkdir()
    (folder / "in" / "chat.jsonl").write_bytes(CONVERSATIONS.read_bytes())
    write(folder / "in" / "odd.jsonl", GOOD, b"no JSON", untrained, GOOD)
    build(folder / "out", str(folder / "in"), max_length=100, keep_untrained=True)
    return OpenSet(folder / "out")


@pytest.fixture(scope="module")
def spelling() -> Spelling:
    return Spelling(resolve_tokenizer(TOKENIZER))


def every(opened: OpenSet) -> list[RowConversation]:
    return list(choose(opened, Choice(rows=((0, -1),))))


def rows(opened: OpenSet, spelling: Spelling | None = None, **asked: object) -> list[int]:
    return [each.row for each in choose(opened, Choice(**asked), spelling)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "stretch"),
    [("3", (3, 3)), ("0-9", (0, 9)), ("-1", (-1, -1)), ("-5--1", (-5, -1)), ("2--1", (2, -1)), ("x", None), ("1-", None), ("--1", None), ("", None), ("9" * 30, None)],
)  # fmt: skip
def test_rows_are_named_by_number_stretch_or_from_the_end(text: str, stretch: tuple[int, int] | None) -> None:
    assert rows_named(text) == stretch


def test_places_are_a_file_and_a_line() -> None:
    assert place_named("a/b.jsonl:17") == ("a/b.jsonl", 17)
    assert place_named("a:b.jsonl") == ("a:b.jsonl", None)


def test_rows_come_in_the_order_in_which_they_are_named(opened: OpenSet) -> None:
    last = opened.rows - 1
    assert rows(opened) == [0, 1, 2]
    assert rows(opened, limit=5) == [0, 1, 2, 3, 4]
    assert rows(opened, rows=((7, 7), (2, 4), (-1, -1), (-2, -2))) == [7, 2, 3, 4, last, last - 1]
    assert rows(opened, rows=((0, -1),)) == list(range(opened.rows))


@pytest.mark.parametrize("stretch", [(10**6, 10**6), (-(10**6), 3), (3, 10**6), (5, 2)])
def test_rows_that_are_not_there_are_named(opened: OpenSet, stretch: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=r"rows? "):
        rows(opened, rows=(stretch,))


def test_provenance_chooses(opened: OpenSet) -> None:
    all_rows = every(opened)
    truncated = [each.row for each in all_rows if each.truncated]
    assert len(truncated) > 10
    assert rows(opened, truncated=True) == truncated[:10]
    assert rows(opened, truncated=True, limit=1000) == truncated
    assert rows(opened, truncated=True, rows=((0, 30),)) == [row for row in truncated if row <= 30]
    assert rows(opened, untrained=True) == [each.row for each in all_rows if not each.trained.any()] != []


def test_a_line_gives_its_rows_and_a_row_its_line(opened: OpenSet) -> None:
    for each in every(opened)[::7]:
        assert each.row in rows(opened, source=f"{each.source}:{each.line}")
    assert [each.line for each in choose(opened, Choice(source="odd.jsonl"))] == [1, 3, 4]
    assert rows(opened, source="in/odd.jsonl:1") == rows(opened, source="odd.jsonl:1")


def test_why_there_is_none(opened: OpenSet) -> None:
    with pytest.raises(ConfigError, match=r"--source other\.jsonl: inputs are chat\.jsonl, odd\.jsonl"):
        rows(opened, source="other.jsonl")
    assert why_none(opened, Choice(source="odd.jsonl:2")).startswith("odd.jsonl:2 gives no row: rejected: ")
    assert why_none(opened, Choice(source="odd.jsonl:9")) == "no conversation is like that"
    assert "--keep-untrained" in why_none(opened, Choice(untrained=True))


def test_text_is_looked_for_in_all_conversations(opened: OpenSet, spelling: Spelling) -> None:
    for text in ("mask", "🙂", "<|im_end|>\n<|im_start|>user", "no such text"):
        found = [each.row for each in every(opened) if text in spelling(each.ids.tolist())]
        assert rows(opened, spelling, grep=text, limit=1000) == found
        assert rows(opened, spelling, grep=text, truncated=True, limit=1000) == [
            row for row in found if row in rows(opened, truncated=True, limit=1000)
        ]
    with pytest.raises(ConfigError, match="-t"):
        rows(opened, grep="mask")


def test_the_longest_come_longest_first(opened: OpenSet, spelling: Spelling) -> None:
    ordered = sorted(every(opened), key=lambda each: (-length(opened, each), each.row))
    assert rows(opened, longest=4) == [each.row for each in ordered[:4]]
    assert rows(opened, longest=1000) == [each.row for each in ordered]
    found = rows(opened, spelling, grep="mask", limit=1000)
    assert rows(opened, spelling, longest=2, grep="mask") == [each.row for each in ordered if each.row in found][:2]


def length(opened: OpenSet, shown: RowConversation) -> int:
    shard = opened.shard(opened.shard_of(shown.row))
    return int(shard.origins["tokens_in_all"][shown.row - shard.first_row])


@given(count=st.integers(1, 90), seed=st.integers(0, 2**40))
def test_draws_depend_on_the_seed_alone(opened: OpenSet, count: int, seed: int) -> None:
    drawn = rows(opened, random=count, seed=seed)
    assert drawn == rows(opened, random=count, seed=seed) == sorted(set(drawn))
    assert len(drawn) == min(count, opened.rows)
    assert set(rows(opened, random=max(1, count // 2), seed=seed)) <= set(drawn), "more are the same and others"


def test_draws_are_fair_and_may_be_of_some_only(opened: OpenSet) -> None:
    counts = np.bincount(
        [row for seed in range(300) for row in rows(opened, random=5, seed=seed)], minlength=opened.rows
    )
    assert counts.min() > 3
    assert counts.max() < 60
    truncated = rows(opened, truncated=True, limit=1000)
    assert set(rows(opened, random=3, truncated=True, seed=1)) < set(truncated)
    assert set(rows(opened, random=3, rows=((4, 9),))) < set(range(4, 10))


def test_an_empty_dataset_has_nothing_to_choose(tmp_path: Path) -> None:
    from small_dataset import write_dataset

    write_dataset(tmp_path, [], max_length=5)
    empty = OpenSet(tmp_path)
    assert rows(empty) == rows(empty, longest=3) == rows(empty, random=3) == rows(empty, truncated=True) == []
    assert why_none(empty, Choice()).endswith("holds no rows")
