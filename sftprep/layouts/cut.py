"""Conversations that are longer than a row -> the pieces of them that are kept.

Where a turn ends is seen by the mask: at the last of a run of trained tokens. A piece that ends there ends on a whole trained turn.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from sftprep.errors import ConfigError

if TYPE_CHECKING:
    from sftprep.masks.paint import Mask

IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """P stretches of a batch's ids, in order, each of one conversation."""

    start: IntArray  # (P,) place of the first id in the batch
    tokens: IntArray  # (P,) ids; at most the limit
    conversation: IntArray  # (P,) index in the batch


def cut(offsets: IntArray, mask: Mask, limit: int | None, overflow: str = "truncate") -> Pieces:
    """What is kept of conversations with `limit` ids at most.

    offsets: (B + 1,) of the conversations in the batch's ids; mask: (T,) over these, looked at for `turns` and `split` only. overflow:
    `truncate` keeps the first ids; `turns` those to the end of the last trained turn that fits; `split` makes pieces, each to the end
    of a trained turn, the next one from there on, and leaves out a turn that is longer than the limit by itself; `drop` keeps nothing
    of such a conversation. Raises ConfigError for a limit that leaves no target.
    """
    if limit is not None and limit < 2:
        raise ConfigError(f"length {limit}: a row needs 2 ids or more to hold a target")
    start, tokens, whole = offsets[:-1], np.diff(offsets), np.arange(len(offsets) - 1)
    is_long = tokens > limit if limit is not None else np.zeros(len(tokens), np.bool_)
    if limit is None or not is_long.any():
        return Pieces(start, tokens, whole)
    if overflow == "truncate":
        return Pieces(start, np.minimum(tokens, limit), whole)
    if overflow == "drop":
        return Pieces(start[~is_long], tokens[~is_long], whole[~is_long])
    return _at_turns(offsets, _run_ends(mask, offsets), is_long, limit, once=overflow == "turns")


def cut_off(pieces: Pieces, offsets: IntArray, mask: Mask, overflow: str) -> npt.NDArray[np.bool_]:
    """(P,) True where some of the conversation is lost; of one that is split, where a turn is in none of its pieces.

    mask: (T,) over the ids, looked at for `split` only.
    """
    shorter: npt.NDArray[np.bool_] = pieces.tokens < np.diff(offsets)[pieces.conversation]
    if overflow != "split":
        return shorter
    counted = np.concatenate(([0], np.cumsum(mask > 0)))
    own = counted[pieces.start + pieces.tokens] - counted[pieces.start]
    held = np.bincount(pieces.conversation, weights=own, minlength=len(offsets) - 1)
    return shorter & (held < np.diff(counted[offsets]))[pieces.conversation]


def _at_turns(offsets: IntArray, ends: IntArray, is_long: npt.NDArray[np.bool_], limit: int, *, once: bool) -> Pieces:
    """The pieces of the long ones, round by round: one of each that is not done yet. ends: (M,) where trained turns end, rising."""
    short = np.flatnonzero(~is_long)
    found = [(offsets[short], offsets[short + 1], short)]
    at, conversation = offsets[:-1][is_long], np.flatnonzero(is_long)
    while len(at):
        stop = offsets[conversation + 1]
        last = np.searchsorted(ends, np.minimum(at + limit, stop), side="right")  # ends before it fit
        end = np.concatenate(([0], ends))[last]
        fits = end > at
        found.append((at[fits], end[fits], conversation[fits]))
        if once:
            break
        at = np.where(fits, end, np.append(ends, offsets[-1])[last])  # behind a turn that is too long by itself
        more = at < stop
        at, conversation = at[more], conversation[more]
    start, stop, conversation = (np.concatenate(each) for each in zip(*found, strict=True))
    order = np.argsort(start, kind="stable")
    return Pieces(start[order], (stop - start)[order], conversation[order])


def _run_ends(mask: Mask, offsets: IntArray) -> IntArray:
    """(M,) one behind the last of each run of trained ids in one conversation; a conversation's first id is no target."""
    trained = mask > 0
    trained[offsets[:-1][np.diff(offsets) > 0]] = False
    following = np.append(trained[1:], False)
    return np.flatnonzero(trained & ~following) + 1
