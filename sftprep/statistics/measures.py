"""What is counted of a dataset, and of its parts."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sftprep.dataset.rejects import ReasonCount, counted
from sftprep.statistics.distribution import Distribution, by_code

if TYPE_CHECKING:
    from sftprep.dataset.origins import Origins
    from sftprep.statistics.padding import Padding

FEATURES = ("tools", "reasoning", "forged", "other_context")  # columns of provenance
COUNTED = ("tokens", "trained_tokens", "truncated", *FEATURES)


@dataclass(frozen=True, slots=True, eq=False)
class Measures:
    """Of a whole dataset, of a set, or of what came of one source or group."""

    conversations: int = 0
    examples: int = 0  # a conversation is several with --contexts served
    tokens: int = 0  # that are kept
    trained_tokens: int = 0
    truncated: int = 0  # examples
    tools: int = 0  # examples that have them
    reasoning: int = 0
    forged: int = 0
    other_context: int = 0
    lengths: Distribution = field(default_factory=Distribution)  # tokens of the examples before any were cut off
    turns: Distribution = field(default_factory=Distribution)  # the assistant's messages in the examples
    lost: tuple[ReasonCount, ...] = ()  # records that are in no shard; of a set this is not known

    @property
    def trained_share(self) -> float:
        """Of the tokens, those that are trained."""
        return self.trained_tokens / max(self.tokens, 1)

    def lost_as(self, *kinds: str) -> int:
        """How many records are in no shard, of these of REJECT_KINDS."""
        return sum(each.count for each in self.lost if each.kind in kinds)

    @classmethod
    def joined(cls, parts: Iterable[Measures]) -> Measures:
        """Of several parts together."""
        all_parts = list(parts)
        numbers = {
            name: sum(getattr(each, name) for each in all_parts) for name in ("conversations", "examples", *COUNTED)
        }
        lengths, turns = (
            Distribution.joined(getattr(each, name) for each in all_parts) for name in ("lengths", "turns")
        )
        lost = counted(reason for each in all_parts for reason in each.lost)
        return cls(**numbers, lengths=lengths, turns=turns, lost=tuple(lost))


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing that is bad."""

    kind: str  # a name that stays: of `advice.RULES`
    what: str  # a sentence with its figures; no text of messages
    option: str  # what to build with, or the command to look with; "" where nothing helps


@dataclass(frozen=True, slots=True, eq=False)
class DatasetStatistics:
    """All that is counted of a dataset. Sources and groups: those with most tokens first; of very many, some as "(others)"."""

    whole: Measures
    sets: Mapping[str, Measures]
    sources: Mapping[str, Measures]  # by the name of the input
    groups: Mapping[str, Measures]  # by what records have under the key of --by, "" where that is nothing
    by: str | None  # that key; None: there are no groups
    too_long: Distribution  # tokens of conversations that are dropped for being longer than a row
    padding: Padding
    advice: tuple[Advice, ...] = ()


def measure(
    origins: Origins, firsts: npt.NDArray[np.bool_], codes: npt.NDArray[Any], size: int, *, in_pieces: bool = False
) -> list[Measures]:
    """Of a shard's segments those of each code from 0 to `size` - 1.

    firsts: (S,) True at one segment of each record. codes: (S,). in_pieces: whether segments may be pieces of a conversation, whose
    length and turns are then counted once.
    """
    numbers = {
        "conversations": np.bincount(codes[firsts], minlength=size),
        "examples": np.bincount(codes, minlength=size),
    }
    for name in COUNTED:
        numbers[name] = np.bincount(codes, origins[name], size).astype(np.int64)  # exact, as the sums are below 2**53
    rows = zip(*(column.tolist() for column in numbers.values()), strict=True)
    once = firsts if in_pieces else np.ones(len(codes), np.bool_)
    lengths, turns = (by_code(codes[once], origins[name][once], size) for name in ("tokens_in_all", "turns"))
    return [
        Measures(**dict(zip(numbers, row, strict=True)), lengths=length, turns=turn)
        for row, length, turn in zip(rows, lengths, turns, strict=True)
    ]
