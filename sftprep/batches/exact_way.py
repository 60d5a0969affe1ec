"""Conversations -> ids and mask, the exact way: Jinja's own text, ids with their places in it, masks by character.

Jinja is asked only where the text is in doubt, and the `tokenizers` library where the tokens are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from sftprep.batches.toolbox import Toolbox
from sftprep.characters.placed import PlacedTokens
from sftprep.config import BuildConfig
from sftprep.errors import ConversationError
from sftprep.masks.generation import generation_mask
from sftprep.masks.paint import Mask
from sftprep.masks.spans import CharSpans, char_spans, span_mask
from sftprep.masks.weights import message_weights
from sftprep.records.conversation import Conversation
from sftprep.records.said import LeftOut
from sftprep.template.turns import Rendering, Told
from sftprep.tokens.batch import TokenBatch

FORGED = "message text spells a control token"
LONG = 1 << 18  # characters: less is nothing to save memory of


@dataclass(frozen=True, slots=True, eq=False)
class ByCharacters:
    """What the exact way found for some conversations (B of them)."""

    batch: TokenBatch
    mask: Mask
    failed: dict[int, str]  # index among them
    forged: npt.NDArray[np.bool_]  # (B,) True: its text spells a control token
    boundary_tokens: npt.NDArray[np.int64]  # (B,) tokens that hold both header and answer
    adapted: npt.NDArray[np.bool_]  # (B,) True: the template took it in another variant than its own only
    unprinted: list[tuple[LeftOut, ...]]  # (B,) as in the renderings


class ExactWay:
    """Ids and masks of conversations by characters, for one tokenizer, template and way of masking."""

    def __init__(self, config: BuildConfig, toolbox: Toolbox) -> None:
        self._config, self._templates, self._tiled = config, toolbox.templates, toolbox.tiled
        self._blocks = config.mask_kind.spans == "blocks"

    def mask(
        self, conversations: Sequence[Conversation], replayed: Sequence[tuple[str, Told] | None] = ()
    ) -> ByCharacters:
        """Tokenize and mask.

        replayed: the conversations' texts and what is told of them, to be taken for Jinja's where no text spells a control token.
        """
        if not conversations:
            return ByCharacters(_NO_TOKENS, _NONE, {}, _NONE, _NONE.astype(np.int64), _NONE, [])
        renderings, failed = self._render(conversations, replayed)
        for conversation, rendering in zip(conversations, renderings, strict=True):
            if len(rendering.text) >= LONG:
                conversation.forget()
        forged = np.array([bool(rendering.forged) for rendering in renderings], np.bool_)
        if self._config.control_tokens == "reject":
            failed |= {index: FORGED for index in np.flatnonzero(forged).tolist() if index not in failed}
        for index in failed:
            renderings[index] = _NOTHING
        placed = self._encode(renderings)
        mask, boundary_tokens = self._mask(conversations, renderings, placed)
        adapted = np.array([rendering.adapted for rendering in renderings], np.bool_)
        unprinted = [rendering.unprinted for rendering in renderings]
        return ByCharacters(placed.tokens, mask, failed, forged, boundary_tokens, adapted, unprinted)

    def place(self, conversation: Conversation) -> tuple[Rendering, PlacedTokens]:
        """A conversation's text and its tokens, with their places in it. Raises ConversationError."""
        rendering = self._templates.render_exactly(conversation)
        return rendering, self._encode([rendering])

    def _render(
        self, conversations: Sequence[Conversation], replayed: Sequence[tuple[str, Told] | None]
    ) -> tuple[list[Rendering], dict[int, str]]:
        """Renderings, and why some failed, by index; those are empty. replayed: as in `mask`, or fewer."""
        renderings, failed = [], {}
        for index, (conversation, known) in enumerate(zip_longest(conversations, replayed)):
            try:
                if known is None:
                    rendering = self._templates.render_exactly(conversation)
                else:
                    rendering = self._templates.rendering_of(conversation, *known)
            except ConversationError as error:
                rendering, failed[index] = _NOTHING, str(error)
            renderings.append(rendering)
        return renderings, failed

    def _encode(self, renderings: Sequence[Rendering]) -> PlacedTokens:
        texts = [rendering.text for rendering in renderings]
        if self._config.control_tokens == "allow":
            return self._tiled.encode_with_starts(texts)
        return self._tiled.encode_plain_text(texts, [rendering.controls for rendering in renderings])

    def _mask(
        self, conversations: Sequence[Conversation], renderings: Sequence[Rendering], placed: PlacedTokens
    ) -> tuple[Mask, npt.NDArray[np.int64]]:
        """(T,) mask over the placed tokens; (B,) tokens of each conversation that hold header and answer, 0 for blocks."""
        starts, stops, offsets = placed.starts, placed.stops, placed.tokens.offsets
        if self._blocks:
            return generation_mask(starts, stops, offsets, _blocks(renderings)), np.zeros(len(renderings), np.int64)
        weights = [weights_of(conversation, self._config) for conversation in conversations]
        spans = char_spans(renderings, weights, train_end_of_turn=self._config.train_end_of_turn)
        return span_mask(starts, stops, offsets, spans)


_NOTHING = Rendering("", (), ())
_NONE = np.zeros(0, np.bool_)
_NO_TOKENS = TokenBatch(np.zeros(0, np.uint32), np.zeros(1, np.int64))


def weights_of(conversation: Conversation, config: BuildConfig) -> npt.NDArray[np.float32]:
    """(M,) float32: the loss weight of each message."""
    roles = [message["role"] for message in conversation.messages]
    return message_weights(roles, config.trained, conversation.weights)


def _blocks(renderings: Sequence[Rendering]) -> CharSpans:
    """The generation blocks of a batch."""
    rows = [(index, span.start, span.stop) for index, each in enumerate(renderings) for span in each.spans]
    conversation, start, stop = np.array(rows, np.int64).reshape(-1, 3).T
    return CharSpans(conversation, start, stop)
