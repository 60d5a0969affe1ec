"""Which records are in no shard, and why: read back, and counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import orjson

from sftprep.dataset.safe_open import open_file
from sftprep.errors import DatasetError
from sftprep.unread import OTHERS

MOST_REASONS = 1000  # that are told apart
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


class Reasons:
    """Reasons, added up: of each kind and reason there is one. Those that differ in numbers only are one."""

    def __init__(self) -> None:
        self._first: dict[tuple[str, str], ReasonCount] = {}
        self._counts: Counter[tuple[str, str]] = Counter()

    def add(self, found: ReasonCount) -> None:
        """Add one more. Of very many reasons the first MOST_REASONS are told apart."""
        key = found.kind, _NUMBER.sub("0", found.reason)
        if key not in self._first and len(self._first) >= MOST_REASONS:
            found = replace(found, reason=OTHERS)
            key = found.kind, OTHERS
        self._first.setdefault(key, found)
        self._counts[key] += found.count

    def ordered(self) -> list[ReasonCount]:
        """The commonest first."""
        return [replace(self._first[key], count=count) for key, count in self._counts.most_common()]


def counted(found: Iterable[ReasonCount]) -> list[ReasonCount]:
    """The same, of each kind and reason one, the commonest first."""
    reasons = Reasons()
    for each in found:
        reasons.add(each)
    return reasons.ordered()


def count_reasons(path: Path) -> list[ReasonCount]:
    """What the file says, the commonest reason first. Raises DatasetError where it is missing or says something else."""
    return counted(each.counted() for each in read_rejects(path))


def rejected_at(path: Path, names: Collection[str], line: int) -> str | None:
    """Why a line of an input is in no shard; None if the file does not say. names: of inputs. Raises as `read_rejects`."""
    found = (f"{each.kind}: {each.reason}" for each in read_rejects(path) if each.line == line and each.source in names)
    return next(found, None)


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
