"""Masks by pattern: from each header's ids to the terminator's ids that follow it, as MiniMind's loop finds them.

The loop goes left to right over a row of L ids. Where the header b stands at i, let s = i + |b| and k the first index
>= s where the terminator e stands, or L; it trains s + start_offset ... min(k + |e| + end_offset, L) - 1 and goes on
at k + |e|, or stops if there was no terminator. So a header inside a turn is passed over: which headers count is a
walk over the header matches, match -> first match at or after the place where the loop goes on. All rows walk at once
by pointer doubling. Cost: O(T) for T ids to find the patterns' first ids, then O(M log M) for M matches.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sftprep.errors import ConfigError, TemplateError
from sftprep.masks.paint import IntArray, paint

if TYPE_CHECKING:
    from sftprep.template.turns import Rendering

Encode = Callable[[str], Sequence[int]]  # text -> ids, nothing added

# name -> text after the BOS token, text after the EOS token, offsets; the seed's commits are 7d877db ... f55d4c3
# (2025-10 to 2026-01) for `minimind` and aa539a8 ... (from 2026-01) for `minimind-v5`
PRESETS = {"minimind": ("assistant", "", 1, 1), "minimind-v5": ("assistant\n", "\n", 0, 0)}


@dataclass(frozen=True, slots=True)
class ScanRule:
    """What starts and what ends a trained span, in ids."""

    header: tuple[int, ...]
    end: tuple[int, ...]
    start_offset: int = 0  # the span starts this many ids after the header
    end_offset: int = 0  # and stops this many ids after the terminator, which is in it at 0

    def __post_init__(self) -> None:
        if not self.header or not self.end:
            raise ConfigError("a scan needs at least one id of header and one of terminator; the text given has none")


def scan_rule(header: str, end: str, encode: Encode, start_offset: int = 0, end_offset: int = 0) -> ScanRule:
    """The rule for a header's and a terminator's text. A blank that the header ends with is left to the answer, where it is
    one token with the answer's first word."""
    ids = tuple(encode(header))
    if header.endswith(" ") and tuple(encode(f"{header}a"))[: len(ids)] != ids:
        ids = tuple(encode(header.rstrip(" ")))
    return ScanRule(tuple(map(int, ids)), tuple(map(int, encode(end))), start_offset, end_offset)


def rule_of_options(
    options: Mapping[str, Any], special: Mapping[str, str], talk: Callable[[], Rendering], encode: Encode
) -> ScanRule:
    """The rule of `--mask scan`: header and end as given, else as seen in a small conversation."""
    header, end = options["scan_header"], options["scan_end"]
    if header is None or end is None:
        found = texts_of(talk())
        header, end = header or found[0], end or found[1]
    return scan_rule(header, end, encode, options["scan_start_offset"], options["scan_end_offset"])


def rule_of_preset(
    options: Mapping[str, Any], special: Mapping[str, str], talk: Callable[[], Rendering], encode: Encode
) -> ScanRule:
    """The rule of the preset that `--mask` names: a version of MiniMind. Raises ConfigError where the tokenizer lacks its
    tokens."""
    name = options["mask"]
    if not {"bos_token", "eos_token"} <= special.keys():
        raise ConfigError(
            f"{name}: MiniMind's masks need a bos_token and an eos_token, and the tokenizer lacks one; --mask scan may do"
        )
    header, end, *offsets = PRESETS[name]
    return scan_rule(special["bos_token"] + header, special["eos_token"] + end, encode, *offsets)


def texts_of(rendering: Rendering) -> tuple[str, str]:
    """What stands before and at the end of the first answer. Raises TemplateError where there is none."""
    for span in rendering.spans[:1]:
        header = rendering.text[span.turn : span.start]
        ends = [rendering.text[start:stop] for start, stop in rendering.controls if stop == span.stop]
        if header and ends:
            return header, ends[0]
    raise TemplateError("the chat template shows no header or no end token; give --scan-header and --scan-end")


def scan_mask(ids: npt.NDArray[Any], rule: ScanRule) -> npt.NDArray[np.bool_]:
    """(R, L) bool for (R, L) ids, True trains the id. Pads take part, as in the seed; L is where every row ends."""
    rows, length = ids.shape
    return scan_flat(ids.reshape(-1), np.arange(rows + 1) * length, rule).reshape(rows, length)


def scan_flat(ids: npt.NDArray[Any], offsets: IntArray, rule: ScanRule) -> npt.NDArray[np.bool_]:
    """(T,) bool for (T,) ids whose row r is `ids[offsets[r]:offsets[r + 1]]`."""
    heads, row = _matches(ids, offsets, rule.header)
    ends, _ = _matches(ids, offsets, rule.end)
    content, row_start, row_stop = heads + len(rule.header), offsets[row], offsets[row + 1]
    end = np.append(ends, ids.size)[np.searchsorted(ends, content)]
    found = end < row_stop  # the first terminator after a header may belong to a later row
    end = np.where(found, end, row_stop)
    onward = np.where(found, end + len(rule.end), row_stop)
    walked = _walk(np.searchsorted(heads, onward), np.diff(row, prepend=-1) > 0)

    start = np.clip(content + rule.start_offset, row_start, row_stop)[walked]
    stop = np.maximum(np.minimum(end + len(rule.end) + rule.end_offset, row_stop)[walked], start)
    start[1:] = np.maximum(start[1:], stop[:-1])  # offsets may make one span reach into the next
    return paint(start, stop, ids.size)


def _matches(ids: npt.NDArray[Any], offsets: IntArray, pattern: tuple[int, ...]) -> tuple[IntArray, IntArray]:
    """Where the pattern stands within one row, in order, and in which row: two (M,) int64."""
    at = np.flatnonzero(ids[: max(ids.size - len(pattern) + 1, 0)] == pattern[0])
    for step, wanted in enumerate(pattern[1:], 1):
        at = at[ids[at + step] == wanted]
    row = np.searchsorted(offsets, at, side="right") - 1
    whole = at + len(pattern) <= offsets[row + 1]
    return at[whole], row[whole]


def _walk(following: IntArray, first: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """(M,) bool: the matches reached from a row's first match by going to `following[j]` (M: nowhere) again and again.

    After round n the reached ones are those at most 2**n - 1 steps away; a round that reaches no new one ends it.
    """
    size = len(following)
    hop = np.append(following, size)
    reached = np.append(first, True)
    while True:
        grown = reached.copy()
        grown[hop[reached]] = True
        if (grown == reached).all():
            return reached[:size]
        reached, hop = grown, hop[hop]
