"""A comparison before the user's eyes: a bar while it reads."""

from __future__ import annotations

from pathlib import Path

from sftprep.compare.datasets import compare_datasets
from sftprep.compare.findings import Comparison
from sftprep.compare.kinds import Request, compare_against
from sftprep.watch.steps import Steps


def watched_diff(a: Path, b: Path, *, few: int, quiet: bool) -> Comparison:
    """Compare two datasets. Raises as `compare_datasets`."""
    with Steps(quiet=quiet) as steps:
        return compare_datasets(a, b, steps.begin, steps.advance, few)


def watched_against(request: Request, *, quiet: bool) -> Comparison:
    """Compare a dataset with another program's way. Raises as `compare_against`."""
    with Steps(quiet=quiet) as steps:
        return compare_against(request, steps.begin, steps.advance)
