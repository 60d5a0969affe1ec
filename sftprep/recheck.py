"""What `sftprep verify` does: check a dataset against itself and, when asked, against the inputs it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.progress import Progress

from sftprep.apart import run_apart
from sftprep.config import BuildConfig
from sftprep.errors import ConfigError, DatasetError, SftprepError
from sftprep.manifest import MANIFEST, Manifest, ShardEntry, load_manifest
from sftprep.origins import read_origins
from sftprep.plan import Plan, make_plan
from sftprep.prepare import Preparer
from sftprep.shards import Prepared, file_path
from sftprep.sources import read_records
from sftprep.verify import Problem, verify_dataset
from sftprep.visible import visible

SAMPLED_SHARDS = 16
SAMPLED_ROWS = 32  # of each sampled shard


def verify_command(folder: Path, *, fast: bool, sources: Sequence[str], tokenizer: str | None, quiet: bool) -> bool:
    """Check and print every problem; True if there is none."""
    console = Console(stderr=True)
    with Progress(console=console, disable=quiet or fast, transient=True) as progress:
        task = progress.add_task("hashing", total=_bytes(folder))
        problems = verify_dataset(folder, fast=fast, progress=lambda size: progress.advance(task, size))
    if not problems and sources and tokenizer is not None:
        problems = run_apart(
            partial(verify_source, folder, sources, tokenizer), what="deriving rows anew by the chat template"
        )
    for problem in problems:
        where, what = (escape(visible(each)) for each in (str(folder / problem.file), problem.what))
        console.print(f"[red]{where}[/]: {what}", highlight=False, soft_wrap=True)
    if not problems and not quiet:
        looked_at = "sizes and headers" if fast else "sizes, hashes, totals and rows"
        derived = ", and a sample of rows derived anew" if sources else ""
        console.print(f"[green]{escape(visible(str(folder)))}: sound[/] ({looked_at}{derived})", soft_wrap=True)
    return not problems


def verify_source(folder: Path, sources: Sequence[str], tokenizer: str) -> list[Problem]:
    """Derive a sample of rows again from the inputs, by the reference engine and both ways of masking.

    Names inputs, tokenizer or template that are not those of the manifest; else shards whose rows differ.
    Raises SftprepError where inputs or tokenizer cannot be read.
    """
    manifest = load_manifest(folder)
    try:
        config = BuildConfig(inputs=(), tokenizer=tokenizer, tokenizer_engine="hf", **manifest.config)
    except (ConfigError, TypeError) as error:  # of other options than there are
        raise DatasetError(f"{folder / MANIFEST}: 'config' is not what this version writes") from error
    if config.width != manifest.width:
        raise DatasetError(f"{folder / MANIFEST}: 'width' is not that of its 'config'")
    plan, loaded = make_plan(replace(config, inputs=tuple(sources)))
    problems = list(_changes(plan, manifest))
    if problems:
        return problems
    preparer = Preparer(plan.config, loaded, [source.name for source in plan.sources], check_every=1)
    chosen = np.unique(np.linspace(0, len(manifest.shards) - 1, SAMPLED_SHARDS).astype(int))
    for shard in (manifest.shards[index] for index in chosen):
        problems += _compare(folder, plan, shard, preparer)
    return problems


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


def _compare(folder: Path, plan: Plan, shard: ShardEntry, preparer: Preparer) -> Iterator[Problem]:
    """Rows of one shard, spread over it, against what their records give now."""
    task = int(shard.name.removeprefix("shard-"))
    path = file_path(folder, task, "provenance")
    origins = read_origins(path, path.stat().st_size, shard.segments)
    rows = np.unique(np.linspace(0, shard.rows - 1, SAMPLED_ROWS).astype(int)).tolist()
    wanted = {(origins["source"][row], int(origins["byte_offset"][row])): row for row in rows}
    found = {}
    for record in read_records(plan.splits[task], plan.sources):
        row = wanted.get((plan.sources[record.source].name, record.offset))
        if row is not None:
            found[row] = record
    if found.keys() != set(rows):
        yield Problem(f"{shard.name}.provenance.parquet", "names records that are not in the input")
        return
    yield from _compare_rows(folder, task, shard, rows, preparer.prepare([found[row] for row in rows]))


def _compare_rows(folder: Path, task: int, shard: ShardEntry, rows: list[int], derived: Prepared) -> Iterator[Problem]:
    if len(derived.rows.x) != len(rows):
        yield Problem(f"{shard.name}.X.npy", "holds a conversation that gives no row now")
        return
    for kind, now in (("X", derived.rows.x), ("Y", derived.rows.y), ("mask", derived.rows.mask)):
        path = file_path(folder, task, kind)
        stored: Any = np.load(path, mmap_mode="r")[rows]
        wrong = [row for row, then, new in zip(rows, stored, now, strict=True) if not np.array_equal(then, new)]
        if wrong:
            yield Problem(path.name, f"row {wrong[0]} is not what its record gives now")


def _bytes(folder: Path) -> int | None:
    """How much there is to hash; None where the manifest cannot say."""
    try:
        return sum(entry.bytes for entry in load_manifest(folder).files.values())
    except SftprepError:
        return None
