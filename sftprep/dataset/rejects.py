"""Which records are in no shard, and why: read back, and counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import orjson

from sftprep.dataset.safe_open import open_file
from sftprep.errors import DatasetError

_NUMBER = re.compile(r"\d[\d,]*")
_NEEDED, _OPTIONAL = ("source", "line", "kind", "reason"), ("group", "tokens_in_all")
_KINDS = (str, int, str, str, str | None, int | None)


class RejectLine(NamedTuple):
    """A record that is in no shard, as rejects.jsonl says it."""

    source: str  # name of the input
    line: int
    kind: str  # of REJECT_KINDS
    reason: str
    group: str | None  # by the key of --by, where that is known
    tokens_in_all: int | None  # where it is dropped for being longer than a row

    def counted(self) -> ReasonCount:
        """As the first of its reason."""
        return ReasonCount(self.kind, self.reason, 1, f"{self.source}:{self.line}")


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
    return counted(each.counted() for each in read_rejects(path))


def read_rejects(path: Path) -> Iterator[RejectLine]:
    """Every line. Raises DatasetError where the file is missing or says something else."""
    with open_file(path) as lines:
        for number, line in enumerate(lines, 1):
            try:
                reject = orjson.loads(line)
                read = RejectLine(*(reject[name] for name in _NEEDED), *(reject.get(name) for name in _OPTIONAL))
                right = all(isinstance(value, kind) for value, kind in zip(read, _KINDS, strict=True))
            except (ValueError, TypeError, KeyError, AttributeError):
                right = False
            if not right:
                raise DatasetError(f"{path}: line {number} is no reject")
            yield read
