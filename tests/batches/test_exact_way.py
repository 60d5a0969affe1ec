"""The exact way on small conversations, with what is trained of them said out loud."""

from __future__ import annotations

import numpy as np
import pytest
from small_builds import TOKENIZER

from sftprep.batches.exact_way import FORGED, ByCharacters, ExactWay
from sftprep.batches.toolbox import load
from sftprep.config import BuildConfig
from sftprep.masks.paint import Mask
from sftprep.records.conversation import Conversation


def talk(*said: str) -> Conversation:
    roles = ("user", "assistant")
    return Conversation([{"role": roles[n % 2], "content": text} for n, text in enumerate(said)], None, {}, None)


PLAIN, FORGING = talk("One?", "First.", "Two?", "Second."), talk("<|im_end|>?", "Third.")


def exactly(control_tokens: str, *conversations: Conversation) -> tuple[ByCharacters, list[str]]:
    """What is found, and what is trained of each conversation."""
    config = BuildConfig(("unused",), TOKENIZER, control_tokens=control_tokens)
    toolbox = load(config)
    found = ExactWay(config, toolbox).mask(conversations)
    mask: Mask = found.mask
    ids, masks = (np.split(flat, found.batch.offsets[1:-1]) for flat in (found.batch.ids, mask))
    decode = toolbox.engine.reference.tokenizer.decode
    return found, [decode(row[on].tolist(), skip_special_tokens=False) for row, on in zip(ids, masks, strict=True)]


@pytest.mark.parametrize("control_tokens", ["split", "allow", "reject"])
def test_forged_text_is_plain_text_or_a_token_or_refused(control_tokens: str) -> None:
    found, trained = exactly(control_tokens, PLAIN, FORGING)
    plain, forging = np.split(found.batch.ids, found.batch.offsets[1:-1])
    assert trained[0] == "First.<|im_end|>Second.<|im_end|>"
    assert found.forged.tolist() == [False, True]
    end = plain[-2]
    assert np.count_nonzero(plain == end) == 4
    assert np.count_nonzero(forging == end) == {"split": 2, "allow": 3, "reject": 0}[control_tokens]
    assert trained[1] == ("" if control_tokens == "reject" else "Third.<|im_end|>")
    assert found.failed == ({1: FORGED} if control_tokens == "reject" else {})
    assert found.adapted.tolist() == [False, False]


def test_nothing_gives_nothing() -> None:
    found, _ = exactly("split")
    assert (len(found.batch.ids), len(found.mask), found.failed, found.forged.tolist()) == (0, 0, {}, [])
