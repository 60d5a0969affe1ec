"""Statistics as plain values, for `--json` and for pages: names that stay, numbers, text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from sftprep.dataset.receipt import REJECT_KINDS
from sftprep.statistics.distribution import Distribution
from sftprep.statistics.measures import COUNTED, FEATURES, DatasetStatistics, Measures


def as_plain(found: DatasetStatistics) -> dict[str, Any]:
    """One JSON object: what is counted of the whole, of its sets, sources and groups, and advice."""
    padding, whole = found.padding, measures_as_plain(found.whole)
    return {
        **{name: whole[name] for name in ("trained_share", "features", "lengths", "turns", "rejects")},
        "sets": {name: measures_as_plain(each) for name, each in found.sets.items()},
        "sources": _named(found.sources),
        "by": found.by,
        "groups": _named(found.groups),
        "dropped_lengths": distribution_as_plain(found.too_long),
        "padding": {**asdict(padding), "share": padding.share},
        "advice": [asdict(each) for each in found.advice],
    }


def measures_as_plain(found: Measures) -> dict[str, Any]:
    """What is counted of one part."""
    numbers = {name: getattr(found, name) for name in ("conversations", "examples", *COUNTED)}
    return {
        **{name: count for name, count in numbers.items() if name not in FEATURES},
        "features": {name: numbers[name] for name in FEATURES},
        "trained_share": found.trained_share,
        "lengths": distribution_as_plain(found.lengths),
        "turns": distribution_as_plain(found.turns),
        **{total: found.lost_as(kind) for kind, total in REJECT_KINDS.items()},
        "rejects": [asdict(each) for each in found.lost],
    }


def distribution_as_plain(found: Distribution) -> dict[str, Any]:
    """Count, mean, quantiles by their names, and a histogram: from and to are in their bin."""
    bins = [{"from": each.start, "to": each.stop, "count": each.count} for each in found.histogram()]
    quantiles = found.quantiles() if found.count else {}
    return {"count": found.count, "mean": found.mean, **quantiles, "histogram": bins}


def _named(parts: Mapping[str, Measures]) -> list[dict[str, Any]]:
    return [{"name": name, **measures_as_plain(each)} for name, each in parts.items()]
