"""A dataset -> what is counted of it.

Of each shard only the provenance is read, one after another; what stays in memory are numbers and how often each of them was
seen, for at most MOST_NAMED sources and as many groups.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sftprep.dataset.manifest import REJECTS, Manifest, load_manifest
from sftprep.dataset.origins import Origins, read_origins
from sftprep.dataset.rejects import ReasonCount, Reasons, read_rejects
from sftprep.statistics.advice import advice_on
from sftprep.statistics.distribution import Distribution
from sftprep.statistics.measures import DatasetStatistics, Measures, measure
from sftprep.statistics.padding import Padding, packed_rows
from sftprep.unread import OTHERS

MOST_NAMED = 1000  # sources, and groups, that are counted by themselves
_TOGETHER = 16  # parts that are added up at once


def statistics_of(
    folder: Path, progress: Callable[[int], None] | None = None, also: Callable[[Origins], None] | None = None
) -> DatasetStatistics:
    """All that is counted of the dataset in a folder, and advice.

    progress: is told how many more shards were read. also: is shown what is read of each, in the manifest's order. Raises DatasetError where it is none, or damaged.
    """
    manifest = load_manifest(folder)
    largest = sorted(manifest.inputs, key=lambda each: (-each.records, each.name))[:MOST_NAMED]
    gathered = _Gathered(manifest, _Parts({each.name for each in largest}))
    for shard in manifest.shards:
        path = folder / shard.provenance
        origins = read_origins(path, manifest.files[path.name].bytes, shard.segments)
        gathered.add(shard.set, origins)
        if also:
            also(origins)
        if progress:
            progress(1)
    gathered.add_rejects(folder / REJECTS)
    found = gathered.statistics()
    return replace(found, advice=advice_on(manifest, found))


@dataclass(slots=True)
class _Part:
    measures: list[Measures] = field(default_factory=list)
    lost: Reasons = field(default_factory=Reasons)


class _Parts:
    """Parts of a dataset by name: those of some names, or of the first MOST_NAMED that come; all others are one."""

    def __init__(self, known: Collection[str] | None = None) -> None:
        self._known, self._parts = known, dict[str, _Part]()

    def add(self, names: Sequence[str], found: Sequence[Measures]) -> None:
        """Add what was found of each."""
        for name, each in zip(names, found, strict=True):
            measures = self._of(name).measures
            measures.append(each)
            if len(measures) >= _TOGETHER:
                measures[:] = [Measures.joined(measures)]

    def lose(self, name: str, reason: ReasonCount) -> None:
        """Add a record that is in no shard."""
        self._of(name).lost.add(reason)

    def joined(self) -> dict[str, Measures]:
        """All of each, those with most tokens first, and the others that are one last."""
        found = {
            name: replace(Measures.joined(part.measures), lost=tuple(part.lost.ordered()))
            for name, part in self._parts.items()
        }
        return dict(sorted(found.items(), key=lambda each: (each[0] == OTHERS, -each[1].tokens, each[0])))

    def _of(self, name: str) -> _Part:
        known = self._parts if self._known is None else self._known
        has_room = self._known is None and len(self._parts) < MOST_NAMED
        return self._parts.setdefault(name if has_room or name in known else OTHERS, _Part())


class _Gathered:
    """What was counted so far."""

    def __init__(self, manifest: Manifest, sources: _Parts) -> None:
        self._manifest, self._by = manifest, manifest.config.get("by")
        self._sets, self._sources, self._groups = _Parts(), sources, _Parts()
        self._lost, self._too_long, self._filled = Reasons(), Counter[int](), 0

    def add(self, of: str, origins: Origins) -> None:
        """Count a shard of a set."""
        names, codes = _coded(origins["source"])
        firsts = _firsts(origins["byte_offset"], codes)
        split = self._manifest.config.get("overflow") == "split"
        parts = measure(origins, firsts, codes, len(names), in_pieces=split)
        self._sources.add(names, parts)
        self._sets.add([of], [Measures.joined(parts)])
        if self._by is not None:
            names, codes = _coded(origins["group"])
            self._groups.add(names, measure(origins, firsts, codes, len(names), in_pieces=split))
        self._filled += int(np.maximum(origins["tokens"].astype(np.int64) - 1, 0).sum())

    def add_rejects(self, path: Path) -> None:
        """Count the records that are in no shard."""
        for line in read_rejects(path):
            reason = line.counted()
            self._lost.add(reason)
            self._sources.lose(line.source, reason)
            if self._by is not None and line.group is not None:
                self._groups.lose(line.group, reason)
            if line.tokens_in_all is not None:
                self._too_long[line.tokens_in_all] += 1

    def statistics(self) -> DatasetStatistics:
        """All of it; the advice is still to come."""
        sets = self._sets.joined()
        whole = replace(Measures.joined(sets.values()), lost=tuple(self._lost.ordered()))
        sets = {name: sets.get(name, Measures()) for name in self._manifest.sets}
        groups, too_long = self._groups.joined(), Distribution.counted(self._too_long)
        padding = self._padding(whole)
        return DatasetStatistics(whole, sets, self._sources.joined(), groups, self._by, too_long, padding)

    def _padding(self, whole: Measures) -> Padding:
        manifest, places, size = self._manifest, 0, 0
        for shard in manifest.shards:
            arrays = manifest.arrays(shard)
            places += math.prod(next(iter(arrays.values())).shape)
            size += sum(manifest.files[name].bytes for name in arrays if ".segments." not in name)
        packed = None
        if manifest.layout == "padded":
            kept = whole.lengths.cut(manifest.width + 1)
            packed = packed_rows(Distribution(np.maximum(kept.values - 1, 0), kept.counts), manifest.width)
        filled = self._filled if manifest.width else places  # where there are no rows, nothing is filled up
        return Padding(manifest.totals["rows"], places, filled, size, packed)


def _coded(names: npt.NDArray[Any]) -> tuple[list[str], npt.NDArray[np.int32]]:
    """The different names, and of each entry the index of its name among them."""
    known: dict[str, int] = {}
    codes = np.fromiter((known.setdefault(name, len(known)) for name in names), np.int32, len(names))
    return list(known), codes


def _firsts(offsets: npt.NDArray[np.int64], sources: npt.NDArray[np.int32]) -> npt.NDArray[np.bool_]:
    """(S,) True at the first segment of each record, by where records stand."""
    order = np.lexsort((offsets, sources))
    repeats = (np.diff(offsets[order]) == 0) & (np.diff(sources[order]) == 0)
    firsts = np.ones(len(offsets), np.bool_)
    firsts[order[1:][repeats]] = False
    return firsts
