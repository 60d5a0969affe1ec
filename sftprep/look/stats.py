"""What a dataset holds, in numbers: as the closing table of its build, or for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from sftprep.dataset.manifest import REJECTS, Manifest, load_manifest
from sftprep.dataset.rejects import ReasonCount, count_reasons
from sftprep.look.progress import BuildProgress
from sftprep.look.summary import show_unread, summary_table


def show_stats(folder: Path, *, as_json: bool) -> None:
    """Print the numbers of a dataset. Raises DatasetError where it is none, or damaged."""
    manifest, reasons = load_manifest(folder), count_reasons(folder / REJECTS)
    if as_json:
        click.echo(as_json_line(stated(manifest, reasons)))
    else:
        console = Console(highlight=False)
        console.print(summary_table(manifest, str(folder), reasons))
        show_unread(manifest, console)


def stated(manifest: Manifest, reasons: Sequence[ReasonCount], work: BuildProgress | None = None) -> dict[str, Any]:
    """What `--json` states of a dataset, and of the work on it."""
    found: dict[str, Any] = {
        "totals": dict(manifest.totals),
        "sets": dict(manifest.sets),
        "rejects": [asdict(each) for each in reasons],
    }
    found |= {"ignored_keys": dict(manifest.ignored_keys), "message_keys": dict(manifest.message_keys)}
    if work is not None:
        found |= {"elapsed_seconds": round(work.elapsed, 3), "bytes": work.bytes, "seconds_by_stage": work.seconds}
    return found


def as_json_line(value: dict[str, Any]) -> str:
    """ASCII, so that it can be printed anywhere."""
    return json.dumps(value)
