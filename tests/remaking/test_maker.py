"""Rows made without a build are those of a build; the record behind a row is found again."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_builds import CONVERSATIONS, GOOD, TOKENIZER, build, rejects, write

from sftprep.config import BuildConfig
from sftprep.containers.files import find_sources
from sftprep.dataset.manifest import load_manifest
from sftprep.dataset.receipt import Reject
from sftprep.errors import DatasetError, InputError, SftprepError
from sftprep.remaking.maker import Maker, maker_of, record_of
from sftprep.views.choosing import Choice, choose
from sftprep.views.conversations import OpenSet, RowConversation

UNTRAINED = {"messages": [{"role": "user", "content": "Nothing is to be learned here."}]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two inputs, one of them packed and with lines that give no row, and a dataset of them."""
    folder = tmp_path_factory.mktemp("maker")
    (folder / "in").mkdir()
    (folder / "in" / "chat.jsonl").write_bytes(CONVERSATIONS.read_bytes())
    odd = write(folder / "odd.jsonl", GOOD, b"no JSON", UNTRAINED, GOOD)
    (folder / "in" / "odd.jsonl.gz").write_bytes(gzip.compress(Path(odd).read_bytes()))
    build(folder / "out", str(folder / "in"), max_length=100, contexts="served")
    return folder


def rows_of(folder: Path) -> list[RowConversation]:
    return list(choose(OpenSet(folder / "out"), Choice(rows=((0, -1),))))


def test_rows_and_rejects_are_those_of_the_build(folder: Path) -> None:
    inputs = (str(folder / "in"),)
    config = BuildConfig(inputs, TOKENIZER, max_length=100, contexts="served")
    maker = Maker.open(config, find_sources(inputs).sources)
    made = list(maker.rows(maker.records()))

    built = rows_of(folder)
    rows = [each for each in made if isinstance(each, RowConversation)]
    assert len(rows) == len(built) > 70
    for one, other in zip(rows, built, strict=True):
        assert (one.row, one.source, one.line, one.byte_offset, one.truncated, one.example) == (
            (other.row, other.source, other.line, other.byte_offset, other.truncated, other.example)
        )
        assert one.tokens_in_all == other.tokens_in_all
        assert one.width == other.width
        np.testing.assert_array_equal(one.ids, other.ids)
        np.testing.assert_array_equal(one.trained, other.trained)
    refused = [(each.place[1], each.kind, each.reason) for each in made if isinstance(each, Reject)]
    assert refused == [(each["line"], each["kind"], each["reason"]) for each in rejects(folder / "out")]


def test_the_record_behind_a_row_is_found_again(folder: Path) -> None:
    manifest = load_manifest(folder / "out")
    maker = maker_of(manifest, folder / "out", TOKENIZER, [str(folder / "in")])
    lines = {
        "chat.jsonl": CONVERSATIONS.read_bytes().split(b"\n"),
        "odd.jsonl.gz": (folder / "odd.jsonl").read_bytes().split(b"\n"),
    }
    for each in rows_of(folder)[::9]:
        assert record_of(maker, each).data == lines[each.source][each.line - 1]


def test_inputs_lie_where_they_lay_or_where_they_are_said_to_lie(folder: Path, tmp_path: Path) -> None:
    manifest = load_manifest(folder / "out")
    [row] = choose(OpenSet(folder / "out"), Choice(source="odd.jsonl.gz:4"))
    remembered = maker_of(manifest, folder / "out", TOKENIZER, [])
    assert record_of(remembered, row).line == 4
    moved = tmp_path / "moved.jsonl"
    moved.write_bytes((folder / "odd.jsonl").read_bytes())
    assert record_of(maker_of(manifest, folder / "out", TOKENIZER, [str(moved)]), row).line == 4
    moved.write_bytes(moved.read_bytes().replace(b"Hello?", b"Hello there?"))
    with pytest.raises(InputError, match=r"moved\.jsonl: no record begins at byte"):
        record_of(maker_of(manifest, folder / "out", TOKENIZER, [str(moved)]), row)
    others = [write(tmp_path / name, GOOD) for name in ("a.jsonl", "b.jsonl")]
    with pytest.raises(InputError, match=r"odd\.jsonl\.gz is not among the inputs"):
        record_of(maker_of(manifest, folder / "out", TOKENIZER, others), row)


@pytest.mark.parametrize(
    ("config", "error"), [({"max_length": 100, "no_such": 1}, DatasetError), ({"max_length": 1}, DatasetError)]
)
def test_a_manifest_of_other_options_is_refused(
    folder: Path, config: dict[str, Any], error: type[SftprepError]
) -> None:
    from dataclasses import replace

    manifest = replace(load_manifest(folder / "out"), config=config)
    with pytest.raises(error, match="config"):
        maker_of(manifest, folder / "out", TOKENIZER, [str(folder / "in")])


def test_nothing_is_known_of_inputs_elsewhere(folder: Path, cache: Path) -> None:
    with pytest.raises(InputError, match="not known on this machine"):
        maker_of(load_manifest(folder / "out"), folder / "out", TOKENIZER, [])
