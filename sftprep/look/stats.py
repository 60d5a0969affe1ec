"""What a dataset holds, in numbers: as the closing table of its build, or for machines."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from sftprep.dataset.manifest import REJECTS, load_manifest
from sftprep.dataset.rejects import count_reasons
from sftprep.watch.stated import as_json_line, stated
from sftprep.watch.summary import show_unread, summary_table


def show_stats(folder: Path, *, as_json: bool) -> None:
    """Print the numbers of a dataset. Raises DatasetError where it is none, or damaged."""
    manifest, reasons = load_manifest(folder), count_reasons(folder / REJECTS)
    if as_json:
        click.echo(as_json_line(stated(manifest, reasons)))
    else:
        console = Console(highlight=False)
        console.print(summary_table(manifest, str(folder), reasons))
        show_unread(manifest, console)
