"""What a job did, as one JSON object for machines."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from sftprep.dataset.manifest import Manifest
from sftprep.dataset.rejects import ReasonCount
from sftprep.jobs.plan import Plan
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
        seconds = max(work.elapsed, 1e-9)
        found |= {
            "elapsed_seconds": round(seconds, 3),
            "seconds_by_stage": {name: round(part, 3) for name, part in work.seconds.items()},  # of all processes
            "bytes": work.bytes,
            "bytes_per_second": round(work.bytes / seconds),
            "tokens_per_second": round(work.tokens / seconds),
        }
    return found


def stated_plan(plan: Plan, *, is_left: bool) -> dict[str, Any]:
    """What `plan --json` states. is_left: whether there is anything to do."""
    return {
        "splits": len(plan.splits),
        "complete": not is_left,
        "records": plan.records,
        "bytes": plan.size(range(len(plan.splits))),
        "inputs": [asdict(each) for each in plan.inputs],
        "passed_over": [asdict(each) for each in plan.passed_over],
        "fingerprint": plan.fingerprint,
    }


def as_json_line(value: dict[str, Any]) -> str:
    """ASCII, so that it can be printed anywhere."""
    return json.dumps(value)
