"""What a job did, as one JSON object for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sftprep.dataset.manifest import Manifest
from sftprep.dataset.rejects import ReasonCount
from sftprep.watch.progress import BuildProgress


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
