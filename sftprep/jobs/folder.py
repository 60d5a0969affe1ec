"""The life of an output folder: held by one job, given a plan, worked in, cleaned up.

A dataset that is to be replaced stays whole until another one is complete: that is built in a folder beside it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sftprep import __version__
from sftprep.containers.files import PassedOver
from sftprep.dataset.folders import folder_lock, make_folder
from sftprep.dataset.manifest import SETS, Manifest, load_manifest
from sftprep.dataset.staged import naming, publish_bytes
from sftprep.errors import DatasetError, StorageError
from sftprep.jobs.own_files import (
    PLAN,
    WORK_FOLDERS,
    has_manifest,
    has_plan,
    refuse_strangers,
    refuse_to_replace,
    remove_folder,
    remove_own,
    remove_temporaries,
)
from sftprep.jobs.plan import Plan


def new_folder(folder: Path) -> Path:
    """Where a dataset is built that replaces the one in `folder`: beside it, on the same file system."""
    real = Path(os.path.realpath(folder))
    if not real.name:
        raise DatasetError(f"{folder}: the root of a file system cannot be a dataset; choose another folder")
    return real.with_name(f".{real.name}.new")


def work_folder(folder: Path) -> Path:
    """Where the plan under way for `folder` is: in it, or beside it while an older dataset is replaced."""
    new = new_folder(folder)
    return new if has_plan(new) and not new.is_symlink() else folder


@contextmanager
def hold(folder: Path, *, create: bool = True) -> Iterator[None]:
    """Hold the lock of a folder to plan or build in it; with `create` it is made if there is none.

    Raises DatasetError, and has changed nothing, where there is neither a dataset nor a plan, but something else or, without
    `create`, nothing.
    """
    if not has_manifest(folder) and not has_plan(work_folder(folder)):
        if not create:
            raise _no_plan(folder)
        refuse_strangers(folder)
    with folder_lock(folder, create=create):
        yield


@contextmanager
def no_temporaries(folder: Path) -> Iterator[None]:
    """However the body ends, no temporary file is left in the folder, which is held."""
    try:
        yield
    finally:
        remove_temporaries(folder)


def adopt_plan(plan: Plan, folder: Path, *, overwrite: bool) -> Path | None:
    """Write plan.json, or find that it is there already. Call inside `hold`.

    Returns the folder to work in, or None where the dataset is complete. With `overwrite` a dataset, even the same one or
    a damaged one, is built anew beside the old. Raises DatasetError, and has changed nothing, where the folder holds
    another dataset or plan, naming what differs, or a damaged dataset.
    """
    target = folder
    if has_manifest(folder):
        if not overwrite:
            manifest = complete_manifest(folder)
            if manifest.fingerprint != plan.fingerprint:
                raise _refusal(folder, "holds a dataset made from", manifest.sftprep, _facts(manifest), plan)
            clean_up(folder)
            remove_folder(new_folder(folder))
            return None
        target = new_folder(folder)
        refuse_to_replace(folder)
        refuse_to_replace(target)
    elif overwrite:
        refuse_strangers(folder)
    if has_plan(target):
        old = _plan_or_none(target) if overwrite else read_plan(target)
        if old and old.fingerprint == plan.fingerprint:
            make_subfolders(target)
            remove_temporaries(target)
            return target
        if old and not overwrite:
            raise _refusal(folder, "holds an unfinished build with", __version__, old.facts(), plan)
        _forget(target)
    elif target != folder:
        remove_folder(target)  # an older dataset that was replaced, but not yet removed when its build was killed
    make_folder(target)
    with no_temporaries(target):
        publish_bytes(target / PLAN, plan.to_bytes())
    make_subfolders(target)
    return target


def make_subfolders(folder: Path) -> None:
    """After the plan, which tells that what else is in the folder belongs to sftprep. Raises StorageError for links."""
    for path in (folder / name for name in WORK_FOLDERS):
        if path.is_symlink():
            raise StorageError(f"{path}: a link; what is in a dataset's folder is never written elsewhere")
        make_folder(path)


def complete_manifest(folder: Path) -> Manifest:
    """The manifest of a dataset whose files are all there. Raises DatasetError where one is missing or of another size."""
    manifest = load_manifest(folder)
    for name, entry in manifest.files.items():
        path = folder / name
        if not path.is_file() or path.stat().st_size != entry.bytes:
            raise DatasetError(
                f"{path}: missing, or of another size than the manifest says; build anew with --overwrite"
            )
    return manifest


def _plan_or_none(folder: Path) -> Plan | None:
    try:
        return read_plan(folder)
    except DatasetError:
        return None


def _facts(manifest: Manifest) -> dict[str, Any]:
    """What `Plan.facts` are of the plan that a dataset was made by."""
    inputs = [asdict(each) for each in manifest.inputs]
    return {"config": manifest.config, "inputs": inputs, "tokenizer": manifest.tokenizer}


def _refusal(folder: Path, what: str, version: str, old: dict[str, Any], plan: Plan) -> DatasetError:
    """Name what differs between the plan and what is in the folder."""
    differing = _differing(version, old, plan) or "order of the inputs"
    return DatasetError(f"{folder}: {what} another {differing}; use --overwrite, or another folder")


def what_differs(plan: Plan, manifest: Manifest) -> str:
    """In what a dataset made by the plan would be another than the manifest's, in words; nothing where it is the same."""
    if manifest.fingerprint == plan.fingerprint:
        return ""
    return _differing(manifest.sftprep, _facts(manifest), plan) or "order of the inputs"


def _differing(version: str, old: dict[str, Any], plan: Plan) -> str:
    new = plan.facts()
    changed = [] if version == __version__ else [f"sftprep version ({version}, now {__version__})"]
    for name, value in new["config"].items():
        before = old["config"].get(name)
        if before != value:
            shown = "" if name == "chat_template" else f" ({before!r}, now {value!r})"
            changed.append(f"option {name.replace('_', '-')}{shown}")
    if old["tokenizer"] != new["tokenizer"]:
        changed.append("tokenizer or its template")
    old_inputs = {each["name"]: (each["sha256"], each["set"]) for each in old["inputs"]}
    new_inputs = {each["name"]: (each["sha256"], each["set"]) for each in new["inputs"]}
    names = sorted(old_inputs.keys() | new_inputs.keys())
    changed += [f"input {name}" for name in names if old_inputs.get(name) != new_inputs.get(name)]
    return ", ".join(changed)


def _forget(folder: Path) -> None:
    """Remove an unfinished build: receipts first, so that nobody takes the rest for work done. Its plan stays until
    another one takes its place."""
    for name in (*WORK_FOLDERS, *(f"{start}-*" for start in SETS.values())):
        remove_own(folder, name)


def read_plan(folder: Path) -> Plan:
    """The plan in a folder. Raises DatasetError where there is none."""
    path = folder / PLAN
    if not has_plan(folder):
        raise _no_plan(folder)
    with naming(path):
        return Plan.from_bytes(path.read_bytes(), path)


def _no_plan(folder: Path) -> DatasetError:
    what = "no plan here; make one with `sftprep plan` or `sftprep build`" if folder.is_dir() else "no such folder"
    return DatasetError(f"{folder}: {what}")


def read_passed_over(folder: Path) -> tuple[PassedOver, ...]:
    """What the plan under way for `folder` passes over; nothing where there is none."""
    target = work_folder(folder)
    return read_plan(target).passed_over if has_plan(target) else ()


def clean_up(folder: Path) -> None:
    """Remove what only an unfinished build needs, its plan last; without a plan nothing of it is there."""
    if has_plan(folder):
        remove_own(folder, *WORK_FOLDERS)
        remove_temporaries(folder)
        remove_own(folder, PLAN)
