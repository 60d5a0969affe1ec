"""What is counted of a dataset, as the page's facts, tables and pictures."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sftprep.dataset.manifest import Manifest, form_of
from sftprep.dataset.receipt import REJECT_KINDS
from sftprep.dataset.rejects import ReasonCount
from sftprep.pages.charts import histogram_svg, parts_svg
from sftprep.statistics.distribution import Distribution
from sftprep.statistics.measures import DatasetStatistics, Measures
from sftprep.visible import visible

MOST_ROWS = 50  # of a table


@dataclass(frozen=True, slots=True)
class Table:
    """Columns, the first of names and the others of numbers, and as many cells in each row."""

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    name: str = ""


def page_numbers(manifest: Manifest, found: DatasetStatistics) -> dict[str, Any]:
    """The page's values for all but its conversations and its origin."""
    totals, whole = manifest.totals, found.whole
    filled, trained = found.padding.filled, whole.trained_tokens
    parts = {"trained": trained, "prompt": max(filled - trained, 0), "padding": found.padding.places - filled}
    bins = whole.lengths.histogram()
    edges = [each.start for each in bins] + [each.stop + 1 for each in bins[-1:]]
    return {
        "subtitle": f"{totals['conversations']:,} conversations, {whole.tokens:,} tokens, {whole.trained_share:.1%} of them trained",
        "facts": [*_facts(manifest, found)],
        "parts": [
            {"name": name, "share": f"{count / max(sum(parts.values()), 1):.1%}"} for name, count in parts.items()
        ],
        "bar": parts_svg(parts),
        "advice": found.advice,
        "histogram": histogram_svg(edges, [each.count for each in bins], manifest.config.get("max_length")),
        "quantiles": _quantiles({"tokens": whole.lengths, "turns of the assistant": whole.turns}),
        "records": _records(manifest),
        "reasons": _reasons(whole.lost),
        "sources": _parts("source", found.sources),
        "groups": _parts(visible(found.by or ""), found.groups),
    }


def _facts(manifest: Manifest, found: DatasetStatistics) -> Iterator[dict[str, str]]:
    whole, totals = found.whole, manifest.totals
    lost = sum(totals.get(name, 0) for name in REJECT_KINDS.values())
    yield _fact("conversations", whole.conversations, f"of {totals['records']:,} records")
    if whole.examples != whole.conversations:
        yield _fact("examples", whole.examples, "a conversation may be several")
    yield _fact("rows", totals["rows"], f"{form_of(manifest)}, {manifest.dtype}")
    yield _fact("tokens", whole.tokens, f"{whole.lengths.mean:,.0f} a conversation, before any are cut off")
    yield _fact("trained tokens", whole.trained_tokens, f"{whole.trained_share:.1%}")
    yield _fact("truncated", whole.truncated, _share(whole.truncated, whole.examples))
    yield _fact("in no row", lost, _share(lost, totals["records"]))
    for name, each in found.sets.items() if len(found.sets) > 1 else ():
        yield _fact(f"{name} set", each.conversations, f"{each.tokens:,} tokens")
    for name, count in {
        "with tools": whole.tools,
        "with reasoning": whole.reasoning,
        "with forged control tokens": whole.forged,
        "in another context": whole.other_context,
    }.items():
        if count:
            yield _fact(name, count, _share(count, whole.examples))


def _fact(name: str, value: int, note: str) -> dict[str, str]:
    return {"name": name, "value": f"{value:,}", "note": note}


def _share(count: int, of: int) -> str:
    return f"{count / max(of, 1):.1%}"


def _quantiles(distributions: Mapping[str, Distribution]) -> Table:
    rows = {name: each.quantiles() for name, each in distributions.items() if each.count}
    columns = next(iter(rows.values()), {})
    return Table(("of a conversation", *columns), [(name, *_numbers(each.values())) for name, each in rows.items()])


def _numbers(values: Any) -> Iterator[str]:
    return (f"{value:,}" for value in values)


def _records(manifest: Manifest) -> Table:
    totals = manifest.totals
    went = {"in rows": totals["conversations"]} | {name: totals.get(name, 0) for name in REJECT_KINDS.values()}
    rows = [(name, f"{count:,}", _share(count, totals["records"])) for name, count in went.items()]
    return Table(("records", "number", "share"), [*rows, ("in all", f"{totals['records']:,}", "")])


def _reasons(lost: Sequence[ReasonCount]) -> Table:
    rows = [(visible(each.reason), each.kind, f"{each.count:,}", visible(each.first)) for each in lost[:MOST_ROWS]]
    return Table(("reason", "kind", "records", "the first"), rows)


def _parts(name: str, parts: Mapping[str, Measures]) -> Table:
    columns = (name, "conversations", "tokens", "trained", "median length", "truncated", "in no row")
    rows = [
        (
            visible(part) or "(none)",
            f"{each.conversations:,}",
            f"{each.tokens:,}",
            f"{each.trained_share:.1%}",
            f"{each.lengths.quantile(50):,}",
            f"{each.truncated:,}",
            f"{each.lost_as(*REJECT_KINDS):,}",
        )
        for part, each in list(parts.items())[:MOST_ROWS]
    ]
    more = len(parts) - len(rows)
    return Table(columns, [*rows, *([(f"and {more:,} more", *[""] * 6)] if more > 0 else [])], name)
