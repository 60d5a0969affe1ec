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
from sftprep.dataset.receipt import REJECTS_FOLDER, ShardReceipt, file_path, read_receipt
from sftprep.dataset.shard_writer import Prepared, ShardWriter
from sftprep.errors import ConfigError, DatasetError
from sftprep.jobs.commit import TOLERANT, receipt_of
from sftprep.jobs.folder import complete_manifest, make_subfolders, read_plan, work_folder
from sftprep.jobs.own_files import has_manifest
from sftprep.jobs.plan import Plan
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

    def prepared(self, order: Order, report: Callable[[Report], None]) -> Iterator[Prepared]:
        """A split's rows, batch by batch; each is reported when it is done with."""
        seconds = self._preparer.seconds
        most = 1 if order.careful else MOST_RECORDS
        batches = read_batches(self.plan.splits[order.task], self.plan.sources, self.plan.config.selection, most)
        while True:
            with self.stage("reading"):
                batch = next(batches, None)
            if batch is None:
                return
            batch = [_left_out(record, order.lost) for record in batch] if order.lost else batch
            for prepared in self._prepare(batch, careful=order.careful):
                yield prepared
                records, tokens = prepared.totals.records, prepared.totals.tokens
                report(Report(records, tokens, prepared.bytes, prepared.replayed, seconds=dict(seconds)))
                seconds.clear()

    def _prepare(self, batch: list[Record], *, careful: bool) -> Iterable[Prepared]:
        if not careful:
            return self._preparer.prepare(batch)
        self._suspect.is_at(*batch[0].place)
        with Bounded("the conversation", memory=UNLIMITED):  # whatever it may die of
            prepared = list(self._preparer.prepare(batch))
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
        writer = ShardWriter(self._folder, order.task, self.plan.config.width, self._dtype, self.names)
        try:
            for prepared in self.prepared(order, report):
                with self.stage("writing"):
                    writer.append(prepared)
        except BaseException:
            writer.discard()
            raise
        return partial(writer.publish, self.plan.fingerprint)


def _left_out(record: Record, lost: Mapping[Item, str]) -> Record:
    reason = lost.get(record.place)
    return record if reason is None else record._replace(data=b"", error=reason)


def work_on(folder: Path, task: int, tokenizer: str | None = None, **call: Any) -> str:
    """Do one split of the plan in `folder`, if it is not done, in a process of its own.

    tokenizer: where it lies on this machine. call: CALL_OPTIONS. Returns what was done, in words. Raises DatasetError
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
            tolerance.check(asdict(done.totals), file_path(target, task, REJECTS_FOLDER))
            return "done before"
        plan = replace(plan, config=replace(plan.config, tokenizer=tokenizer or plan.config.tokenizer, **call))
        open_job = partial(Job, plan, target)
        runner(plan.config.engine).run_tasks(open_job, [task], 1, lambda report: None, plan.describe)
        receipt = read_receipt(target, task, plan.fingerprint)
    if receipt is None:
        raise DatasetError(f"{target}: the receipt of split {task} is gone")
    return f"{receipt.totals.rows:,} rows, {receipt.totals.tokens:,} tokens"


def _planned_task(folder: Path, task: int) -> Plan:
    plan = read_plan(work_folder(folder))
    if not 0 <= task < len(plan.splits):
        raise ConfigError(f"--task {task}: the plan has splits 0 to {len(plan.splits) - 1}")
    return plan
