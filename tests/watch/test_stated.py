"""What a job did, for machines."""

from __future__ import annotations

from pathlib import Path

from small_builds import GOOD, build, write

from sftprep.dataset.manifest import load_manifest
from sftprep.watch.stated import as_json_line, stated


def test_a_dataset_states_its_totals_without_work(tmp_path: Path) -> None:
    build(tmp_path / "out", write(tmp_path / "a.jsonl", GOOD))
    manifest = load_manifest(tmp_path / "out")
    found = stated(manifest, [])
    assert found["totals"] == manifest.totals
    assert "elapsed_seconds" not in found
    assert as_json_line({"name": "é\n"}) == '{"name": "\\u00e9\\n"}'
