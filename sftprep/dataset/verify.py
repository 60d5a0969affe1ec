"""Is a dataset on disk what its manifest says, and does it agree with itself?

Every file is hashed in blocks; then each whole shard is mapped and walked a few thousand rows at a time, so memory stays
bounded whatever the dataset's size. Nothing stops at the first problem: every wrong file is named.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sftprep.dataset.manifest import MANIFEST, REJECTS, SETS, Manifest, ShardEntry, load_manifest
from sftprep.dataset.origins import read_origins
from sftprep.dataset.receipt import REJECT_KINDS
from sftprep.dataset.rejects import count_reasons
from sftprep.dataset.safe_open import open_array, open_file
from sftprep.errors import SftprepError
from sftprep.layouts.kinds import layout
from sftprep.layouts.types import WrongEntry, blocks
from sftprep.masks.kinds import MASKS

_BLOCK_BYTES = 1 << 20
_AXES = {1: ("position",), 2: ("row", "column")}
Array = npt.NDArray[Any]


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, and the name of the file that is at fault."""

    file: str
    what: str


def verify_dataset(folder: Path, *, fast: bool = False, progress: Callable[[int], None] | None = None) -> list[Problem]:
    """All problems of the dataset in `folder`, in the manifest's order; an empty list if it is sound.

    `fast` looks at the manifest, sizes and headers only. `progress` is called with the number of bytes just hashed;
    together they make the sum of the manifest's file sizes if all files have their size.
    """
    try:
        manifest = load_manifest(folder)
    except SftprepError as error:
        return [_problem(folder / MANIFEST, error)]
    check = _Check(folder, manifest, fast, progress or (lambda size: None))
    check.run()
    return check.problems


class _Check:
    """One walk over a dataset: collects problems, and what the shards hold in numbers."""

    def __init__(self, folder: Path, manifest: Manifest, fast: bool, progress: Callable[[int], None]) -> None:
        self.problems: list[Problem] = []
        self._folder, self._manifest, self._fast, self._progress = folder, manifest, fast, progress
        totals = dict.fromkeys(("conversations", "examples", "tokens", "trained_tokens", "truncated"), 0)
        self._found = {name: Counter(totals) for name in manifest.sets}

    def run(self) -> None:
        self._strangers()
        rejected = self._rejects()
        whole = [self._shard(shard) for shard in self._manifest.shards]
        if not self._fast and rejected is not None and all(whole):
            self._totals(rejected)

    def _strangers(self) -> None:
        """Files that look like part of the dataset and are not: what a reader of `shard-*` would trip over."""
        starts = tuple(f"{start}-" for start in SETS.values())
        for path in sorted(self._folder.iterdir()):
            if path.name.startswith(starts) and path.name not in self._manifest.files:
                self.problems.append(Problem(path.name, "not in the manifest"))

    def _rejects(self) -> Counter[str] | None:
        """How many records of each kind are listed as in no shard (none if `fast`); None where the file is wrong."""
        if not self._read_file(REJECTS):
            return None
        kinds: Counter[str] = Counter()
        try:
            for reason in () if self._fast else count_reasons(self._folder / REJECTS):
                kinds[reason.kind] += reason.count
        except SftprepError as error:
            self.problems.append(_problem(self._folder / REJECTS, error))
            return None
        return kinds

    def _read_file(self, name: str) -> bool:
        """Check size and hash; True if they are right (without the hash if `fast`)."""
        entry = self._manifest.files[name]
        path = self._folder / name
        digest = hashlib.sha256()
        try:
            with open_file(path, entry.bytes) as file:
                while not self._fast and (block := file.read(_BLOCK_BYTES)):
                    digest.update(block)
                    self._progress(len(block))
        except SftprepError as error:
            self.problems.append(_problem(path, error))
            return False
        if not self._fast and digest.hexdigest() != entry.sha256:
            self.problems.append(Problem(name, "its sha256 is not the manifest's: bytes were changed"))
            return False
        return True

    def _shard(self, shard: ShardEntry) -> bool:
        """Check one shard's files; True if nothing is wrong with them."""
        before = len(self.problems)
        arrays: dict[str, Array] = {}
        for name, form in self._manifest.arrays(shard).items():
            if not self._read_file(name):
                continue
            try:
                size = self._manifest.files[name].bytes
                kind = name.split(".")[-2]
                arrays[kind] = open_array(self._folder / name, size, form.shape, form.dtypes)
            except SftprepError as error:
                self.problems.append(_problem(self._folder / name, error))
        self._read_file(shard.provenance)
        if not self._fast and len(self.problems) == before:
            segments = arrays.pop("segments")
            self.problems += _segment_problems(shard, self._manifest, segments, arrays["X"].shape)
            if len(self.problems) == before:
                self.problems += _row_problems(shard, self._manifest, arrays, segments)
                trained = layout(self._manifest.layout).count_trained(arrays["mask"], segments)
                self._provenance(shard, segments, trained)
        return len(self.problems) == before

    def _provenance(self, shard: ShardEntry, segments: Array, trained: Array) -> None:
        """Each segment's origin and counts, against segments, (S, 3), and `trained`, (S,) targets of each. Adds to what was found."""
        path = self._folder / shard.provenance
        try:
            columns = read_origins(path, self._manifest.files[path.name].bytes, len(segments))
        except SftprepError as error:
            self.problems.append(_problem(path, error))
            return
        names = {each.name for each in self._manifest.inputs if each.set in ("train", shard.set)}
        wrong = {
            "a source that is not among the inputs": np.array([each not in names for each in columns["source"]]),
            "a line below 1": columns["line"] < 1,
            "a negative byte offset": columns["byte_offset"] < 0,
            "a token count that is not its segment's": np.maximum(columns["tokens"] - 1, 0) != segments[:, 2],
            "a trained count that is not the mask's": columns["trained_tokens"] != trained,
            "cut off are more tokens than there were": columns["tokens"] > columns["tokens_in_all"],
            "truncated, or not, against its token counts": _truncated_otherwise(columns, self._manifest),
            "a negative number of turns": columns["turns"] < 0,
            "a group, but no --by was asked for": (columns["group"] != "") & (self._manifest.config.get("by") is None),
            "truncated, but the row is not full": columns["truncated"] & self._is_short(columns["tokens"]),
        }
        for what, bad in wrong.items():
            if bad.any():
                self.problems.append(Problem(shard.provenance, f"segment {np.argmax(bad)}: {what}"))
        found = self._found[shard.set]
        found["examples"] += len(segments)
        found["conversations"] += len(set(zip(columns["source"], columns["byte_offset"], strict=True)))
        for name in ("tokens", "trained_tokens", "truncated"):
            found[name] += int(columns[name].sum(dtype=np.int64))

    def _is_short(self, tokens: Array) -> Array:
        """(S,) True where more would have fitted into a row, of segments that are cut at the row's end."""
        config = self._manifest.config
        cut_there = config.get("overflow") == "truncate" and config.get("max_length") is not None
        return (tokens < config["max_length"]) if cut_there else np.zeros(len(tokens), np.bool_)

    def _totals(self, rejects: Counter[str]) -> None:
        whole = Counter({total: rejects[kind] for kind, total in REJECT_KINDS.items()})
        for name, found in self._found.items():
            self._compare(f"sets: {name}: ", self._manifest.sets[name], found)
            whole.update(found)
        whole["records"] = whole["conversations"] + rejects.total()
        self._compare("totals: ", self._manifest.totals, whole)

    def _compare(self, what: str, totals: Mapping[str, int], found: Mapping[str, int]) -> None:
        for name, count in found.items():
            if totals.get(name, count) != count:
                self.problems.append(Problem(MANIFEST, f"{what}{name} {totals[name]:,}; the files hold {count:,}"))


def _truncated_otherwise(columns: Mapping[str, Array], manifest: Manifest) -> Array:
    """(S,) True where a segment cannot be truncated, or has to be: one piece of several is not for being shorter than all."""
    shorter = columns["tokens"] < columns["tokens_in_all"]
    if manifest.config.get("overflow") == "split":
        return columns["truncated"] & ~shorter
    wrong: Array = columns["truncated"] != shorter
    return wrong


def _problem(path: Path, error: SftprepError) -> Problem:
    return Problem(path.name, str(error).removeprefix(f"{path}: "))


def _segment_problems(
    shard: ShardEntry, manifest: Manifest, segments: Array, shape: tuple[int, ...]
) -> Iterator[Problem]:
    """What is wrong with segments, (S, 3), of an X of that shape: the first one of each kind."""
    for what, wrong in layout(manifest.layout).wrong_segments(segments, shape).items():
        if wrong.any():
            yield Problem(f"{shard.name}.segments.npy", f"segment {np.argmax(wrong)} {what}")


def _row_problems(
    shard: ShardEntry, manifest: Manifest, arrays: Mapping[str, Array], segments: Array
) -> Iterator[Problem]:
    """What arrays of a sound build cannot hold: the first place of each kind."""
    kind = MASKS.get(str(manifest.config.get("mask")))
    pads_trained = kind is not None and kind.rule is not None
    check = layout(manifest.layout).wrong_entries
    seen = set()
    for array, place, what in chain(
        check(arrays, segments, manifest.pad_id, pads_trained=pads_trained), _wrong_weights(arrays["mask"])
    ):
        if what not in seen:
            seen.add(what)
            where = ", ".join(f"{name} {at}" for name, at in zip(_AXES[len(place)], place, strict=True))
            yield Problem(f"{shard.name}.{array}.npy", f"{where}: {what}")


def _wrong_weights(mask: Array) -> Iterator[WrongEntry]:
    for begin, some in blocks(mask):
        wrong = ~((some >= 0) & (some < np.inf))
        if wrong.any():
            first, *others = map(int, np.unravel_index(np.argmax(wrong), wrong.shape))
            yield WrongEntry("mask", (begin + first, *others), "is no weight")
