"""Rows before any build: which are shown, how much is read, and what gives none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from small_builds import CONVERSATIONS, GOOD, TOKENIZER, build, write

from sftprep.config import BuildConfig
from sftprep.containers.files import find_sources
from sftprep.containers.record import Record
from sftprep.errors import ConfigError
from sftprep.remaking.preview import Preview
from sftprep.views.choosing import Choice, choose
from sftprep.views.conversations import OpenSet
from sftprep.views.spelling import Spelling

UNTRAINED = {"messages": [{"role": "user", "content": "Nothing is to be learned here."}]}


def preview(*inputs: Path | str, **options: object) -> Preview:
    given = tuple(map(str, inputs))
    return Preview(BuildConfig(given, TOKENIZER, **options), find_sources(given).sources)  # type: ignore[arg-type]


def rows(of: Preview, **asked: object) -> list[tuple[int, int]]:
    """(row, line) of those chosen."""
    decode = Spelling(of.maker.toolbox.resolved)
    return [(each.row, each.line) for each in of.rows(Choice(**asked), decode)]  # type: ignore[arg-type]


@pytest.fixture
def odd(tmp_path: Path) -> str:
    return write(tmp_path / "odd.jsonl", GOOD, b"no JSON", GOOD, UNTRAINED, GOOD)


def test_rows_count_as_the_build_counts_them(odd: str) -> None:
    of = preview(odd)
    assert rows(of) == [(0, 1), (1, 3), (2, 5)]
    assert [of.where(each) for each in of.rejects] == ["odd.jsonl:2", "odd.jsonl:4"]
    assert rows(preview(odd), rows=((2, 2),)) == [(2, 5)]
    assert rows(preview(odd), rows=((0, 1),)) == rows(preview(odd), limit=2) == [(0, 1), (1, 3)]
    with pytest.raises(ConfigError, match=r"row 3: the inputs give rows 0 to 2"):
        rows(preview(odd), rows=((3, 3),))


def test_a_row_is_the_one_that_a_build_writes(tmp_path: Path) -> None:
    build(tmp_path / "out", str(CONVERSATIONS), max_length=60)
    of = preview(CONVERSATIONS, max_length=60)
    [made] = of.rows(Choice(rows=((40, 40),)), Spelling(of.maker.toolbox.resolved))
    [built] = choose(OpenSet(tmp_path / "out"), Choice(rows=((40, 40),)))
    assert (made.ids.tolist(), made.trained.tolist(), made.line) == (
        built.ids.tolist(),
        built.trained.tolist(),
        built.line,
    )


def test_a_line_gives_its_row_or_the_reason_why_not(odd: str) -> None:
    assert rows(preview(odd), source="odd.jsonl:5") == [(-1, 5)], "how many rows are before it is not looked at"
    of = preview(odd)
    assert rows(of, source="odd.jsonl:4") == []
    assert [(each.kind, of.where(each)) for each in of.rejects] == [("dropped", "odd.jsonl:4")]
    assert rows(preview(odd), source="odd.jsonl") == [(-1, 1), (-1, 3), (-1, 5)]
    for asked, word in (("odd.jsonl:9", "no record begins there"), ("x.jsonl:1", "inputs are odd.jsonl")):
        with pytest.raises(ConfigError, match=word):
            rows(preview(odd), source=asked)


def test_only_so_much_is_read_as_is_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "long.jsonl"
    write(path, *[GOOD] * 3000)
    of, read = preview(path), []
    whole = of.maker.records

    def counted(numbers: object = None) -> Iterator[Record]:
        for record in whole():
            read.append(record.line)
            yield record

    monkeypatch.setattr(of.maker, "records", counted)
    assert rows(of, rows=((17, 17),)) == [(17, 18)]
    assert max(read) < 100


def test_text_and_length_are_looked_for() -> None:
    found = rows(preview(CONVERSATIONS), grep="mask", limit=2)
    assert found[0] == (0, 1)
    assert len(found) == 2
    assert len(rows(preview(CONVERSATIONS, max_length=50), truncated=True)) == 10


@pytest.mark.parametrize(
    "asked", [{"longest": 1}, {"random": 1}, {"rows": ((-1, -1),)}, {"rows": ((0, 0),), "source": "odd.jsonl"}]
)
def test_what_takes_a_whole_dataset_is_refused(odd: str, asked: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="needs a dataset"):
        rows(preview(odd), **asked)


def test_reasons_are_there_before_a_build(odd: str) -> None:
    of = preview(odd)
    [made] = of.rows(Choice(source="odd.jsonl:3"), Spelling(of.maker.toolbox.resolved))
    assert {of.reasons(made).of(at).rule for at in range(made.stop)} == {
        "untrained",
        "header",
        "content",
        "end",
        "after",
    }
