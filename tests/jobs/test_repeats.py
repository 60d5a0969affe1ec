"""Repeats are found before the work, once, and what is found is all that the work looks at."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_builds import GOOD, TOKENIZER, build, rejects, write

from sftprep.config import BuildConfig
from sftprep.errors import DatasetError
from sftprep.jobs.commit import commit_dataset
from sftprep.jobs.folder import adopt_plan, hold
from sftprep.jobs.plan import Plan, make_plan
from sftprep.jobs.repeats import find_repeats, repeats_in
from sftprep.jobs.work import work_on

FILLING = {"filling": "x" * 600_000}  # two records make a split


def says(text: str, **more: Any) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}, {"role": "assistant", "content": "Yes."}], **more}


@pytest.fixture
def planned(tmp_path: Path) -> tuple[Plan, Path]:
    """Two splits of the inputs, and one of the validation set, which says what the second of the inputs does."""
    train = write(tmp_path / "a.jsonl", says("a", **FILLING), b"{", says("b", **FILLING), b"{", says("a"), says("b"))
    held_out = write(tmp_path / "v.jsonl", says("c"), says("b"), says("c"), b"{")
    config = BuildConfig((train,), TOKENIZER, validation_input=(held_out,), deduplicate=True, max_length=32)
    plan, _ = make_plan(config)
    with hold(tmp_path / "out"):
        adopt_plan(plan, tmp_path / "out", overwrite=False)
    assert [plan.home(task) for task in range(len(plan.splits))] == ["train", "train", "validation"]
    return plan, tmp_path / "out"


def find(plan: Plan, folder: Path) -> list[int]:
    """Find repeats; the bytes that were to be read."""
    read: list[int] = []
    with hold(folder):
        find_repeats(plan, folder, read.append, lambda report: None)
    return read


def test_what_is_there_is_not_read_again(planned: tuple[Plan, Path]) -> None:
    plan, folder = planned
    assert find(plan, folder) == [plan.size(range(3))]
    kept = {path.name: path.read_bytes() for path in (folder / "keys").iterdir()}
    assert find(plan, folder) == []
    (folder / "keys" / "00001.contents").write_bytes(b"damaged")
    assert find(plan, folder) == []  # it has served
    (folder / "keys" / "00002.repeats").unlink()
    assert find(plan, folder) == [plan.size([1])]
    assert {path.name: path.read_bytes() for path in (folder / "keys").iterdir()} == kept


def test_the_first_one_stays_and_the_validation_set_comes_before(planned: tuple[Plan, Path]) -> None:
    plan, folder = planned
    find(plan, folder)
    assert repeats_in(plan, folder, 2) == {2: "v.jsonl:1"}
    assert repeats_in(plan, folder, 0) | repeats_in(plan, folder, 1) == {2: "v.jsonl:2"} | {
        1: "a.jsonl:1",
        2: "v.jsonl:2",
    }


def test_work_asks_for_what_was_found(planned: tuple[Plan, Path]) -> None:
    plan, folder = planned
    with pytest.raises(DatasetError, match=r"00001\.repeats: missing or damaged; `sftprep plan`, run again"):
        work_on(folder, 1)
    find(plan, folder)
    for task in (2, 0, 1):
        work_on(folder, task)
    with hold(folder):
        manifest = commit_dataset(folder)
    assert {path.name for path in folder.iterdir()} == {"manifest.json", *manifest.files}
    assert [(each["source"], each["line"], each["repeats"]) for each in rejects(folder) if each["kind"] == "duplicate"] == [
        ("a.jsonl", 3, "v.jsonl:2"), ("a.jsonl", 5, "a.jsonl:1"), ("a.jsonl", 6, "v.jsonl:2"), ("v.jsonl", 3, "v.jsonl:1"),
    ]  # fmt: skip
    assert [(shard.name, shard.rows) for shard in manifest.shards] == [("shard-00000", 1), ("validation-00000", 2)]
    assert manifest.totals["rejected"] == 3


def test_who_trains_something_else_is_no_repeat(tmp_path: Path) -> None:
    other = [GOOD["messages"][0], {**GOOD["messages"][1], "weight": 0.5}]
    manifest = build(tmp_path / "out", write(tmp_path / "a.jsonl", GOOD, {"messages": other}, GOOD), deduplicate=True)
    assert (manifest.totals["conversations"], manifest.totals["duplicates"]) == (2, 1)


def test_repeats_are_no_rejects(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", GOOD, GOOD, GOOD)
    manifest = build(tmp_path / "out", source, deduplicate=True, max_rejects="0", on_error="stop")
    assert (manifest.totals["records"], manifest.totals["rejected"], manifest.totals["duplicates"]) == (3, 0, 2)
