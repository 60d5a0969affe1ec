"""Which files of an output folder are sftprep's, by their whole names: no others are ever removed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from fnmatch import fnmatch
from pathlib import Path

from sftprep.errors import DatasetError
from sftprep.storage import LOCK_NAME, naming

_FILE = r"manifest\.json|plan\.json|rejects\.jsonl|shard-\d{5,}\.(?:(?:X|Y|mask|segments)\.npy|provenance\.parquet)"
_SHARES = r"receipts/(?:{0}\d{{5,}}\.json)|rejects/(?:{0}\d{{5,}}\.jsonl)"
_STAGED = r"\.tmp-\d+-[0-9a-f]+-"  # as `storage.StagedFile` makes them
_TEMPORARY = re.compile(rf"{_STAGED}(?:{_FILE})|{_SHARES.format(_STAGED)}")
_OWN = re.compile(rf"receipts|rejects|\.lock|{_FILE}|{_SHARES.format('')}|{_TEMPORARY.pattern}")
_MARKS = {"manifest.json": b'"sftprep"', "plan.json": b'"sftprep-plan"'}  # what these hold if they are sftprep's


def refuse_strangers(folder: Path, *, begun: bool = True) -> None:
    """Raise DatasetError where the folder is no folder, or holds what is not sftprep's.

    begun: False where there is no work of sftprep's in it yet that anybody knows of: then only what the beginning of a
    build leaves when it is killed may be there.
    """
    if folder.exists() and not folder.is_dir():
        raise DatasetError(f"{folder}: not a folder")
    if begun and folder.is_symlink():
        raise DatasetError(f"{folder}: a link, which cannot be replaced; name the folder itself")
    for path, own in _entries(folder):
        name = path.relative_to(folder).as_posix()
        if begun and not own:
            raise DatasetError(f"{folder}: would be replaced, and holds {name}, which is not sftprep's; move it away")
        if not begun and name != LOCK_NAME and not _TEMPORARY.fullmatch(name):
            raise DatasetError(
                f"{folder}: not empty and no dataset of sftprep (it holds {name}); choose another folder"
            )
    for name, mark in _MARKS.items() if begun else ():
        path = folder / name
        if path.is_file() and mark not in path.read_bytes() and not any(folder.glob("shard-*")):
            raise DatasetError(f"{path}: not of sftprep; choose another folder")


def remove_temporaries(folder: Path) -> None:
    """Remove what killed writers left behind. Only for the holder of the folder's lock."""
    for path, _ in _entries(folder):
        if _TEMPORARY.fullmatch(path.relative_to(folder).as_posix()):
            _unlink(path)


def remove_own(folder: Path, *patterns: str) -> None:
    """Remove those of sftprep's files in a folder whose names match one of the patterns, subfolders with their files."""
    own = [path for path, own in _entries(folder) if own]
    doomed = [path for path in own if any(fnmatch(path.relative_to(folder).parts[0], each) for each in patterns)]
    for path in sorted(doomed, reverse=True):  # what is in a folder before the folder
        if path.is_dir() and not path.is_symlink():
            with suppress(OSError):  # it holds a stranger
                path.rmdir()
        else:
            _unlink(path)


def remove_folder(folder: Path) -> None:
    """Remove a folder of sftprep's, if it is there. Raises DatasetError, and removes nothing, if it holds anything else."""
    refuse_strangers(folder)
    remove_own(folder, "*")
    if folder.is_dir():
        with naming(folder):
            folder.rmdir()


def _entries(folder: Path) -> Iterator[tuple[Path, bool]]:
    """What is in a folder, and whether it is sftprep's; what is in a stranger's folder is not looked at."""
    if not folder.is_dir():
        return
    with naming(folder):
        paths = sorted(folder.iterdir())
    for path in paths:
        is_folder = path.is_dir() and not path.is_symlink()
        own = bool(_OWN.fullmatch(path.name)) and is_folder == (path.name in ("receipts", "rejects"))
        yield path, own
        if own and is_folder:
            with naming(path):
                inner = sorted(path.iterdir())
            for each in inner:
                own = bool(_OWN.fullmatch(f"{path.name}/{each.name}"))
                yield each, own and (each.is_symlink() or not each.is_dir())


def _unlink(path: Path) -> None:
    with naming(path):
        path.unlink(missing_ok=True)
