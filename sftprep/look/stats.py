"""What a dataset holds, in numbers: as the closing table of its build, or for machines."""

from __future__ import annotations

import json
from pathlib import Path

from rich.console import Console

from sftprep.dataset.manifest import REJECTS, load_manifest
from sftprep.dataset.rejects import count_reasons
from sftprep.look.summary import summary_table


def show_stats(folder: Path, *, as_json: bool) -> None:
    """Print the numbers of a dataset. Raises DatasetError where it is none, or damaged."""
    manifest, console = load_manifest(folder), Console(highlight=False)
    if not as_json:
        console.print(summary_table(manifest, folder))
        return
    reasons = [
        {"kind": each.kind, "reason": each.reason, "count": each.count, "first": each.first}
        for each in count_reasons(folder / REJECTS)
    ]
    stated = {"totals": dict(manifest.totals), "sets": manifest.sets, "rejects": reasons}
    console.file.write(json.dumps(stated) + "\n")
