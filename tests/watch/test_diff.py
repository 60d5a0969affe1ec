"""A comparison, watched."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_builds import GOOD, build, sftprep, write

from sftprep.compare.kinds import AGAINST, Request
from sftprep.watch.diff import watched_against, watched_diff


def test_comparisons(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a", "b"):
        build(tmp_path / name, write(tmp_path / f"{name}.jsonl", GOOD))
    assert watched_diff(tmp_path / "a", tmp_path / "b", few=1, quiet=True).equal == 1
    monkeypatch.setitem(AGAINST, "toy", "compare.test_kinds:toy")
    assert watched_against(Request(tmp_path / "a", "toy"), quiet=True).equal == 3


def test_exit_codes(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", GOOD, {"messages": GOOD["messages"] * 2})
    for name, more in (("a", {}), ("b", {"max_length": 99}), ("c", {"train_on": "last"})):
        build(tmp_path / name, source, **more)
    a, b, c = (str(tmp_path / name) for name in "abc")
    same, other = sftprep("diff", a, b, "--json"), sftprep("diff", a, c, "-q")
    assert (same.returncode, '"differs": false' in same.stdout) == (0, True)
    assert (other.returncode, other.stdout, other.stderr) == (1, "", "")
