"""Conversations that are longer than a row: which they are, why nothing is left of one, and what other limits would cut off, counted over
whole conversations, so that one run answers for all of them."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from sftprep.config import BuildConfig
from sftprep.masks.paint import Mask
from sftprep.masks.scan import ScanRule, scan_mask
from sftprep.tokens.batch import TokenBatch

LENGTHS = tuple(512 << power for power in range(7))  # tokens of a conversation that a row might hold
COUNTED = ("truncated", "dropped", "tokens", "trained_tokens")  # examples cut; without a trained token left; kept


_NOTHING_LEFT = {  # why, by `--overflow`
    "truncate": "prompt longer than {:,} tokens, so that nothing of the answer is left",
    "turns": "the first answer does not end in the first {:,} tokens, and it is to be kept whole",
    "split": "no answer of {:,} tokens or less together with what is before it",
    "drop": "longer than {:,} tokens",
}


def is_long(tokens: Any, config: BuildConfig) -> Any:
    """Whether a number of tokens, or which of several, is more than a row keeps of a conversation."""
    return tokens > (np.inf if config.max_length is None else config.max_length)


def why_nothing_is_left(config: BuildConfig) -> str:
    """Of a conversation that is longer than that."""
    return _NOTHING_LEFT[config.overflow].format(config.max_length)


def count_at_lengths(batch: TokenBatch, mask: Mask | ScanRule) -> npt.NDArray[np.int64]:
    """(len(LENGTHS), len(COUNTED)), for each length what `Totals` would hold. mask: (T,) over the batch's ids, or a rule,
    which scans each example whole."""
    starts, sizes = batch.offsets[:-1], np.diff(batch.offsets)
    if isinstance(mask, ScanRule):
        mask = np.concatenate([np.zeros(0, np.bool_), *_scanned(batch, mask)])
    trained = np.flatnonzero(mask)
    owner = np.repeat(np.arange(len(sizes)), sizes)[trained]
    position = trained - starts[owner]  # in its example
    owner, position = owner[position > 0], position[position > 0]  # an example's first token is no target
    counts = np.zeros((len(LENGTHS), len(COUNTED)), np.int64)
    for row, length in zip(counts, LENGTHS, strict=True):
        kept = position < length
        examples = np.unique(owner[kept])  # indices of those of which something is trained
        own = sizes[examples]
        dropped = len(sizes) - len(examples)
        row[:] = np.count_nonzero(own > length), dropped, np.minimum(own, length).sum(), np.count_nonzero(kept)
    return counts


def _scanned(batch: TokenBatch, rule: ScanRule) -> list[npt.NDArray[np.bool_]]:
    return [scan_mask(batch.ids[None, start:stop], rule)[0] for start, stop in pairwise(batch.offsets.tolist())]
