"""What MiniMind's loop would train of a dataset's conversations, beside what the dataset trains.

Its `SFTDataset` cuts a conversation to `max_length` ids, pads it, and looks for header and end in the ids. So it is asked
about the dataset's own ids: no input is read again. All in arrays, some thousand rows at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from sftprep.compare.examples import Examples, Part
from sftprep.compare.findings import Advance, Comparison, Difference, Tally, shown
from sftprep.compare.kinds import Begin, Request
from sftprep.compare.origins_again import tokenizer_again
from sftprep.layouts.types import windows
from sftprep.masks.scan import ScanRule, rule_of_preset, scan_mask

Masks = npt.NDArray[np.bool_]
# Stretches of tokens that one of the two trains and the other does not, by where they stand.
KINDS = {
    "behind": "its loop also trains what follows a turn's end, such as a line break",
    "before": "its loop also trains what stands before an answer: the prompt gives it already, such as an empty thought",
    "padding": "its loop also trains padding",
    "apart": "its loop also trains turns that the dataset does not: of messages that are switched off, or made up by a user",
    "partly": "its loop leaves out a part of a turn",
    "unfound": "its loop does not find turns that the dataset trains",
}


def compare_with_minimind(request: Request, begin: Begin, advance: Advance) -> Comparison:
    """Where the masks differ, and of which kind that is. Raises SftprepError where the tokenizer is not found, ConfigError
    where it has no token that the loop looks for."""
    side = Examples(request.folder)
    _, resolved = tokenizer_again(side.manifest, request.tokenizer)
    from tokenizers import Tokenizer

    encode = Tokenizer.from_str(resolved.backend).encode
    rule = rule_of_preset(
        {"mask": request.way},
        resolved.special_tokens,
        lambda: None,  # type: ignore[arg-type,return-value]  # it asks for no talk
        lambda text: encode(text, add_special_tokens=False).ids,
    )
    tally, looked_at = Tally(KINDS, few=request.few), 0
    begin("asking MiniMind's loop", len(side), "conversations")
    for part in side.parts():
        _compare(tally, side, part, rule)
        looked_at += len(part.numbers)
        advance(len(part.numbers))
    note = "the loop is asked about the dataset's own ids, cut and padded as MiniMind does"
    name = f"MiniMind's loop ({request.way})"
    return Comparison(
        str(request.folder), name, conversations=looked_at, equal=tally.equal, kinds=tally.found(), notes=[note]
    )


def _compare(tally: Tally, side: Examples, part: Part, rule: ScanRule) -> None:
    starts, counts = part.offsets[:-1], np.diff(part.offsets)
    length = int(side.manifest.config.get("max_length") or counts.max(initial=1) + 1)  # without a limit, a pad for each
    pad = side.manifest.pad_id
    ids = windows(part.ids, starts, counts, length, pad, part.ids.dtype)
    ours = windows(part.weights > 0, starts, counts, length, 0, np.dtype(np.bool_))
    for e, pads in side.trained_pads(part):
        ours[e, counts[e] :] |= pads[: length - counts[e]]
    theirs = scan_mask(ids, rule)
    theirs[:, 0] = False  # nothing predicts a first id
    different = (ours != theirs).any(axis=1)
    tally.equal += int(np.count_nonzero(~different))
    for e in np.flatnonzero(different).tolist():
        for name, (first, tokens) in _kinds(ours[e], theirs[e], int(counts[e])).items():
            tally.add(name, partial(_shown, side, part.numbers[e], ids[e], ours[e], theirs[e], first), tokens)


def _shown(side: Examples, number: int, ids: Any, ours: Masks, theirs: Masks, first: int) -> Difference:
    """A difference from its first token on: what differs before is of another kind."""
    own = side[number]
    reach = max(len(own.ids), first + 1)  # pads are shown where they differ
    masks = (np.concatenate([ours[:first], each[first:]])[:reach] for each in (ours, theirs))
    return shown(*(replace(own, ids=ids[:reach], weights=mask) for mask in masks))


def _kinds(ours: Masks, theirs: Masks, count: int) -> dict[str, tuple[int, int]]:
    """Of one conversation of `count` ids, padded: each kind of difference with its first token, and how many there are."""
    found: dict[str, tuple[int, int]] = {}
    for begin, end, is_theirs in _stretches(ours, theirs, count):
        own = ours if is_theirs else theirs
        before, behind = bool(own[begin - 1]), end == len(own) or bool(own[end])  # or what is cut off
        if is_theirs:
            name = "padding" if begin >= count else "behind" if before else "before" if behind else "apart"
        else:
            name = "partly" if before or behind else "unfound"
        first, tokens = found.get(name, (begin, 0))
        found[name] = first, tokens + end - begin
    return found


def _stretches(ours: Masks, theirs: Masks, count: int) -> Iterator[tuple[int, int, bool]]:
    """(begin, end, whether it is MiniMind's loop that trains it) of tokens in a row that one alone trains; none reaches from
    the conversation into the padding."""
    state = np.where(ours == theirs, 0, np.where(theirs, 1, 2))
    state[count:] *= 3
    edges = [0, *(np.flatnonzero(np.diff(state)) + 1).tolist(), len(state)]
    for begin, end in pairwise(edges):
        if state[begin]:
            yield begin, end, bool(theirs[begin])
