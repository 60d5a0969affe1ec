"""Which conversations of a dataset tell most about it: the extremes, and some of each kind.

Found in one walk over what the shards say of their segments, so that a dataset of any size takes the memory of one shard.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sftprep.dataset.origins import Origins

OF_EACH = 5
SHOWN = 50
FEATURES = {  # a tag, and the column that is true where it holds
    "tools": "tools",
    "reasoning": "reasoning",
    "truncated": "truncated",
    "forged text": "forged",
    "other context": "other_context",
}
_EXTREMES: dict[str, Callable[[Origins], npt.NDArray[np.float64]]] = {  # a tag, and of what the largest are taken
    "longest": lambda origins: origins["tokens_in_all"].astype(np.float64),
    "shortest": lambda origins: -origins["tokens_in_all"].astype(np.float64),
    "most trained": lambda origins: _share(origins),
    "least trained": lambda origins: -_share(origins),
}
TAGS = (*_EXTREMES, *FEATURES, "any")


@dataclass(frozen=True, slots=True)
class Telling:
    """A conversation worth a look, and what it is an example of."""

    shard: int  # index among the shards that were walked over
    segment: int
    tags: tuple[str, ...]  # of TAGS


@dataclass(frozen=True, slots=True)
class _Candidate:
    score: float
    shard: int
    segment: int
    features: tuple[str, ...]

    @property
    def place(self) -> tuple[int, int]:
        return self.shard, self.segment


class Chooser:
    """Keeps the best so far of each tag, while it is shown one shard after another."""

    def __init__(self) -> None:
        self._best: dict[str, list[_Candidate]] = {tag: [] for tag in TAGS}
        self._shards = 0

    def add(self, origins: Origins) -> None:
        """Look at the next shard's segments."""
        for tag in TAGS:
            scores = _scores(tag, origins)
            most = SHOWN if tag == "any" else OF_EACH
            first = [at for at in np.argsort(-scores, kind="stable")[:most].tolist() if scores[at] > -np.inf]
            found = [_Candidate(float(scores[at]), self._shards, at, _features(origins, at)) for at in first]
            ordered = sorted([*self._best[tag], *found], key=lambda each: (-each.score, each.place))
            self._best[tag] = ordered[:most]
        self._shards += 1

    def chosen(self) -> list[Telling]:
        """Some SHOWN of them: first those that stand out, then any, drawn by what their records hold."""
        tags: dict[tuple[int, int], list[str]] = {}
        features: dict[tuple[int, int], tuple[str, ...]] = {}
        for tag, best in self._best.items():
            for each in best:
                if each.place in tags or len(tags) < SHOWN:
                    tags.setdefault(each.place, []).append(tag)
                    features[each.place] = each.features
        return [
            Telling(shard, segment, _in_order([*some, *features[shard, segment]]))
            for (shard, segment), some in tags.items()
        ]


def _in_order(tags: list[str]) -> tuple[str, ...]:
    """Each once; "any" only where there is no other."""
    return tuple(tag for tag in TAGS if tag in tags and tag != "any") or ("any",)


def _features(origins: Origins, at: int) -> tuple[str, ...]:
    return tuple(tag for tag, column in FEATURES.items() if origins[column][at])


def _scores(tag: str, origins: Origins) -> npt.NDArray[np.float64]:
    """(S,) of the segments of a shard; -inf where the tag does not hold."""
    if tag in _EXTREMES:
        return _EXTREMES[tag](origins)
    chance = origins["record_key"].astype(np.float64)  # as good as drawn, and the same in every build
    return chance if tag == "any" else np.where(origins[FEATURES[tag]], -chance, -np.inf)


def _share(origins: Origins) -> npt.NDArray[np.float64]:
    """(S,) trained tokens of each segment's, from 0 to 1."""
    share: npt.NDArray[np.float64] = origins["trained_tokens"] / np.maximum(origins["tokens"], 1)
    return share
