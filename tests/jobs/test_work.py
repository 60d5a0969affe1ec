"""One split of a plan, done by itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_builds import GOOD, TOKENIZER, build, write

from sftprep.config import BuildConfig
from sftprep.dataset.receipt import receipt_path
from sftprep.errors import ConfigError, ConversationError, DatasetError, InputError
from sftprep.jobs.commit import commit_dataset
from sftprep.jobs.folder import adopt_plan, hold, read_plan
from sftprep.jobs.plan import make_plan
from sftprep.jobs.work import Job, work_on
from sftprep.workers.limits import Suspect
from sftprep.workers.worker import Order, Report


def planned(folder: Path, *records: Any, **options: Any) -> Path:
    """A plan of one split, and nothing done."""
    source = write(folder / "a.jsonl", *records)
    plan, _ = make_plan(BuildConfig((source,), TOKENIZER, **options))
    with hold(folder / "out"):
        adopt_plan(plan, folder / "out", overwrite=False)
    return folder / "out"


def test_a_split_is_done_once_and_gives_what_a_build_gives(tmp_path: Path) -> None:
    out = planned(tmp_path, GOOD, GOOD)
    assert work_on(out, 0).startswith("2 rows, ")
    receipt = receipt_path(out, 0).stat()
    assert work_on(out, 0) == "done before"
    assert receipt_path(out, 0).stat() == receipt
    with hold(out):
        commit_dataset(out)
    assert work_on(out, 0) == "the dataset is complete"
    build(tmp_path / "built", str(tmp_path / "a.jsonl"))
    same = [sorted((path.name, path.read_bytes()) for path in each.iterdir()) for each in (out, tmp_path / "built")]
    assert same[0] == same[1]


def test_a_damaged_split_is_done_again(tmp_path: Path) -> None:
    out = planned(tmp_path, GOOD)
    work_on(out, 0)
    whole = (out / "shard-00000.X.npy").read_bytes()
    (out / "shard-00000.X.npy").write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    assert work_on(out, 0).startswith("1 rows, ")
    assert (out / "shard-00000.X.npy").read_bytes() == whole


def test_what_cannot_be_worked_on(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="no plan"):
        work_on(tmp_path, 0)
    out = planned(tmp_path, GOOD)
    for task in (-1, 1):
        with pytest.raises(ConfigError, match=f"--task {task}: the plan has splits 0 to 0"):
            work_on(out, task)
    assert not receipt_path(out, 0).exists()


def test_how_errors_are_met_is_of_the_call(tmp_path: Path) -> None:
    out = planned(tmp_path, GOOD, b"{")
    with pytest.raises(ConversationError, match=r"^a\.jsonl:2: not JSON"):
        work_on(out, 0, on_error="stop")
    assert not receipt_path(out, 0).exists()
    work_on(out, 0)
    with pytest.raises(InputError, match="1 of 2 records rejected"):
        work_on(out, 0, on_error="stop")


def test_an_item_that_is_lost_is_left_out(tmp_path: Path) -> None:
    """As the ways to run workers ask for it, with a careful order."""
    out = planned(tmp_path, GOOD, GOOD, GOOD)
    plan, reports = read_plan(out), list[Report]()
    second = (0, 2, (tmp_path / "a.jsonl").read_bytes().index(b"\n") + 1)
    publish = Job(plan, out, Suspect()).run(Order(0, {second: "it ends its worker"}, careful=True), reports.append)
    assert not receipt_path(out, 0).exists()  # not before it is published
    receipt = publish()
    assert (receipt.totals.conversations, receipt.totals.rejected) == (2, 1)
    assert sum(report.conversations for report in reports) == 3
    assert b"it ends its worker" in (out / "rejects" / "00000.jsonl").read_bytes()


def test_a_tokenizer_that_is_another_now(tmp_path: Path) -> None:
    from small_tokenizer import save, train

    out = planned(tmp_path, GOOD)
    with pytest.raises(ConfigError, match="the tokenizer has changed since the plan was made"):
        work_on(out, 0, tokenizer=str(save(train(), tmp_path / "other")))


@pytest.mark.parametrize("engine", ["auto", "hf"])
def test_a_machine_that_knows_nothing_of_the_tokenizer_yet(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, engine: str
) -> None:
    """As every node of a cluster that has a cache of its own."""
    out = planned(tmp_path, GOOD, tokenizer_engine=engine)
    monkeypatch.setenv("SFTPREP_CACHE", str(tmp_path / "another"))
    assert work_on(out, 0).startswith("1 rows, ")
