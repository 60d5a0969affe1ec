"""How full a dataset's rows are, and how many rows the same conversations would fill if they were packed."""

from __future__ import annotations

from bisect import bisect_left, insort
from dataclasses import dataclass

from sftprep.statistics.distribution import Distribution

_STEPS = 2048  # lengths are told apart to one part of so many of a row


@dataclass(frozen=True, slots=True)
class Padding:
    """The places of X, and what is in them."""

    rows: int
    places: int
    filled: int  # that hold a token of a conversation; the others are padding
    bytes: int  # of X, Y and mask
    packed_rows: int | None  # that would do if conversations shared rows; None where there is no more to be had

    @property
    def share(self) -> float:
        """Of the places, those that are padding."""
        return 1 - self.filled / self.places if self.places else 0.0


def packed_rows(pairs: Distribution, width: int) -> int:
    """Rows of `width` places that hold conversations of these many (X, Y) pairs, packed best fit, the longest first.

    What is longer than a row takes one of its own. Of very wide rows the lengths are rounded up a little, so that time does
    not depend on the width; the rows then are somewhat more than it takes.
    """
    step = max(1, width // _STEPS)
    left: list[int] = []  # distinct numbers of free places, ascending
    rows_with: dict[int, int] = {}
    rows = 0
    sizes = Distribution.joined([Distribution(-(-pairs.values // step) * step, pairs.counts)]).cut(width)
    for size, count in zip(sizes.values[::-1].tolist(), sizes.counts[::-1].tolist(), strict=True):
        while size and count:
            at = bisect_left(left, size)
            if at == len(left):  # none has room: as many new rows as it takes
                whole, rest = divmod(count, width // size)
                rows += whole + (rest > 0)
                _put(left, rows_with, width % size, whole)
                _put(left, rows_with, width - rest * size, 1 if rest else 0)
                break
            room = left[at]
            taken = min(count, rows_with[room])
            rows_with[room] -= taken
            if not rows_with[room]:
                del rows_with[room], left[at]
            _put(left, rows_with, room - size, taken)
            count -= taken
    return rows


def _put(left: list[int], rows_with: dict[int, int], room: int, rows: int) -> None:
    """Add rows with so much room."""
    if room and rows:
        if room not in rows_with:
            insort(left, room)
        rows_with[room] = rows_with.get(room, 0) + rows
