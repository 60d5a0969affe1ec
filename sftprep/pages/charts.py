"""Pictures of a page, as SVG that takes its colours from the page's styles. Numbers go in and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from markupsafe import Markup

WIDTH, HEIGHT = 720, 200
_LEFT, _BELOW, _ABOVE = 8, 34, 22


def histogram_svg(edges: Sequence[int], counts: Sequence[int], limit: int | None = None) -> Markup:
    """Bars of `counts`, (B,): of the lengths from edges[b] to edges[b + 1] - 1; edges (B + 1,), rising. limit: where a line is drawn."""
    whole, highest = max(sum(counts), 1), max([*counts, 1])
    step = (WIDTH - 2 * _LEFT) / max(len(counts), 1)
    drawn = []
    for at, count in enumerate(counts):
        height = (HEIGHT - _ABOVE - _BELOW) * count / highest
        x, y = _LEFT + at * step, HEIGHT - _BELOW - height
        said = f"{edges[at]:,} to {edges[at + 1] - 1:,} tokens: {count:,} ({count / whole:.1%})"
        drawn.append(
            f'<rect class="bar" x="{x + 1:.1f}" y="{y:.1f}" width="{step - 2:.1f}" height="{height:.1f}"><title>{said}</title></rect>'
        )
        if count:
            drawn.append(
                f'<text x="{x + step / 2:.1f}" y="{y - 4:.1f}" text-anchor="middle">{count / whole:.0%}</text>'
            )
        drawn.append(f'<text x="{x:.1f}" y="{HEIGHT - _BELOW + 16}">{edges[at]:,}</text>')
    if limit is not None and edges and edges[0] < limit:
        place = _LEFT + step * _place(edges, limit)
        drawn.append(f'<line class="cut" x1="{place:.1f}" x2="{place:.1f}" y1="{_ABOVE}" y2="{HEIGHT - _BELOW}"/>')
    axis = f'<line class="axis" x1="{_LEFT}" x2="{WIDTH - _LEFT}" y1="{HEIGHT - _BELOW}" y2="{HEIGHT - _BELOW}"/>'
    name = f'<text x="{WIDTH - _LEFT}" y="{HEIGHT - 2}" text-anchor="end">tokens of a conversation</text>'
    label = f"Histogram of lengths of {sum(counts):,} conversations; the table below has the quantiles"
    return _svg(HEIGHT, label, *drawn, axis, name)


def parts_svg(parts: Mapping[str, int]) -> Markup:
    """One bar of as many stretches as there are parts; a part's name is its style's, `NAME-part`."""
    whole, at, drawn = max(sum(parts.values()), 1), 0.0, []
    for name, count in parts.items():
        width = WIDTH * count / whole
        said = f"{name}: {count:,} ({count / whole:.1%})"
        drawn.append(
            f'<rect class="{name}-part" x="{at:.1f}" y="0" width="{width:.1f}" height="28"><title>{said}</title></rect>'
        )
        at += width
    return _svg(28, ", ".join(f"{count / whole:.1%} {name}" for name, count in parts.items()), *drawn)


def _place(edges: Sequence[int], limit: int) -> float:
    """How many bars lie below a length, the one it lies in by its part."""
    for at, (low, high) in enumerate(pairwise(edges)):
        if limit < high:
            return at + (limit - low) / (high - low)
    return float(len(edges) - 1)


def _svg(height: int, label: str, *drawn: str) -> Markup:
    head = f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{label}">'
    return Markup(f"{head}{''.join(drawn)}</svg>")  # noqa: S704 - made of numbers and of this room's own words
