"""plan, work, commit: the steps of a build, each safe to repeat.

The plan says what has to be done; `work` does one split of it and leaves a receipt; `commit` checks the receipts and
writes the manifest, last. Receipts are the only memory between the steps, so any process on any machine that reaches
the folder can go on where another one died.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from sftprep import __version__
from sftprep.config import Tolerance
from sftprep.engines import Order, Progress, run_tasks
from sftprep.errors import ConfigError, DatasetError, InputError
from sftprep.folder import clean_up, complete_manifest, make_subfolders, read_plan, work_folder
from sftprep.limits import UNLIMITED, Bounded, Item, Suspect
from sftprep.loaded import Loaded, load
from sftprep.manifest import MANIFEST, FileEntry, InputEntry, Manifest, ShardEntry, load_manifest
from sftprep.manifest import REJECTS as REJECTS_FILE
from sftprep.own_files import has_manifest, has_plan, refuse_to_replace, remove_folder
from sftprep.plan import Plan
from sftprep.prepare import Preparer
from sftprep.records import Record
from sftprep.shards import (
    REJECTS,
    Prepared,
    ShardReceipt,
    ShardWriter,
    Totals,
    file_path,
    read_receipt,
    shard_name,
    warm_parquet,
)
from sftprep.sources import read_batches
from sftprep.storage import (
    StagedFile,
    exchange_folders,
    file_sha256,
    folder_lock,
    naming,
    publish_bytes,
    sync_folder,
)
from sftprep.tokenizer import dtype_for

_TOLERANT = Tolerance()


class Job:
    """A worker's view of a plan: opens tokenizer and template once, then does splits."""

    def __init__(self, plan: Plan, folder: Path, suspect: Suspect, loaded: Loaded | None = None) -> None:
        loaded = loaded or load(plan.config)
        if loaded.resolved.sha256 != plan.tokenizer["sha256"]:
            raise ConfigError(f"{plan.config.tokenizer}: the tokenizer has changed since the plan was made")
        warm_parquet()
        self._plan, self._folder = plan, folder
        self._dtype = dtype_for(loaded.resolved.size)
        self._names = [source.name for source in plan.sources]
        self._suspect, self._templates = suspect, loaded.templates
        self._templates.suspect = suspect
        self._preparer = Preparer(plan.config, loaded, self._names, plan.check_every)

    def run(self, order: Order, report: Callable[[Progress], None]) -> Callable[[], ShardReceipt]:
        """Compute one split; the returned callable makes it durable and leaves the receipt."""
        writer = ShardWriter(self._folder, order.task, self._plan.config.width, self._dtype, self._names)
        stage, seconds = self._preparer.stage, self._preparer.seconds
        most = {"max_records": 1} if order.careful else {}
        batches = read_batches(self._plan.splits[order.task], self._plan.sources, **most)
        try:
            while True:
                with stage("reading"):
                    batch = next(batches, None)
                if batch is None:
                    break
                batch = [_left_out(record, order.lost) for record in batch] if order.lost else batch
                replayed = self._templates.replayed
                prepared = self._prepare(batch, careful=order.careful)
                with stage("writing"):
                    writer.append(prepared)
                replayed = self._templates.replayed - replayed
                records, tokens = prepared.totals.records, prepared.totals.tokens
                report(Progress(records, tokens, prepared.bytes, replayed, seconds=dict(seconds)))
                seconds.clear()
        except BaseException:
            writer.discard()
            raise

        def publish() -> ShardReceipt:
            with writer:
                return writer.publish(self._plan.fingerprint)

        return publish

    def _prepare(self, batch: list[Record], *, careful: bool) -> Prepared:
        if not careful:
            return self._preparer.prepare(batch)
        self._suspect.is_at(*batch[0].place)
        with Bounded("the conversation", memory=UNLIMITED):  # whatever it may die of
            prepared = self._preparer.prepare(batch)
        self._suspect.is_at()
        return prepared


def _left_out(record: Record, lost: Mapping[Item, str]) -> Record:
    reason = lost.get(record.place)
    return record if reason is None else record._replace(data=b"", error=reason)


def missing_tasks(plan: Plan, folder: Path) -> list[int]:
    """Splits without a receipt that holds: every file it names is there with its size and hash."""
    return [task for task in range(len(plan.splits)) if not _done(plan, folder, task)]


def _done(plan: Plan, folder: Path, task: int) -> ShardReceipt | None:
    receipt = read_receipt(folder, task, plan.fingerprint)
    return receipt if receipt and not _wrong_files(receipt, folder, hashes=True) else None


def _wrong_files(receipt: ShardReceipt, folder: Path, *, hashes: bool) -> list[Path]:
    wrong = []
    for kind, path in receipt.paths(folder).items():
        size, sha256 = receipt.files[kind]
        if not path.is_file() or path.stat().st_size != size or (hashes and file_sha256(path) != sha256):
            wrong.append(path)
    return wrong


def work_on(folder: Path, task: int, tokenizer: str | None = None, **call: Any) -> str:
    """Do one split of the plan in `folder`, if it is not done, in a process of its own.

    tokenizer: where it lies on this machine. call: CALL_OPTIONS. Returns what was done, in words. Raises DatasetError
    where there is no plan, ConfigError where it has no such split, InputError where it is done and this call does not put
    up with what was rejected.
    """
    tolerance = Tolerance(call.get("on_error", _TOLERANT.on_error))
    if has_manifest(folder) and work_folder(folder) == folder:
        tolerance.check(complete_manifest(folder).totals, folder / REJECTS_FILE)
        return "the dataset is complete"
    _planned_task(folder, task)  # before anything is changed
    with folder_lock(folder, shared=True, create=False):
        plan = _planned_task(folder, task)
        target = work_folder(folder)
        make_subfolders(target)
        if done := _done(plan, target, task):
            tolerance.check(asdict(done.totals), file_path(target, task, REJECTS))
            return "done before"
        plan = replace(plan, config=replace(plan.config, tokenizer=tokenizer or plan.config.tokenizer, **call))
        run_tasks(partial(Job, plan, target), [task], 1, lambda progress: None, plan.describe)
        receipt = read_receipt(target, task, plan.fingerprint)
    if receipt is None:
        raise DatasetError(f"{target}: the receipt of split {task} is gone")
    return f"{receipt.totals.rows:,} rows, {receipt.totals.tokens:,} tokens"


def _planned_task(folder: Path, task: int) -> Plan:
    plan = read_plan(work_folder(folder))
    if not 0 <= task < len(plan.splits):
        raise ConfigError(f"--task {task}: the plan has splits 0 to {len(plan.splits) - 1}")
    return plan


def commit_dataset(folder: Path, tolerance: Tolerance = _TOLERANT) -> Manifest:
    """Check every receipt and its files' sizes, then write the manifest. Call with the folder's lock held.

    Raises DatasetError where splits are missing or the manifest cannot be read back, InputError where nothing is left to
    train on or this call does not put up with what was rejected.
    """
    target = work_folder(folder)
    if not has_plan(target) and has_manifest(folder):
        manifest = complete_manifest(folder)
        tolerance.check(manifest.totals, folder / REJECTS_FILE)
        return manifest
    plan = read_plan(target)
    if target != folder:
        refuse_to_replace(folder)
    receipts = _receipts(plan, target)
    totals = Totals()
    for receipt in receipts:
        totals.add(receipt.totals)
    rejects = _join_rejects(receipts, target)
    tolerance.check(asdict(totals), target / REJECTS_FILE)
    if not totals.rows:
        raise InputError(
            f"no row to train on: {totals.rejected:,} records rejected, {totals.dropped:,} dropped; "
            f"{target / REJECTS_FILE} says why"
        )
    manifest = _manifest(plan, receipts, totals, rejects)
    publish_bytes(target / MANIFEST, manifest.to_bytes())
    if load_manifest(target) != manifest:
        (target / MANIFEST).unlink()
        raise DatasetError(f"{target / MANIFEST}: reads back as something else than was written")
    if target != folder:
        exchange_folders(target, folder)
        remove_folder(target)
    clean_up(folder)
    return manifest


def _receipts(plan: Plan, folder: Path) -> list[ShardReceipt]:
    receipts = []
    missing = []
    for task in range(len(plan.splits)):
        receipt = read_receipt(folder, task, plan.fingerprint)
        if receipt is None:
            missing.append(task)
        elif wrong := _wrong_files(receipt, folder, hashes=False):
            raise DatasetError(
                f"{wrong[0]}: missing, or of another size than its receipt says; work on split {task} again"
            )
        else:
            receipts.append(receipt)
    if missing:
        shown = ", ".join(map(str, missing[:10])) + (", ..." if len(missing) > 10 else "")
        raise DatasetError(f"{folder}: {len(missing)} of {len(plan.splits)} splits are not done: {shown}")
    return receipts


def _join_rejects(receipts: list[ShardReceipt], folder: Path) -> FileEntry:
    with StagedFile(folder / REJECTS_FILE) as staged:
        for receipt in receipts:
            if REJECTS in receipt.files:
                path = file_path(folder, receipt.task, REJECTS)
                with naming(path):
                    staged.write(path.read_bytes())
        staged.finish()
        staged.publish()
        sync_folder(folder)
        return FileEntry(staged.bytes, staged.sha256)


def _manifest(plan: Plan, receipts: list[ShardReceipt], totals: Totals, rejects: FileEntry) -> Manifest:
    files = {REJECTS_FILE: rejects}
    shards = []
    for receipt in receipts:
        if receipt.totals.rows:
            shards.append(ShardEntry(shard_name(receipt.task), receipt.totals.rows, receipt.totals.conversations))
        for kind, (size, sha256) in receipt.files.items():
            if kind != REJECTS:
                files[file_path(Path(), receipt.task, kind).name] = FileEntry(size, sha256)
    return Manifest(
        sftprep=__version__,
        fingerprint=plan.fingerprint,
        config=plan.config.content_options(),
        layout=plan.config.layout,
        width=plan.config.width,
        dtype=dtype_for(plan.tokenizer["vocab_size"]).name,
        pad_id=plan.tokenizer["pad_id"],
        tokenizer=plan.tokenizer,
        inputs=tuple(InputEntry(each.name, each.bytes, each.sha256, each.records) for each in plan.sources),
        totals=asdict(totals),
        shards=tuple(shards),
        files=files,
    )
