"""Every task is done once, whatever happens to the processes that do them."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
from faults.builds import has_ended, wait_for

from sftprep.errors import ConversationError, TemplateError, WorkerError
from sftprep.workers import local as engines
from sftprep.workers.limits import MOST_LOST, Suspect
from sftprep.workers.local import run_tasks
from sftprep.workers.trial import run_apart
from sftprep.workers.worker import Order, Report


class Scribe:
    """Writes a file per task; dies, fails or waits where a file in its folder tells it to."""

    def __init__(self, folder: Path, suspect: Suspect) -> None:
        self.folder, self.suspect, self.opened = folder, suspect, False
        if (folder / "no-start").exists():
            os.kill(os.getpid(), signal.SIGKILL)
        if (folder / "stand-still").exists():
            (folder / "stand-still").rename(folder / "stands-still")
            os.kill(os.getpid(), signal.SIGSTOP)

    def run(self, order: Order, report: Callable[[Report], None]) -> Callable[[], None]:
        task = order.task
        if (self.folder / f"hang-{task}").exists() and not order.careful:
            (self.folder / "stands-still").touch()
            time.sleep(600)
        if not self.opened:
            report(Report(note="open"))
        self.opened = True
        for item, number in ((item, int(item.name.rpartition("-")[2])) for item in self.folder.glob(f"item-{task}-*")):
            if (task, number) in order.lost:
                continue
            self.suspect.is_at(task, number)
            os.kill(os.getpid(), signal.Signals[item.read_text()])
        self.suspect.is_at()
        for attempt in range(2):
            death = self.folder / f"die-{task}-{attempt}"
            if death.exists():
                death.unlink()
                os.kill(os.getpid(), signal.SIGKILL)
        if (self.folder / f"fail-{task}").exists():
            raise ConversationError(f"chat.jsonl:{task}: wrong")
        if (self.folder / f"bug-{task}").exists():
            raise ZeroDivisionError
        report(Report(conversations=1, tokens=task))
        return partial(self._publish, task)

    def _publish(self, task: int) -> None:
        with (self.folder / f"done-{task}").open("a") as file:
            file.write(f"{os.getpid()}\n")


def run(folder: Path, tasks: int, workers: int) -> list[Report]:
    reports: list[Report] = []
    run_tasks(partial(Scribe, folder), range(tasks), workers, reports.append, lambda item: f"file-{item[0]}:{item[1]}")
    return reports


def clock(event: Path) -> float:
    """A time that passes with an event only, so that no machine is too slow."""
    return 10 * engines.HANG_SECONDS * event.exists()


@pytest.mark.parametrize("workers", [1, 2, 5])
def test_every_task_is_done_once(tmp_path: Path, workers: int) -> None:
    reports = run(tmp_path, 12, workers)
    writers = [(tmp_path / f"done-{task}").read_text().split() for task in range(12)]
    assert all(len(each) == 1 for each in writers)
    assert str(os.getpid()) not in {each[0] for each in writers}
    assert sum(each.tokens for each in reports) == sum(range(12))
    assert 1 <= sum(each.note == "open" for each in reports) <= workers  # all may be done before the last one starts


def test_no_task_starts_no_process(tmp_path: Path) -> None:
    assert run(tmp_path, 0, 4) == []


def test_a_killed_worker_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "die-3-0").touch()
    reports = run(tmp_path, 6, 2)
    assert all((tmp_path / f"done-{task}").exists() for task in range(6))
    assert any("was killed by SIGKILL" in each.note for each in reports)


def test_a_task_that_kills_two_workers_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "die-3-0").touch()
    (tmp_path / "die-3-1").touch()
    with pytest.raises(WorkerError, match=r"split 3: its worker process was killed by SIGKILL, twice"):
        run(tmp_path, 4, 1)


def test_a_worker_that_hangs_is_replaced_by_a_careful_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engines, "monotonic", partial(clock, tmp_path / "stands-still"))
    (tmp_path / "hang-0").touch()  # the first one: nothing of this worker is under way that might be heard later
    reports = run(tmp_path, 4, 1)
    assert all((tmp_path / f"done-{task}").exists() for task in range(4))
    assert any("was killed" in each.note for each in reports)


def test_a_worker_that_stands_still_before_its_first_task_is_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engines, "monotonic", partial(clock, tmp_path / "stands-still"))
    (tmp_path / "stand-still").touch()
    reports = run(tmp_path, 3, 1)
    assert all((tmp_path / f"done-{task}").exists() for task in range(3))
    assert any("was killed by SIGKILL" in each.note for each in reports)


@pytest.mark.parametrize("name", ["SIGPROF", "SIGSEGV", "SIGABRT", "SIGBUS"])
def test_an_item_that_ends_its_worker_is_left_out(tmp_path: Path, name: str) -> None:
    for item in ("item-1-4", "item-1-7", "item-3-4"):
        (tmp_path / item).write_text(name)
    reports = run(tmp_path, 5, 2)
    assert all((tmp_path / f"done-{task}").exists() for task in range(5))
    assert sum("its splits are done again" in each.note for each in reports) == 3


def test_a_process_killed_from_outside_is_not_its_items_fault(tmp_path: Path) -> None:
    (tmp_path / "item-1-4").write_text("SIGKILL")
    with pytest.raises(WorkerError, match=r"split 1: its worker process was killed by SIGKILL, twice"):
        run(tmp_path, 3, 1)


def test_item_after_item_that_ends_its_worker_stops_the_job(tmp_path: Path) -> None:
    for number in range(MOST_LOST):
        (tmp_path / f"item-1-{number}").write_text("SIGPROF")
    with pytest.raises(
        TemplateError, match=rf"^file-1:\d: .*does not come to an end on it, as on {MOST_LOST - 1} before"
    ):
        run(tmp_path, 3, 1)
    for number in range(1, MOST_LOST):  # one less in a row, and a task done before the next ones
        (tmp_path / f"item-2-{number}").write_text("SIGPROF")
    (tmp_path / "item-1-0").unlink()
    run(tmp_path, 3, 1)
    assert (tmp_path / "done-2").exists()


def test_workers_that_cannot_start_are_an_error(tmp_path: Path) -> None:
    (tmp_path / "no-start").touch()
    with pytest.raises(WorkerError, match="before they take a task"):
        run(tmp_path, 4, 2)


def test_an_error_of_a_task_reaches_the_caller_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "fail-2").touch()
    with pytest.raises(ConversationError, match=r"^chat.jsonl:2: wrong$"):
        run(tmp_path, 4, 2)


def test_a_bug_becomes_an_error_that_says_where(tmp_path: Path) -> None:
    (tmp_path / "bug-1").touch()
    with pytest.raises(WorkerError, match=r"internal error at test_local.py:\d+: ZeroDivisionError"):
        run(tmp_path, 4, 1)


def test_workers_die_with_their_parent(tmp_path: Path) -> None:
    child = os.fork()
    if child == 0:  # the parent of the workers, killed from outside while they wait
        try:
            run_tasks(partial(_Sleeper, tmp_path), [0], 1, lambda _: None)
        finally:
            os._exit(0)
    wait_for(lambda: (tmp_path / "pid").exists() and (tmp_path / "pid").read_text(), "the worker")
    worker = int((tmp_path / "pid").read_text())
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    wait_for(lambda: has_ended(worker), "the worker to die")


class _Sleeper:
    def __init__(self, folder: Path, suspect: Suspect) -> None:
        (folder / "pid").write_text(str(os.getpid()))

    def run(self, task: int, report: Callable[[Report], None], *, careful: bool) -> Callable[[], None]:
        time.sleep(600)
        return lambda: None


class _Trier:
    """Tries its task in a child of its own before it does it."""

    def __init__(self, folder: Path, suspect: Suspect) -> None:
        self.folder = folder

    def run(self, order: Order, report: Callable[[Report], None]) -> Callable[[], object]:
        child = run_apart(os.getpid, what="the task")
        return partial((self.folder / f"done-{order.task}").write_text, f"{os.getpid()} {child}")


def test_a_worker_may_try_something_in_a_child(tmp_path: Path) -> None:
    run_tasks(partial(_Trier, tmp_path), [0], 1, lambda _: None)
    worker, child = (tmp_path / "done-0").read_text().split()
    assert len({worker, child, str(os.getpid())}) == 3
