"""Checks the receipts of all splits and writes the manifest, last: from then on the folder is a dataset."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType

import numpy as np

from sftprep import __version__
from sftprep.config import Tolerance
from sftprep.dataset.folders import exchange_folders
from sftprep.dataset.manifest import (
    MANIFEST,
    REJECTS,
    SET_TOTALS,
    SETS,
    FileEntry,
    Manifest,
    ShardEntry,
    load_manifest,
    set_of,
)
from sftprep.dataset.receipt import KEYS, ShardReceipt, Totals, read_receipt, rejects_path, shard_file
from sftprep.dataset.staged import StagedFile, file_sha256, naming, publish_bytes, sync_folder
from sftprep.errors import DatasetError, InputError
from sftprep.jobs.folder import clean_up, complete_manifest, read_plan, work_folder
from sftprep.jobs.own_files import has_manifest, has_plan, refuse_to_replace, remove_folder
from sftprep.jobs.plan import Plan
from sftprep.sets.repeats import Keys, as_keys, count_among
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
    for path, (size, sha256) in receipt.files(folder).items():
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
    totals, unread = Totals(), Unread()
    for receipt in receipts:
        totals.add(receipt.totals)
        unread.add(receipt.unread)
    if plan.config.has_validation:
        totals.near_copies = _near_copies(receipts, target)
    rejects = _join_rejects(receipts, target)
    tolerance.check(asdict(totals), target / REJECTS)
    if not any(shard.set == "train" for shard in _shards(receipts)):
        where = {"repeat another record": totals.duplicates, "are in the validation set": totals.conversations}
        others = "".join(f", {count:,} {what}" for what, count in where.items() if count)
        raise InputError(
            f"no row to train on: {totals.rejected:,} records rejected, {totals.dropped:,} dropped{others}; "
            f"{target / REJECTS} says why"
        )
    manifest = manifest_of(plan, receipts, totals, unread, _sets(plan, receipts), {REJECTS: rejects})
    publish_bytes(target / MANIFEST, manifest.to_bytes())
    if load_manifest(target) != manifest:
        (target / MANIFEST).unlink()
        raise DatasetError(f"{target / MANIFEST}: reads back as something else than was written")
    if target != folder:
        exchange_folders(target, folder)
        remove_folder(target)
    clean_up(folder)
    remember_places(plan.fingerprint, plan.config.inputs, plan.config.tokenizer, plan.config.validation_input)
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


def _near_copies(receipts: list[ShardReceipt], folder: Path) -> int:
    """How many conversations of the training set are in the validation set but for white space and case. Raises DatasetError
    where their keys are damaged."""
    held = {
        of: [shard_file(folder, name, KEYS) for receipt in receipts for name in receipt.shards if set_of(name) == of]
        for of in SETS
    }
    among = [_keys(path) for path in held["validation"]]
    return count_among(map(_keys, held["train"]), np.concatenate(among)) if among else 0


def _keys(path: Path) -> Keys:
    with naming(path):
        return as_keys(path.read_bytes())


def _join_rejects(receipts: list[ShardReceipt], folder: Path) -> FileEntry:
    with StagedFile(folder / REJECTS) as staged:
        for receipt in receipts:
            if receipt.rejects:
                path = rejects_path(folder, receipt.task)
                with naming(path):
                    staged.write(path.read_bytes())
        staged.finish()
        staged.publish()
        sync_folder(folder)
        return FileEntry(staged.bytes, staged.sha256)


def _shards(receipts: list[ShardReceipt]) -> tuple[ShardEntry, ...]:
    """In the order of their names: set by set."""
    parts = sorted((name, part.totals) for receipt in receipts for name, part in receipt.shards.items())
    return tuple(
        ShardEntry(name, totals["rows"], totals["examples"], totals["tokens"], set_of(name)) for name, totals in parts
    )


def _sets(plan: Plan, receipts: list[ShardReceipt]) -> dict[str, dict[str, int]]:
    """What each set holds."""
    return held_by_sets(
        plan, [(set_of(name), part.totals) for receipt in receipts for name, part in receipt.shards.items()]
    )


def held_by_sets(plan: Plan, parts: Iterable[tuple[str, Mapping[str, int]]]) -> dict[str, dict[str, int]]:
    """SET_TOTALS of each set that is asked for. parts: sets, and numbers that add up to what they hold."""
    names = ("train", "validation") if plan.config.has_validation else ("train",)
    sets = {name: dict.fromkeys(SET_TOTALS, 0) for name in names}
    for of, totals in parts:
        for name in SET_TOTALS:
            sets[of][name] += totals[name]
    return sets


def manifest_of(
    plan: Plan,
    receipts: list[ShardReceipt],
    totals: Totals,
    unread: Unread,
    sets: Mapping[str, Mapping[str, int]],
    more: Mapping[str, FileEntry] = MappingProxyType({}),
) -> Manifest:
    """What the manifest says of splits that are done. more: files beside theirs."""
    files = dict(more) | {
        path.name: FileEntry(*facts)
        for receipt in receipts
        for path, facts in receipt.files(Path()).items()
        if path.parent == Path()
    }
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
        sets={name: dict(held) for name, held in sets.items()},
        shards=_shards(receipts),
        files=files,
        ignored_keys=unread.records,
        message_keys=unread.messages,
    )
