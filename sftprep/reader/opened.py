"""A dataset's folder, opened: its manifest, one set of its shards, and their files, mapped one shard at a time.

Opening looks at the names and sizes of all files, in one listing; what a file says of itself is read when it is mapped.
No descriptor is kept: a process may have 256 of them, and a dataset thousands of files.
"""

from __future__ import annotations

import math
import mmap
import os
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any, BinaryIO

import numpy.typing as npt
import torch

from sftprep.dataset.manifest import MANIFEST, REJECTS, ShardEntry, load_manifest
from sftprep.dataset.safe_open import map_file, open_array, open_file
from sftprep.errors import DatasetError

X, Y, MASK, SEGMENTS = "X", "Y", "mask", "segments"  # the arrays of a shard
_HEADER = 128  # bytes that numpy writes before the data of any array of a dataset
_BOOL, _WEIGHTS = "|b1", "<f4"  # what a mask may be


class OpenedFolder:
    """A set of a dataset. It may be pickled: no file is open, nothing mapped.

    Raises DatasetError, naming the file, where one is missing, no regular file, or of another size than the manifest says.
    """

    def __init__(self, folder: Path, set: str) -> None:
        self.folder = folder
        while True:  # once more if another dataset takes its place meanwhile
            self._identity = _identity(folder)
            self.manifest = load_manifest(folder)
            self.shards = self.manifest.shards_of(set, folder)
            try:
                self._check_files()
                self._masks = [self._mask_dtype(shard) for shard in self.shards]
                break
            except DatasetError:
                if not self._is_replaced():
                    raise

    @property
    def weighted(self) -> bool:
        """Whether a mask holds weights other than 0 and 1."""
        return _WEIGHTS in self._masks

    def map_arrays(self, number: int, which: Sequence[str]) -> tuple[npt.NDArray[Any], ...]:
        """Those arrays of a shard, read-only, no element read. Raises DatasetError where a file is another than the manifest
        says, or where another dataset has taken the place of this one."""
        try:
            return tuple(self._map(self.shards[number], each, self._masks[number]) for each in which)
        finally:
            if self._is_replaced():
                raise DatasetError(f"{self.folder}: another dataset has taken its place; open it again")

    def _map(self, shard: ShardEntry, which: str, *mask_dtypes: str) -> npt.NDArray[Any]:
        name = f"{shard.name}.{which}.npy"
        form = self.manifest.arrays(shard)[name]
        dtypes = mask_dtypes if which == MASK else form.dtypes
        size = self.manifest.files[name].bytes
        return open_array(self.folder / name, size, form.shape, dtypes, map_without_descriptor)

    def _mask_dtype(self, shard: ShardEntry) -> str:
        """Its size tells, unless a program other than this one wrote it."""
        name = f"{shard.name}.{MASK}.npy"
        form = self.manifest.arrays(shard)[name]
        places = math.prod(form.shape)
        by_size = {_HEADER + places: _BOOL, _HEADER + 4 * places: _WEIGHTS}
        size = self.manifest.files[name].bytes
        return by_size[size] if size in by_size else self._map(shard, MASK, _BOOL, _WEIGHTS).dtype.str

    def _check_files(self) -> None:
        """By the folder's listing; a file that is not as it should be there is opened, which says what is wrong with it."""
        with os.scandir(self.folder) as entries:
            found = {entry.name: entry for entry in entries}
        for name in self._file_names():
            size = self.manifest.files[name].bytes
            entry = found.get(name)
            if (
                not entry
                or not entry.is_file(follow_symlinks=False)
                or entry.stat(follow_symlinks=False).st_size != size
            ):
                with open_file(self.folder / name, size):
                    pass

    def _file_names(self) -> Iterator[str]:
        for shard in self.shards:
            yield from self.manifest.arrays(shard)
            yield shard.provenance
        yield REJECTS

    def _is_replaced(self) -> bool:
        """Whether the folder holds another dataset by now."""
        identity = _identity(self.folder)
        if identity == self._identity:
            return False
        if load_manifest(self.folder).fingerprint != self.manifest.fingerprint:
            return True
        self._identity = identity  # a copy of the same
        return False


def _identity(folder: Path) -> tuple[int, int] | None:
    """Tells a manifest from one that took its place; None where there is none."""
    try:
        status = (folder / MANIFEST).stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


@cache
def most_maps() -> int:
    """How many files a dataset may have mapped: half of the maps that Linux lets a process have; where a map keeps a
    descriptor, half of 256."""
    if sys.version_info < (3, 13) and os.name != "nt" and not Path("/dev/fd").is_dir():
        return 128
    try:
        return int(Path("/proc/sys/vm/max_map_count").read_text(encoding="ascii")) // 2
    except (OSError, ValueError):
        return 2**15


def map_without_descriptor(file: BinaryIO, size: int) -> Any:
    """`map_file`, which in Python before 3.13 keeps a descriptor as long as the map. torch maps a file by its name: here by
    the name that the system gives to the open file itself, so that it is the file that was checked."""
    if sys.version_info >= (3, 13):
        return mmap.mmap(file.fileno(), size, access=mmap.ACCESS_READ, trackfd=False)
    try:
        mapped = torch.from_file(f"/dev/fd/{file.fileno()}", shared=False, size=size, dtype=torch.uint8).numpy()
    except RuntimeError:  # no such names on this system, or it shrank
        return map_file(file, size)
    mapped.flags.writeable = False
    return mapped
