"""Why records are in no shard, counted from rejects.jsonl."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
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


def count_reasons(path: Path) -> list[ReasonCount]:
    """What the file says, the commonest reason first. Raises DatasetError where it is missing or says something else."""
    counts: Counter[tuple[str, str]] = Counter()
    first: dict[tuple[str, str], tuple[str, str]] = {}
    with open_file(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                reject = orjson.loads(line)
                kind, reason, place = reject["kind"], reject["reason"], f"{reject['source']}:{reject['line']}"
                key = kind, _NUMBER.sub("0", reason)
            except (ValueError, TypeError, KeyError):
                raise DatasetError(f"{path}: line {number} is no reject") from None
            counts[key] += 1
            first.setdefault(key, (reason, place))
    return [ReasonCount(key[0], first[key][0], count, first[key][1]) for key, count in counts.most_common()]
