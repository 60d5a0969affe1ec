"""The template's `{% generation %}` blocks -> the mask that Transformers makes of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from sftprep.masks.paint import IntArray
from sftprep.masks.spans import BEYOND, CharSpans, Places, parts, stride_of


def generation_mask(starts: Places, stops: Places, offsets: IntArray, blocks: CharSpans) -> npt.NDArray[np.bool_]:
    """(T,) bool: the tokens of `{% generation %}` blocks, as Transformers' `return_assistant_tokens_mask` has them.

    Arguments as in `span_mask`, blocks in the order the template finished them. From
    `PreTrainedTokenizerBase.apply_chat_template`: a token is in if it ends after the start of the first block that
    stops after the token's start. So every token that overlaps a block is in, also one that straddles its start.
    """
    stride = stride_of(starts, stops, blocks)
    reached = np.maximum.accumulate(blocks.conversation * stride + blocks.stop)
    first = np.append(blocks.conversation * stride + blocks.start, BEYOND)
    mask, furthest = np.zeros(len(starts), np.bool_), 0
    for part, owner in parts(offsets):
        begins, ends = owner * stride + starts[part], owner * stride + stops[part]
        begins[0] = max(begins[0], furthest)  # Transformers never goes back to an earlier block
        begins = np.maximum.accumulate(begins)
        furthest = begins[-1]
        mask[part] = first[np.searchsorted(reached, begins, side="right")] < ends
    return mask
