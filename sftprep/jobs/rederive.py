"""Derives a sample of a dataset's rows anew from the inputs it was made from, and compares."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from sftprep.batches.prepare import Preparer
from sftprep.config import BuildConfig
from sftprep.containers.files import find_sources
from sftprep.containers.splits import read_records
from sftprep.dataset.manifest import MANIFEST, Manifest, ShardEntry, load_manifest, open_rows
from sftprep.dataset.origins import Origins, Provenance, read_origins
from sftprep.dataset.receipt import shard_file
from sftprep.dataset.shard_writer import ARRAYS
from sftprep.dataset.verify import Problem
from sftprep.errors import ConfigError, DatasetError
from sftprep.jobs.plan import Plan, make_plan
from sftprep.unread import OTHERS

Origin = tuple[str, int]  # a record's source and byte offset
SAMPLED_SHARDS = 16
SAMPLED = 32  # conversations of each sampled shard


def verify_source(folder: Path, sources: Sequence[str], tokenizer: str) -> list[Problem]:
    """Derive a sample of rows again from the inputs, by the reference engine and both ways of masking.

    Names inputs, tokenizer or template that are not those of the manifest; else shards whose rows differ.
    Raises SftprepError where inputs or tokenizer cannot be read.
    """
    manifest = load_manifest(folder)
    config = stated_config(folder, manifest, tokenizer)
    if config.width != manifest.width:
        raise DatasetError(f"{folder / MANIFEST}: 'width' is not that of its 'config'")
    plan, toolbox = make_plan(replace(config, **_by_set(manifest, sources)))
    problems = list(_changes(plan, manifest))
    if problems:
        return problems
    preparer = Preparer(plan.config, toolbox, [source.name for source in plan.sources], check_every=1)
    chosen = np.unique(np.linspace(0, len(manifest.shards) - 1, SAMPLED_SHARDS).astype(int))
    for shard in (manifest.shards[index] for index in chosen):
        problems += _compare(folder, manifest, plan, shard, preparer)
    return problems


def stated_config(folder: Path, manifest: Manifest, tokenizer: str) -> BuildConfig:
    """The options of the build that made a dataset, for the reference engine. Raises DatasetError where they are others than
    there are."""
    try:
        return BuildConfig(inputs=(), tokenizer=tokenizer, tokenizer_engine="hf", **manifest.config)
    except (ConfigError, TypeError) as error:
        raise DatasetError(f"{folder / MANIFEST}: 'config' is not what this version writes") from error


def _by_set(manifest: Manifest, sources: Sequence[str]) -> dict[str, Any]:
    """The inputs, and those that are a set of their own in the manifest. Raises InputError."""
    held_out = {each.name for each in manifest.inputs if each.set == "validation"}
    found = find_sources(sources).sources
    validation = tuple(each.path for each in found if each.name in held_out)
    if not validation or len(validation) == len(found):
        return {"inputs": tuple(sources)}
    return {"inputs": tuple(each.path for each in found if each.name not in held_out), "validation_input": validation}


def _changes(plan: Plan, manifest: Manifest) -> Iterator[Problem]:
    stated = {each.name: each.sha256 for each in manifest.inputs}
    given = {each.name: each.sha256 for each in plan.sources}
    for name in sorted(stated.keys() | given.keys()):
        if name not in given:
            yield Problem(name, "was read for this dataset, and is not among the inputs given")
        elif name not in stated:
            yield Problem(name, "was not read for this dataset")
        elif stated[name] != given[name]:
            yield Problem(name, "is not the file that was read: its sha256 differs")
    for key, value in plan.tokenizer.items():
        if manifest.tokenizer.get(key) != value:
            yield Problem(MANIFEST, f"made with another tokenizer: {key} differs")


def _compare(folder: Path, manifest: Manifest, plan: Plan, shard: ShardEntry, preparer: Preparer) -> Iterator[Problem]:
    """Conversations of one shard, spread over it, against what their records give now."""
    task = next(task for task in range(len(plan.splits)) if plan.shard_names(task).get(shard.set) == shard.name)
    path = shard_file(folder, shard.name, "provenance")
    origins = read_origins(path, path.stat().st_size, shard.segments)
    chosen = np.unique(np.linspace(0, shard.segments - 1, SAMPLED).astype(int)).tolist()
    places = list(zip(origins["source"].tolist(), origins["byte_offset"].tolist(), strict=True))
    wanted: dict[Origin, list[int]] = {places[each]: [] for each in chosen}  # record -> its segments
    for number, place in enumerate(places):
        if place in wanted:
            wanted[place].append(number)
    records = [
        record
        for record in read_records(plan.splits[task], plan.sources, plan.config.selection)
        if (plan.sources[record.source].name, record.offset) in wanted
    ]
    if len(records) != len(wanted):
        yield Problem(f"{shard.name}.provenance.parquet", "names records that are not in the input")
        return
    *stored, segments = open_rows(folder, manifest, shard)
    problems: dict[str, Problem] = {}  # the first of each file
    for part in preparer.prepare(records, plan.home(task)):
        if part.set != shard.set and len(part.rows.segments):
            yield Problem(f"{shard.name}.X.npy", f"holds conversations of the set {part.set!r}")
            return
        now = part.rows.as_rows()
        for at, (source, offset) in enumerate(zip(part.provenance.source, part.provenance.byte_offset, strict=True)):
            there = wanted[plan.sources[source].name, int(offset)]
            wrong = {each: _other_arrays(stored, segments, each, now, part.rows.segments, at) for each in there}
            segment = min(wrong, key=lambda each: len(wrong[each]), default=None)  # one record's may stand in any order
            for kind in ARRAYS if segment is None else wrong[segment]:
                name = shard_file(folder, shard.name, "X" if kind == "Y" and part.rows.y is None else kind).name
                if segment is None:
                    problems.setdefault(name, Problem(name, "does not hold all that a record gives now"))
                else:
                    what = f"row {segments[segment, 0]} is not what its record gives now"
                    problems.setdefault(name, Problem(name, what))
            if segment is None:
                continue
            there.remove(segment)
            if names := _differing(origins, segment, part.provenance, at):
                what = f"segment {segment}: {', '.join(names)}: not what its record gives now"
                problems.setdefault(path.name, Problem(path.name, what))
    if any(wanted.values()):
        yield Problem(f"{shard.name}.X.npy", "holds a conversation that gives no row now")
    yield from problems.values()


def _other_arrays(stored: Any, segments: Any, segment: int, now: Any, segments_now: Any, at: int) -> list[str]:
    """Which of ARRAYS hold something else in a segment than in another."""
    pairs = zip(ARRAYS, stored, now, strict=True)
    return [kind for kind, then, again in pairs if not _is_same(then, segments, segment, again, segments_now, at)]


def _differing(origins: Origins, segment: int, now: Provenance, at: int) -> list[str]:
    """The columns in which a segment's provenance is another than what its record has now."""
    columns = now._asdict()
    del columns["source"]
    if origins["group"][segment] == OTHERS:
        del columns["group"]
    return [name for name, values in columns.items() if origins[name][segment] != values[at]]


def _is_same(stored: Any, segments: Any, segment: int, now: Any, segments_now: Any, at: int) -> bool:
    """Whether a segment holds what another does, and as much of what is behind them as both have."""
    then, again = _from(stored, segments, segment), _from(now, segments_now, at)
    shared = min(len(then), len(again))
    return bool(segments[segment, 2] == segments_now[at, 2] and np.array_equal(then[:shared], again[:shared]))


def _from(array: Any, segments: Any, segment: int) -> Any:
    """(n,): the entries of a segment and, if it has a row for itself, what stands behind it there."""
    row, start, length = segments[segment]
    others = np.searchsorted(segments[:, 0], [row, row + 1])
    return array[row, start : None if others[1] - others[0] == 1 else start + length]
