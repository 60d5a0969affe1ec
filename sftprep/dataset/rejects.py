"""Why records are in no shard, counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import orjson

from sftprep.dataset.safe_open import open_file
from sftprep.errors import DatasetError

_NUMBER = re.compile(r"\d[\d,]*")


@dataclass(frozen=True, slots=True)
class ReasonCount:
    """How many records there are of one kind and reason."""

    kind: str
    reason: str  # of the first of them; the others may differ in numbers
    count: int
    first: str  # file:line of the first of them


def counted(found: Iterable[ReasonCount]) -> list[ReasonCount]:
    """The same, of each kind and reason one, the commonest first. Reasons that differ in numbers only are one."""
    first: dict[tuple[str, str], ReasonCount] = {}
    counts: Counter[tuple[str, str]] = Counter()
    for each in found:
        key = each.kind, _NUMBER.sub("0", each.reason)
        first.setdefault(key, each)
        counts[key] += each.count
    return [replace(first[key], count=count) for key, count in counts.most_common()]


def count_reasons(path: Path) -> list[ReasonCount]:
    """What the file says, the commonest reason first. Raises DatasetError where it is missing or says something else."""
    return counted(_listed(path))


def rejected_at(path: Path, names: Collection[str], line: int) -> str | None:
    """Why a line of an input is in no shard; None if the file does not say. names: of inputs. Raises as `count_reasons`."""
    places = {f"{name}:{line}" for name in names}
    return next((f"{each.kind}: {each.reason}" for each in _listed(path) if each.first in places), None)


def _listed(path: Path) -> Iterator[ReasonCount]:
    with open_file(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                reject = orjson.loads(line)
                kind, reason, place = reject["kind"], reject["reason"], f"{reject['source']}:{reject['line']}"
                _NUMBER.sub("0", reason)
            except (ValueError, TypeError, KeyError):
                raise DatasetError(f"{path}: line {number} is no reject") from None
            yield ReasonCount(kind, reason, 1, place)
