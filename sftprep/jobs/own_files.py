"""Which files of an output folder are sftprep's: those that its plan or its manifest vouches for. No others are removed.

Beside a plan that is whatever has the whole name of a file that sftprep makes; beside a manifest, what it lists; without
either, what a build leaves that is killed before it has a plan.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from sftprep.dataset.folders import LOCK_NAME, is_lock
from sftprep.dataset.manifest import MANIFEST, load_manifest
from sftprep.dataset.receipt import KEYS, RECEIPTS, REJECTS_FOLDER
from sftprep.dataset.staged import naming
from sftprep.errors import DatasetError, SftprepError

PLAN = "plan.json"
_MARK = b'"sftprep'  # in every plan and manifest: the version that made it, their format
_HEAD = b'{\n "checksum": '
WORK_FOLDERS = (RECEIPTS, REJECTS_FOLDER, KEYS)  # in the folder, while the work is under way
_SHARD = r"(?:shard|validation)-\d{5,}"
_DATASET = rf"manifest\.json|rejects\.jsonl|{_SHARD}\.(?:(?:X|Y|mask|segments)\.npy|provenance\.parquet)"
_KEYS = rf"{_SHARD}\.keys|\d{{5,}}\.(?:contents|repeats)"


def _shares(staged: str) -> str:
    """What is in the work folders; or what is staged there."""
    return rf"receipts/{staged}\d{{5,}}\.json|rejects/{staged}\d{{5,}}\.jsonl|keys/{staged}(?:{_KEYS})"


_STAGED = r"\.tmp-\d+-[0-9a-f]+-"  # as `staged.StagedFile` makes them
_HALF_PLAN = re.compile(rf"{_STAGED}plan\.json")
_TEMPORARY = re.compile(rf"{_STAGED}(?:plan\.json|{_DATASET})|{_shares(_STAGED)}")
_PLANNED = re.compile(rf"{'|'.join(WORK_FOLDERS)}|plan\.json|{_DATASET}|{_shares('')}|{_TEMPORARY.pattern}")


def has_plan(folder: Path) -> bool:
    """Whether a plan of sftprep's is in the folder, whole or damaged."""
    return _is_ours(folder / PLAN)


def has_manifest(folder: Path) -> bool:
    """Whether a manifest of sftprep's is in the folder, whole or damaged."""
    return _is_ours(folder / MANIFEST)


def refuse_strangers(folder: Path) -> None:
    """Raise DatasetError where the folder is no folder, or holds what is not sftprep's."""
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"{folder}: not a folder")
    strangers = [path.relative_to(folder) for path, own in _entries(folder) if not own]
    if strangers and (has_plan(folder) or has_manifest(folder)):
        raise DatasetError(
            f"{folder}: would be replaced, and holds {strangers[0]}, which is not sftprep's; move it away"
        )
    if strangers:
        raise DatasetError(
            f"{folder}: not empty and no dataset of sftprep (it holds {strangers[0]}); choose another folder"
        )


def refuse_to_replace(folder: Path) -> None:
    """Raise DatasetError where the folder may not be replaced by another: strangers, a link, or the place of the call."""
    if folder.is_symlink():
        raise DatasetError(f"{folder}: a link, which cannot be replaced; name the folder itself")
    with naming(folder):  # the place of the call may be gone
        place = Path.cwd()
    if place.is_relative_to(os.path.realpath(folder)):
        raise DatasetError(f"{folder}: would be replaced, and this is run in it; run it elsewhere")
    refuse_strangers(folder)


def remove_temporaries(folder: Path) -> None:
    """Remove what killed writers left behind. Only for the holder of the folder's lock."""
    for path, own in _entries(folder):
        if own and _TEMPORARY.fullmatch(path.relative_to(folder).as_posix()):
            _unlink(path)


def remove_own(folder: Path, *patterns: str) -> None:
    """Remove those of sftprep's files in a folder whose names match one of the patterns, subfolders with their files."""
    own = [path for path, own in _entries(folder) if own]
    doomed = [path for path in own if any(fnmatch(path.relative_to(folder).parts[0], each) for each in patterns)]
    inside_first = sorted(doomed, reverse=True)
    for path in sorted(inside_first, key=lambda path: path.name in (PLAN, MANIFEST)):  # what vouches for the rest, last
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):  # it holds a stranger
                path.rmdir()
        else:
            _unlink(path)


def remove_folder(folder: Path) -> None:
    """Remove what is sftprep's in a folder, and the folder if nothing else is in it."""
    if not folder.is_symlink():
        remove_own(folder, "*")
        with suppress(OSError):
            folder.rmdir()


def _is_ours(path: Path) -> bool:
    """Whether a plan or manifest is of sftprep: whole or half or damaged, by how it begins or by what is said in it."""
    with naming(path):
        data = path.read_bytes() if path.is_file() else b"?"
    return _MARK in data or _HEAD.startswith(data[: len(_HEAD)].rstrip(b"\0"))  # room is made before it is written


def _entries(folder: Path) -> Iterator[tuple[Path, bool]]:
    """What is in a folder, and whether it is sftprep's; what is in a stranger's folder is not looked at."""
    if not folder.is_dir():
        return
    vouched = _vouched(folder)
    with naming(folder):
        paths = sorted(folder.iterdir())
    for path in paths:
        is_folder = path.is_dir() and not path.is_symlink()
        own = is_lock(path) if path.name == LOCK_NAME else vouched(path.name)
        own = own and is_folder == (path.name in WORK_FOLDERS)
        yield path, own
        if own and is_folder:
            with naming(path):
                inner = sorted(path.iterdir())
            for each in inner:
                yield each, vouched(f"{path.name}/{each.name}") and (each.is_symlink() or not each.is_dir())


def _vouched(folder: Path) -> Callable[[str], bool]:
    """Tells whether what has that name in the folder is sftprep's."""
    if has_plan(folder):
        return lambda name: bool(_PLANNED.fullmatch(name))
    if not has_manifest(folder):
        return lambda name: bool(_HALF_PLAN.fullmatch(name)) and _is_ours(folder / name)
    try:
        listed = {MANIFEST, *load_manifest(folder).files}
    except SftprepError:  # damaged, or of another version
        return lambda name: bool(re.fullmatch(_DATASET, name))
    return listed.__contains__


def _unlink(path: Path) -> None:
    with naming(path):
        path.unlink(missing_ok=True)
