"""What a comparison finds: kinds of difference, each with a count and its first examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from difflib import SequenceMatcher
from typing import Any

import numpy as np
import numpy.typing as npt

from sftprep.compare.examples import Example

BEFORE, BEHIND = 12, 28  # tokens shown around the first that differs
FEW = 3  # examples of a kind
Advance = Callable[[int], None]  # is told how many more conversations were looked at


@dataclass(frozen=True, slots=True)
class Change:
    """A value that differs: as the first side has it, and the second. None: it has none."""

    name: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True)
class Side:
    """A conversation as one side has it, and the tokens around the first that differs."""

    place: str  # file:line
    set: str
    row: int | None  # of the set
    tokens: int
    trained_tokens: int | None  # None: it is not said what is trained
    truncated: bool
    first: int = 0  # where in the conversation `ids` begin
    ids: tuple[int, ...] = ()
    trained: tuple[bool, ...] = ()
    differs: tuple[bool, ...] = ()  # True where the other side has something else


@dataclass(frozen=True, slots=True)
class Difference:
    """One conversation that differs. at: the first token that does; None where only one side has it."""

    a: Side | None
    b: Side | None
    at: int | None = None


@dataclass(slots=True)
class Kind:
    """A kind of difference. meant: it is what sftprep promises to do, and no fault."""

    name: str
    what: str  # in words
    meant: bool = False
    count: int = 0  # of conversations
    tokens: int = 0  # that differ, where they are counted
    examples: list[Difference] = field(default_factory=list)


@dataclass(slots=True)
class Comparison:
    """What was compared, and what came of it. Sides are A and B; `kinds` has those that occurred."""

    a: str
    b: str
    options: list[Change] = field(default_factory=list)
    totals: list[Change] = field(default_factory=list)
    conversations: int = 0  # that were compared
    equal: int = 0
    kinds: list[Kind] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)  # what was not compared, and why

    @property
    def differs(self) -> bool:
        """Whether any conversation differs in a way that is not meant."""
        return any(not kind.meant for kind in self.kinds)


class Tally:
    """Counts differences by kind, and keeps the first few of each."""

    def __init__(self, kinds: dict[str, str], meant: Sequence[str] = (), few: int = FEW) -> None:
        """kinds: names, in the order of showing, and what they are."""
        self.kinds = {name: Kind(name, what, meant=name in meant) for name, what in kinds.items()}
        self.equal = 0
        self._few = few

    def add(self, name: str, make: Callable[[], Difference], tokens: int = 0) -> None:
        """Count one; `make` is called if it is among the first."""
        kind = self.kinds[name]
        kind.count += 1
        kind.tokens += tokens
        if len(kind.examples) < self._few:
            kind.examples.append(make())

    def join(self, later: Tally) -> None:
        """Add what was found in what comes after."""
        self.equal += later.equal
        for name, kind in later.kinds.items():
            own = self.kinds[name]
            own.count += kind.count
            own.tokens += kind.tokens
            own.examples += kind.examples[: self._few - len(own.examples)]

    def found(self) -> list[Kind]:
        """The kinds that occurred."""
        return [kind for kind in self.kinds.values() if kind.count]


def first_difference(a: npt.NDArray[Any], b: npt.NDArray[Any]) -> int | None:
    """The first place where two arrays of one dimension differ; None if one begins with the other."""
    shared = min(len(a), len(b))
    wrong = np.flatnonzero(a[:shared] != b[:shared])
    return int(wrong[0]) if len(wrong) else None


def shown(a: Example, b: Example) -> Difference:
    """The difference of two that differ: where it begins, and what both sides have there."""
    at = first_difference(a.ids, b.ids)
    if at is None and a.masked and b.masked and (masks := first_difference(a.weights, b.weights)) is not None:
        shared = min(len(a.ids), len(b.ids))
        unlike = np.flatnonzero(a.weights[:shared] != b.weights[:shared])
        return Difference(_side(a, masks, unlike), _side(b, masks, unlike), masks)
    at = min(len(a.ids), len(b.ids)) if at is None else at
    window = slice(at, at + BEHIND)
    unlike_a, unlike_b = set(range(at, len(a.ids))), set(range(at, len(b.ids)))
    matcher = SequenceMatcher(a=a.ids[window].tolist(), b=b.ids[window].tolist(), autojunk=False)
    for at_a, at_b, size in matcher.get_matching_blocks():
        unlike_a.difference_update(range(at + at_a, at + at_a + size))
        unlike_b.difference_update(range(at + at_b, at + at_b + size))
    return Difference(_side(a, at, sorted(unlike_a)), _side(b, at, sorted(unlike_b)), at)


def alone(each: Example) -> Side:
    """A conversation that the other side has not: how it begins."""
    return _side(each, 0, ())


def _side(each: Example, at: int, unlike: npt.NDArray[np.int64] | Sequence[int]) -> Side:
    """unlike: the tokens that the other side has not."""
    window = slice(max(at - BEFORE, 0), at + BEHIND)
    places = np.arange(len(each.ids))[window]
    return Side(
        place=f"{each.source}:{each.line}",
        set=each.set,
        row=each.row,
        tokens=len(each.ids),
        trained_tokens=int(np.count_nonzero(each.weights)) if each.masked else None,
        truncated=each.truncated,
        first=window.start,
        ids=tuple(each.ids[window].tolist()),
        trained=tuple((each.masked & (each.weights[window] > 0)).tolist()),
        differs=tuple(np.isin(places, unlike).tolist()),
    )
