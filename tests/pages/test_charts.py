"""Pictures of a page: well-formed, to scale, and numbers only."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.pages.charts import WIDTH, histogram_svg, parts_svg


def elements(svg: str, name: str) -> list[ElementTree.Element]:
    return [each for each in ElementTree.fromstring(svg).iter() if each.tag == name]  # noqa: S314 - our own


@given(st.lists(st.integers(0, 10**12), min_size=1, max_size=30), st.none() | st.integers(0, 2**31))
def test_bars_are_as_high_as_their_counts(counts: list[int], limit: int | None) -> None:
    edges = [2**at for at in range(len(counts) + 1)]
    svg = histogram_svg(edges, counts, limit)
    heights = [float(each.attrib["height"]) for each in elements(svg, "rect")]
    assert len(heights) == len(counts)
    for height, count in zip(heights, counts, strict=True):
        assert height == pytest.approx(max(heights) * count / max(*counts, 1), abs=0.11)
    for line in elements(svg, "line"):
        assert 0 <= float(line.attrib["x1"]) <= WIDTH


def test_the_line_stands_where_the_limit_is() -> None:
    (cut,) = [each for each in elements(histogram_svg([0, 10, 20], [1, 1], 15), "line") if each.get("class") == "cut"]
    assert float(cut.attrib["x1"]) == pytest.approx(8 + (WIDTH - 16) * 0.75)
    assert all(each.get("class") != "cut" for each in elements(histogram_svg([0, 10], [1]), "line"))


def test_parts_fill_the_bar() -> None:
    svg = parts_svg({"trained": 1, "prompt": 2, "padding": 1})
    assert [each.attrib["class"] for each in elements(svg, "rect")] == ["trained-part", "prompt-part", "padding-part"]
    assert sum(float(each.attrib["width"]) for each in elements(svg, "rect")) == WIDTH
    assert "50.0% prompt" in svg
    assert parts_svg({"trained": 0})
