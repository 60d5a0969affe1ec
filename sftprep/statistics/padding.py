"""How full a dataset's rows are, and how many rows the same conversations would fill if they were packed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sftprep.layouts.packing import rows_needed
from sftprep.statistics.distribution import Distribution


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
    """Rows of `width` places that hold conversations of these many (X, Y) pairs, as `--layout packed` packs them; what is longer than
    a row takes one of its own."""
    counts = np.bincount(np.minimum(pairs.values, width), weights=pairs.counts, minlength=1).astype(np.int64)
    counts[0] = 0
    return rows_needed(counts, width)
