"""Does splits of a plan: a worker's job, and one split in a process of its own.

A split that is done leaves a receipt. Receipts are the only memory between plan, work and commit, so any process on any
machine that reaches the folder can go on where another one died; each step is safe to repeat.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from sftprep.batches.prepare import Preparer
from sftprep.batches.toolbox import Toolbox, load
from sftprep.config import Tolerance
from sftprep.containers.record import Record
from sftprep.containers.splits import MOST_RECORDS, read_batches
from sftprep.dataset.folders import folder_lock
from sftprep.dataset.manifest import REJECTS
from sftprep.dataset.origins import warm_parquet
from sftprep.dataset.receipt import Reject, ShardReceipt, read_receipt, rejects_path
from sftprep.dataset.shard_writer import Prepared, RowForm, ShardWriter
from sftprep.errors import ConfigError, DatasetError
from sftprep.jobs.commit import TOLERANT, receipt_of
from sftprep.jobs.folder import complete_manifest, make_subfolders, read_plan, work_folder
from sftprep.jobs.own_files import has_manifest
from sftprep.jobs.plan import NOBODY, Plan, Watch
from sftprep.jobs.repeats import repeats_in
from sftprep.records.conversation import group_in
from sftprep.tokens.batch import dtype_for
from sftprep.workers.limits import UNLIMITED, Bounded, Item, Suspect
from sftprep.workers.runners import runner
from sftprep.workers.worker import Order, Report


class SplitReader:
    """A worker's view of a plan: opens tokenizer and template once, then makes rows of splits."""

    def __init__(self, plan: Plan, suspect: Suspect, toolbox: Toolbox | None, *, lengths: bool = False) -> None:
        """lengths: `Preparer`."""
        toolbox = toolbox or load(plan.config)
        if toolbox.resolved.sha256 != plan.tokenizer["sha256"]:
            raise ConfigError(f"{plan.config.tokenizer}: the tokenizer has changed since the plan was made")
        self.plan, self.size = plan, toolbox.resolved.size
        self.names = [source.name for source in plan.sources]
        self._suspect, self._templates = suspect, toolbox.templates
        self._templates.suspect = suspect
        preparer = Preparer(plan.config, toolbox, self.names, plan.check_every, lengths=lengths)
        self._preparer, self.stage = preparer, preparer.stage

    def batches(
        self, order: Order, report: Callable[[Report], None], folder: Path, leave_out: Callable[[list[Reject]], None]
    ) -> Iterator[Iterator[Prepared]]:
        """A split's rows, of one batch after another; what is taken of them is reported.

        folder: where it is said which records repeat others. leave_out: gets a word on each of those.
        """
        most = 1 if order.careful else MOST_RECORDS
        batches = read_batches(self.plan.splits[order.task], self.plan.sources, self.plan.config.selection, most)

        def left_out(duplicates: list[Reject], size: int) -> None:
            leave_out(duplicates)
            report(Report(len(duplicates), bytes=size, replayed=len(duplicates)))

        if repeats := repeats_in(self.plan, folder, order.task):
            batches = _without_repeats(batches, repeats, left_out, self.plan.config.by)
        while True:
            with self.stage("reading"):
                batch = next(batches, None)
            if batch is None:
                return
            yield self._rows(batch, order, report)

    def _rows(self, batch: list[Record], order: Order, report: Callable[[Report], None]) -> Iterator[Prepared]:
        seconds = self._preparer.seconds
        if order.lost:
            batch[:] = [_lost(record, order.lost) for record in batch]
        for prepared in self._prepare(batch, self.plan.home(order.task), careful=order.careful):
            yield prepared
            records, tokens = prepared.totals.records, prepared.totals.tokens
            report(Report(records, tokens, prepared.bytes, prepared.replayed, seconds=dict(seconds)))
            seconds.clear()

    def _prepare(self, batch: list[Record], home: str, *, careful: bool) -> Iterable[Prepared]:
        if not batch:
            return ()
        if not careful:
            return self._preparer.prepare(batch, home)
        self._suspect.is_at(*batch[0].place)
        with Bounded("the conversation", memory=UNLIMITED):  # whatever it may die of
            prepared = list(self._preparer.prepare(batch, home))
        self._suspect.is_at()
        return prepared


class Job(SplitReader):
    """Writes the shards of splits."""

    def __init__(self, plan: Plan, folder: Path, suspect: Suspect, toolbox: Toolbox | None = None) -> None:
        super().__init__(plan, suspect, toolbox)
        warm_parquet()
        self._folder, self._dtype = folder, dtype_for(self.size)

    def run(self, order: Order, report: Callable[[Report], None]) -> Callable[[], ShardReceipt]:
        """Compute one split; the returned callable makes it durable and leaves the receipt."""
        config, names = self.plan.config, self.plan.shard_names(order.task)
        form = RowForm(config.layout, config.width, self.plan.tokenizer["pad_id"], self._dtype)
        writer = ShardWriter(self._folder, order.task, names, form, self.names)
        try:
            for rows in self.batches(order, report, self._folder, writer.leave_out):
                for prepared in rows:
                    with self.stage("writing"):
                        writer.append(prepared)
                writer.end_batch()
        except BaseException:
            writer.discard()
            raise
        return partial(writer.publish, self.plan.fingerprint)


def _without_repeats(
    batches: Iterable[list[Record]],
    repeats: Mapping[int, str],
    leave_out: Callable[[list[Reject], int], None],
    by: str | None = None,
) -> Iterator[list[Record]]:
    """The batches of a split with the records that stay. repeats: as `repeats_in` has them. leave_out: gets a word on each of
    the others, batch by batch, and their size in bytes. by: the key that names groups."""
    begin = 0
    for batch in batches:
        records, numbers = batch.copy(), range(begin, begin + len(batch))
        batch[:] = [record for number, record in zip(numbers, records, strict=True) if number not in repeats]
        others = [
            (repeats[number], record) for number, record in zip(numbers, records, strict=True) if number in repeats
        ]
        said = "says the same as another record"
        duplicates = [Reject(record.place, "duplicate", said, first, group_in(record, by)) for first, record in others]
        leave_out(duplicates, sum(len(record.data) + 1 for _, record in others))
        begin = numbers.stop
        del records, others  # whoever gets the batch may let go of its records
        yield batch


def _lost(record: Record, lost: Mapping[Item, str]) -> Record:
    reason = lost.get(record.place)
    return record if reason is None else record._replace(data=b"", error=reason)


def work_on(folder: Path, task: int, tokenizer: str | None = None, watch: Watch = NOBODY, **call: Any) -> str:
    """Do one split of the plan in `folder`, if it is not done, in a process of its own.

    tokenizer: where it lies on this machine. watch: is told how it goes. call: CALL_OPTIONS. Returns what was done, in words. Raises DatasetError
    where there is no plan, ConfigError where it has no such split, InputError where it is done and this call does not put
    up with what was rejected.
    """
    tolerance = Tolerance(call.get("on_error", TOLERANT.on_error))
    if has_manifest(folder) and work_folder(folder) == folder:
        tolerance.check(complete_manifest(folder).totals, folder / REJECTS)
        return "the dataset is complete"
    _planned_task(folder, task)  # before anything is changed
    with folder_lock(folder, shared=True, create=False):
        plan = _planned_task(folder, task)
        target = work_folder(folder)
        make_subfolders(target)
        if done := receipt_of(plan, target, task):
            tolerance.check(asdict(done.totals), rejects_path(target, task))
            return "done before"
        plan = replace(plan, config=replace(plan.config, tokenizer=tokenizer or plan.config.tokenizer, **call))
        open_job = partial(Job, plan, target)
        watch.begin(plan, f"split {task}", plan.size([task]))
        runner(plan.config.engine).run_tasks(open_job, [task], 1, watch.update, plan.describe)
        receipt = read_receipt(target, task, plan.fingerprint)
    if receipt is None:
        raise DatasetError(f"{target}: the receipt of split {task} is gone")
    return f"{receipt.totals.rows:,} rows, {receipt.totals.tokens:,} tokens"


def _planned_task(folder: Path, task: int) -> Plan:
    plan = read_plan(work_folder(folder))
    if not 0 <= task < len(plan.splits):
        raise ConfigError(f"--task {task}: the plan has splits 0 to {len(plan.splits) - 1}")
    return plan
