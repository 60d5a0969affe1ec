"""What a job did, for machines."""

from __future__ import annotations

from pathlib import Path

from small_builds import GOOD, TOKENIZER, build, write

from sftprep.config import BuildConfig
from sftprep.dataset.manifest import load_manifest
from sftprep.jobs.plan import make_plan
from sftprep.watch.stated import as_json_line, stated, stated_plan


def test_a_dataset_states_its_totals_without_work(tmp_path: Path) -> None:
    build(tmp_path / "out", write(tmp_path / "a.jsonl", GOOD))
    manifest = load_manifest(tmp_path / "out")
    found = stated(manifest, [])
    assert found["totals"] == manifest.totals
    assert "elapsed_seconds" not in found
    plan, _ = make_plan(BuildConfig((str(tmp_path / "a.jsonl"),), TOKENIZER))
    planned = stated_plan(plan, is_left=True)
    assert (planned["splits"], planned["complete"], planned["records"]) == (1, False, 1)
    assert planned["fingerprint"] == plan.fingerprint
    assert as_json_line({"name": "é\n"}) == '{"name": "\\u00e9\\n"}'
