"""The page's tables, against the statistics that they are made of."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_builds import CONVERSATIONS, build, write

from sftprep.dataset.manifest import Manifest, load_manifest
from sftprep.pages.numbers import MOST_ROWS, page_numbers
from sftprep.statistics.gather import statistics_of


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    at = tmp_path_factory.mktemp("numbers")
    source = write(at / "a.jsonl", {"messages": []}, {"messages": [{"role": "who\x1b", "content": "x"}]})
    build(at / "out", str(CONVERSATIONS), source, max_length=128, by="source", validation="20%")
    return at / "out"


def test_what_the_page_says_adds_up(folder: Path) -> None:
    manifest: Manifest = load_manifest(folder)
    page = page_numbers(manifest, statistics_of(folder))
    facts = {each["name"]: int(each["value"].replace(",", "")) for each in page["facts"]}
    assert facts["conversations"] == manifest.totals["conversations"]
    assert facts["train set"] + facts["validation set"] == facts["conversations"]
    went = {name: int(count.replace(",", "")) for name, count, _ in page["records"].rows}
    assert went.pop("in all") == sum(went.values()) == manifest.totals["records"]
    assert went["rejected"] == 2
    assert facts["in no row"] == went["rejected"] + went["dropped"] + went["duplicates"]
    assert sum(int(row[2].replace(",", "")) for row in page["reasons"].rows) == facts["in no row"]
    assert not any("\x1b" in cell for row in page["reasons"].rows for cell in row)
    for table in (page["sources"], page["groups"]):
        assert sum(int(row[1].replace(",", "")) for row in table.rows) == facts["conversations"]
        assert sum(int(row[2].replace(",", "")) for row in table.rows) == facts["tokens"]
        assert len(table.rows) <= MOST_ROWS + 1
    assert page["quantiles"].columns[1:] == ("min", "p1", "p5", "p25", "p50", "p75", "p95", "p99", "max")
    assert sum(float(each["share"].rstrip("%")) for each in page["parts"]) == pytest.approx(100, abs=0.2)
