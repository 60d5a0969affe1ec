"""The same conversations in every layout: what is built, and what looks at it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from conftest import FULL
from small_builds import CONVERSATIONS, GOOD, TOKENIZER, build, rejects, sftprep, write

from sftprep.compare.datasets import compare_datasets
from sftprep.config import BuildConfig
from sftprep.dataset.manifest import load_manifest
from sftprep.dataset.verify import verify_dataset
from sftprep.errors import ConversationError
from sftprep.exports.export import export_dataset
from sftprep.jobs.rederive import verify_source
from sftprep.previews.dry_run import count_dataset
from sftprep.statistics.gather import statistics_of
from sftprep.views.conversations import OpenSet, load_rows

LAYOUTS = ("padded", "packed", "ragged")
LIMIT = 128  # tokens: 15 of the 74 conversations have more


@pytest.fixture(scope="module", params=["truncate", "turns", "split", "drop"] if FULL else ["turns", "split"])
def folders(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    at = tmp_path_factory.mktemp(request.param)
    for layout in LAYOUTS:
        options = {"layout": layout, "overflow": request.param, "max_length": LIMIT, "validation": "20%"}
        build(at / layout, str(CONVERSATIONS), **options)
        if layout == "packed":  # of which the rows are known last
            manifest, _ = count_dataset(BuildConfig((str(CONVERSATIONS),), TOKENIZER, **options))
            assert manifest.totals == load_manifest(at / layout).totals
            assert manifest.sets == load_manifest(at / layout).sets
    return {layout: at / layout for layout in LAYOUTS}


def test_all_layouts_hold_the_same(folders: dict[str, Path], tmp_path: Path) -> None:
    totals = {layout: dict(load_manifest(folder).totals) for layout, folder in folders.items()}
    rows = {layout: each.pop("rows") for layout, each in totals.items()}
    assert totals["packed"] == totals["ragged"] == totals["padded"]
    assert rows["packed"] < rows["padded"] == rows["ragged"]
    for layout, folder in folders.items():
        assert verify_dataset(folder) == []
        assert verify_source(folder, [str(CONVERSATIONS)], TOKENIZER) == []
        assert not compare_datasets(folders["padded"], folder).differs
        assert export_dataset(folder, "hf", tmp_path / layout).tokens == totals[layout]["tokens"]
        found = statistics_of(folder)
        assert (found.whole.tokens, found.padding.rows) == (totals[layout]["tokens"], rows[layout])
        shown = [
            each for of in ("train", "validation") for each in load_rows(folder, range(OpenSet(folder, of).rows), of)
        ]
        assert len(shown) == totals[layout]["examples"]
        assert sum(len(each.ids) for each in shown) == totals[layout]["tokens"]
        assert sum(int(each.trained.sum()) for each in shown) == totals[layout]["trained_tokens"]


def test_every_row_ends_on_a_whole_turn(folders: dict[str, Path]) -> None:
    """Of what is cut at turns: the last target that there is ends a turn."""
    folder = folders["ragged"]
    if load_manifest(folder).config["overflow"] not in ("turns", "split"):
        return
    ends = {each.ids[np.flatnonzero(each.trained)[-1]] for each in load_rows(folder, range(OpenSet(folder).rows))}
    assert len(ends) == 1  # the end-of-turn token


@pytest.mark.parametrize("layout", LAYOUTS if FULL else ["packed", "ragged"])
def test_the_same_bytes_from_any_number_of_workers(tmp_path: Path, layout: str) -> None:
    line = CONVERSATIONS.read_text(encoding="utf-8")
    source = tmp_path / "a.jsonl"
    source.write_text(line * 120, encoding="utf-8")  # more than one split
    for workers in (1, 3):
        build(tmp_path / str(workers), str(source), layout=layout, max_length=256, workers=workers)
    first, third = (load_manifest(tmp_path / each) for each in "13")
    assert first.files == third.files
    assert len(first.shards) > 1
    assert first.width == (0 if layout == "ragged" else 255)


def test_ragged_has_no_limit_unless_one_is_given(tmp_path: Path) -> None:
    long = {"messages": [GOOD["messages"][0], {"role": "assistant", "content": "Hello! " * 2000}]}
    source = write(tmp_path / "a.jsonl", long, GOOD)
    manifest = build(tmp_path / "out", source, layout="ragged")
    assert (manifest.totals["truncated"], manifest.config["max_length"]) == (0, None)
    assert manifest.totals["tokens"] > 2000
    x = np.load(tmp_path / "out" / "shard-00000.X.npy")
    assert x.shape == (manifest.totals["tokens"],)
    assert not list((tmp_path / "out").glob("*.Y.npy"))
    done = sftprep("inspect", str(tmp_path / "out"), "1", "--json", "-t", TOKENIZER)
    shown = json.loads(done.stdout)
    assert (shown["row"], shown["line"]) == (1, 2)


def test_what_is_too_long_may_end_the_job_or_is_listed(tmp_path: Path) -> None:
    long = {"messages": [GOOD["messages"][0], {"role": "assistant", "content": "Hello! " * 200}]}
    source = write(tmp_path / "a.jsonl", GOOD, long)
    with pytest.raises(ConversationError, match=r"a\.jsonl:2: [\d,]+ tokens, and --max-length is 64"):
        build(tmp_path / "error", source, overflow="error", max_length=64)
    for overflow, reason in (("drop", "longer than 64 tokens"), ("turns", "kept whole"), ("split", "no answer of 64")):
        build(tmp_path / overflow, source, overflow=overflow, max_length=64)
        (reject,) = rejects(tmp_path / overflow)
        assert (reject["kind"], reject["line"], reason in reject["reason"]) == ("dropped", 2, True)
