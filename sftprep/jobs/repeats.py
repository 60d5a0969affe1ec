"""Which records say the same as another one: found before the work begins, as a record that repeats may lie in another split.

Each split's records are read and get a key (`contents`), by the same workers as do the work; then the keys of all splits are
compared, and what is found is left for whoever works on a split. Both are files in the folder where the dataset is made, so
that it goes on from them after a crash, and they are gone once there is a dataset.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np

from sftprep.containers.record import Record
from sftprep.containers.splits import read_batches
from sftprep.dataset.receipt import KEYS
from sftprep.errors import ConversationError, DatasetError
from sftprep.jobs.plan import Plan
from sftprep.records.conversation import parse_conversation
from sftprep.sets.contents import training_key
from sftprep.sets.number_files import Numbers, publish_numbers, read_numbers
from sftprep.sets.repeats import NO_KEY, Keys, first_of_each
from sftprep.workers.limits import Suspect
from sftprep.workers.runners import runner
from sftprep.workers.worker import Order, Report

STEP = "looking for repeats"


class KeyJob:
    """A worker's view of a plan of which the contents are to be known."""

    def __init__(self, plan: Plan, folder: Path, suspect: Suspect) -> None:
        self._plan, self._folder = plan, folder

    def run(self, order: Order, report: Callable[[Report], None]) -> Callable[[], object]:
        """Read one split; the returned callable leaves, of each record, its key and then, of each, source and line."""
        keys, places = bytearray(), array("q")
        for batch in read_batches(self._plan.splits[order.task], self._plan.sources, self._plan.config.selection):
            for record in batch:
                keys += self._key(record)
                places.extend((record.source, record.line))
            report(Report(len(batch), bytes=sum(len(record.data) + 1 for record in batch)))
        numbers = np.concatenate([np.frombuffer(keys, np.int64), np.frombuffer(places, np.int64)])
        return partial(publish_numbers, _path(self._folder, order.task, "contents"), self._plan.fingerprint, numbers)

    def _key(self, record: Record) -> bytes:
        if record.error:
            return NO_KEY
        try:
            return training_key(parse_conversation(record.data, self._plan.config.reading))
        except ConversationError:
            return NO_KEY


def find_repeats(plan: Plan, folder: Path, begin: Callable[[int], None], report: Callable[[Report], None]) -> None:
    """Leave for every split what `repeats_in` reads, unless it is there. Call with the folder's lock held.

    begin: is told how many bytes there are to read, if there are any. Raises what `Runner.run_tasks` does, InputError where an
    input changed, StorageError.
    """
    tasks = range(len(plan.splits))
    if all(_read(plan, folder, task, "repeats") is not None for task in tasks):
        return
    left = [task for task in tasks if _read(plan, folder, task, "contents") is None]
    if left:
        begin(plan.size(left))
        open_job = partial(KeyJob, plan, folder)
        runner(plan.config.engine).run_tasks(open_job, left, plan.config.workers, report, plan.describe)
    _compare(plan, folder)


def repeats_in(plan: Plan, folder: Path, task: int) -> dict[int, str]:
    """The records of a split that repeat another: their numbers in the split, from 0, and `file:line` of the one that stays.

    Raises DatasetError where that was not found out.
    """
    if not plan.config.deduplicate:
        return {}
    found = _read(plan, folder, task, "repeats")
    if found is None:
        path = _path(folder, task, "repeats")
        raise DatasetError(f"{path}: missing or damaged; `sftprep plan`, run again, finds the repeats anew")
    return {number: f"{plan.sources[source].name}:{line}" for number, source, line in found.tolist()}


def _compare(plan: Plan, folder: Path) -> None:
    """Compare the keys of all splits. Of those that are equal the first one stays: of the validation set, else of the inputs."""
    tasks = sorted(range(len(plan.splits)), key=lambda task: plan.home(task) == "train")  # stable

    def contents(task: int) -> Numbers:
        found = _read(plan, folder, task, "contents", trusted=True)
        if found is None:
            raise DatasetError(f"{_path(folder, task, 'contents')}: missing; run this again")
        return found

    def part(number: int) -> Keys:
        both = contents(tasks[number])
        return both[: len(both) // 2].view(np.uint64)

    sizes = [len(contents(task)) // 2 for task in tasks]
    starts = np.cumsum([0, *sizes])
    first = first_of_each(sizes, part)
    repeats = np.flatnonzero(first != np.arange(len(first)))
    kept = np.unique(first[repeats])
    places = np.zeros((len(kept), 2), np.int64)
    for number, task in enumerate(tasks):
        inside = slice(*np.searchsorted(kept, starts[number : number + 2]))
        if inside.start < inside.stop:
            places[inside] = contents(task)[sizes[number] :][kept[inside] - starts[number]]
    for number, task in enumerate(tasks):
        own = repeats[slice(*np.searchsorted(repeats, starts[number : number + 2]))]
        found = np.column_stack([own - starts[number], places[np.searchsorted(kept, first[own])]])
        publish_numbers(_path(folder, task, "repeats"), plan.fingerprint, found)


def _read(plan: Plan, folder: Path, task: int, what: str, *, trusted: bool = False) -> Numbers | None:
    """What was left of a split: (2n, 2) its contents, (n, 3) its repeats."""
    columns = 2 if what == "contents" else 3
    return read_numbers(_path(folder, task, what), plan.fingerprint, columns, trusted=trusted)


def _path(folder: Path, task: int, what: str) -> Path:
    return folder / KEYS / f"{task:05d}.{what}"
