"""Checks the receipts of all splits and writes the manifest, last: from then on the folder is a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

from sftprep import __version__
from sftprep.config import Tolerance
from sftprep.dataset.folders import exchange_folders
from sftprep.dataset.manifest import MANIFEST, REJECTS, FileEntry, Manifest, ShardEntry, load_manifest
from sftprep.dataset.receipt import REJECTS_FOLDER, ShardReceipt, Totals, file_path, read_receipt, shard_name
from sftprep.dataset.staged import StagedFile, file_sha256, naming, publish_bytes, sync_folder
from sftprep.errors import DatasetError, InputError
from sftprep.jobs.folder import clean_up, complete_manifest, read_plan, work_folder
from sftprep.jobs.own_files import has_manifest, has_plan, refuse_to_replace, remove_folder
from sftprep.jobs.plan import Plan
from sftprep.stores.places import remember_places
from sftprep.tokens.batch import dtype_for
from sftprep.unread import Unread

TOLERANT = Tolerance()


def missing_tasks(plan: Plan, folder: Path) -> list[int]:
    """Splits without a receipt that holds: every file it names is there with its size and hash."""
    return [task for task in range(len(plan.splits)) if not receipt_of(plan, folder, task)]


def receipt_of(plan: Plan, folder: Path, task: int) -> ShardReceipt | None:
    """The receipt of a split if it holds: every file that it names is there with its size and hash."""
    receipt = read_receipt(folder, task, plan.fingerprint)
    return receipt if receipt and not _wrong_files(receipt, folder, hashes=True) else None


def _wrong_files(receipt: ShardReceipt, folder: Path, *, hashes: bool) -> list[Path]:
    wrong = []
    for kind, path in receipt.paths(folder).items():
        size, sha256 = receipt.files[kind]
        if not path.is_file() or path.stat().st_size != size or (hashes and file_sha256(path) != sha256):
            wrong.append(path)
    return wrong


def commit_dataset(folder: Path, tolerance: Tolerance = TOLERANT) -> Manifest:
    """Check every receipt and its files' sizes, then write the manifest. Call with the folder's lock held.

    Raises DatasetError where splits are missing or the manifest cannot be read back, InputError where nothing is left to
    train on or this call does not put up with what was rejected.
    """
    target = work_folder(folder)
    if not has_plan(target) and has_manifest(folder):
        manifest = complete_manifest(folder)
        tolerance.check(manifest.totals, folder / REJECTS)
        return manifest
    plan = read_plan(target)
    if target != folder:
        refuse_to_replace(folder)
    receipts = _receipts(plan, target)
    totals = Totals()
    for receipt in receipts:
        totals.add(receipt.totals)
    rejects = _join_rejects(receipts, target)
    tolerance.check(asdict(totals), target / REJECTS)
    if not totals.rows:
        raise InputError(
            f"no row to train on: {totals.rejected:,} records rejected, {totals.dropped:,} dropped; "
            f"{target / REJECTS} says why"
        )
    unread = Unread()
    for receipt in receipts:
        unread.add(receipt.unread)
    manifest = manifest_of(plan, receipts, totals, unread, {REJECTS: rejects})
    publish_bytes(target / MANIFEST, manifest.to_bytes())
    if load_manifest(target) != manifest:
        (target / MANIFEST).unlink()
        raise DatasetError(f"{target / MANIFEST}: reads back as something else than was written")
    if target != folder:
        exchange_folders(target, folder)
        remove_folder(target)
    clean_up(folder)
    remember_places(plan.fingerprint, plan.config.inputs, plan.config.tokenizer)
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
    with StagedFile(folder / REJECTS) as staged:
        for receipt in receipts:
            if REJECTS_FOLDER in receipt.files:
                path = file_path(folder, receipt.task, REJECTS_FOLDER)
                with naming(path):
                    staged.write(path.read_bytes())
        staged.finish()
        staged.publish()
        sync_folder(folder)
        return FileEntry(staged.bytes, staged.sha256)


def manifest_of(
    plan: Plan,
    receipts: list[ShardReceipt],
    totals: Totals,
    unread: Unread,
    more: Mapping[str, FileEntry] = MappingProxyType({}),
) -> Manifest:
    """What the manifest says of splits that are done. more: files beside theirs."""
    files = dict(more)
    shards = []
    for receipt in receipts:
        if receipt.totals.rows:
            shards.append(ShardEntry(shard_name(receipt.task), receipt.totals.rows, receipt.totals.examples))
        for kind, (size, sha256) in receipt.files.items():
            if kind != REJECTS_FOLDER:
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
        inputs=plan.inputs,
        totals=asdict(totals),
        shards=tuple(shards),
        files=files,
        ignored_keys=unread.records,
        message_keys=unread.messages,
    )
