"""Conversations -> ids and mask, the fast way first.

Fast: template replay, the fast engine, masks placed by the control tokens that the template wrote. Conversations that
do not add up that way (text that spells control tokens, a header that melts into the answer, a template without
control tokens) take the exact way: masks by characters, Jinja where the text is in doubt, the `tokenizers` library where
the tokens are. A sample takes both: all of it Jinja and characters, a part of it the `tokenizers` library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import cache
from itertools import zip_longest

import numpy as np
import numpy.typing as npt

from sftprep.batches.toolbox import Toolbox
from sftprep.characters.placed import PlacedTokens
from sftprep.config import BuildConfig
from sftprep.errors import ConversationError, TokenizerError
from sftprep.masks.by_controls import (
    ControlIds,
    GivenWeights,
    PlacesInIds,
    PlaceTable,
    mask_by_controls,
    places_in_ids,
    unended_runs,
)
from sftprep.masks.generation import generation_mask
from sftprep.masks.paint import Mask
from sftprep.masks.scan import ScanRule
from sftprep.masks.spans import CharSpans, char_spans, span_mask
from sftprep.masks.weights import message_weights
from sftprep.records.conversation import Conversation
from sftprep.template.turns import Rendering, SpanPlaces
from sftprep.tokens.batch import TokenBatch, split_rows
from sftprep.tokens.engines import encode_apart

Stage = Callable[[str], AbstractContextManager[None]]  # puts the time spent inside on that stage's account
FORGED = "message text spells a control token"
_MOST_COMPILED = 4096  # shapes of conversations kept in ids
_LONG = 1 << 18  # characters: less is nothing to save memory of
_TOKENIZED = 5  # of so many sampled conversations, one is tokenized by the reference: that takes most of the exact way


@dataclass(frozen=True, slots=True, eq=False)
class Masked:
    """A batch's ids and what is trained of them; conversations that failed have no ids."""

    batch: TokenBatch
    mask: Mask | ScanRule
    failed: dict[int, str]  # index in the batch -> why it is to be rejected
    forged: int  # conversations whose text spells a control token
    by_characters: int  # conversations masked by character offsets because the fast way did not add up
    boundary_tokens: int  # tokens that hold both header and answer; not trained
    empty: int  # turns that have something to say of which nothing is printed; not trained
    unended: int  # trained turns without an end-of-turn token
    adapted: int  # conversations that the template took in another variant than their own only


@dataclass(frozen=True, slots=True, eq=False)
class ByCharacters:
    """What the exact way found for some conversations of a batch."""

    batch: TokenBatch
    mask: Mask
    failed: dict[int, str]  # index among them
    forged: list[bool]
    boundary_tokens: int
    adapted: int


class BothWays:
    """Ids and masks of conversations, for one tokenizer, template and way of masking."""

    def __init__(self, config: BuildConfig, toolbox: Toolbox, stage: Stage) -> None:
        resolved, engine = toolbox.resolved, toolbox.engine
        self._config, self._engine, self._stage = config, engine, stage
        self._templates, self._trained = toolbox.templates, config.trained
        controls = self._templates.control_tokens
        self._tiled = toolbox.tiled
        self._encode_piece = cache(lambda text: tuple(engine.encode([text]).ids.tolist()))
        is_control = np.zeros(resolved.size, np.bool_)
        for token in resolved.added_tokens:
            is_control[token.id] = token.content in controls
        self._control_ids = ControlIds.of(is_control)
        self._compiled: dict[SpanPlaces, PlacesInIds] = {}
        self._sampled = 0  # conversations that took both ways so far
        self._blocks, rule_of = config.mask_kind.spans == "blocks", config.mask_kind.rule_of()
        given = (config.content_options(), resolved.special_tokens, self._templates.small_talk, self._encode_piece)
        self._rule: ScanRule | None = rule_of(*given) if rule_of else None

    def mask(self, conversations: Sequence[Conversation], sampled: Sequence[int]) -> Masked:
        """Tokenize and mask a batch. The conversations at `sampled` take both ways.

        Raises TokenizerError where the two ways differ; its `index` is that of the conversation in the batch.
        """
        if self._blocks:
            with self._stage("by characters"):
                exact = self._exactly(conversations)
            unended = unended_runs(exact.batch, exact.mask, self._control_ids)
            return Masked(exact.batch, exact.mask, exact.failed, sum(exact.forged), 0, 0, 0, unended, exact.adapted)
        with self._stage("rendering"):
            texts, marks, adapted, failed = self._render(conversations)
        with self._stage("tokenizing"):
            batch, unreadable = self._encode(texts)
        failed |= dict.fromkeys(unreadable, "its text cannot be tokenized")
        with self._stage("mask"):
            mask, ok = self._fast_mask(conversations, marks, batch)
        rest = [index for index in np.flatnonzero(~ok).tolist() if index not in failed]
        known = [(texts[index], marks[index]) if len(texts[index]) < _LONG else None for index in rest]
        for index in rest:
            texts[index] = ""  # a long one need not be in memory twice
        with self._stage("by characters"):
            exact = self._exactly([conversations[index] for index in rest], known)
        failed |= {rest[index]: reason for index, reason in exact.failed.items()}
        self._compare(
            conversations, [index for index in sampled if ok[index] and index not in failed], texts, batch, mask
        )
        batch, mask = _put_in(batch, mask, rest, exact, failed)
        taken = 0 if self._rule else len(rest) - len(exact.failed)
        empty = self._silent(conversations, marks, failed)
        ended = self._rule or not self._config.train_end_of_turn
        unended = 0 if ended else unended_runs(batch, mask, self._control_ids)
        others = len(adapted - failed.keys())
        return Masked(
            batch, self._rule or mask, failed, sum(exact.forged), taken, exact.boundary_tokens, empty, unended, others
        )

    def _render(
        self, conversations: Sequence[Conversation]
    ) -> tuple[list[str], list[SpanPlaces], set[int], dict[int, str]]:
        """Texts and marks; the conversations that the template took in another variant; those that failed, and why."""
        texts, marks, adapted, failed = [], [], set(), {}
        for index, conversation in enumerate(conversations):
            try:
                text, mark, another = self._templates.render_fast(conversation)
            except ConversationError as error:
                failed[index] = str(error)
                text, mark, another = "", _NO_PLACES, False
            texts.append(text)
            marks.append(mark)
            if another:
                adapted.add(index)
        return texts, marks, adapted, failed

    def _encode(self, texts: list[str]) -> tuple[TokenBatch, list[int]]:
        try:
            return self._engine.encode(texts), []
        except TokenizerError:
            return encode_apart(self._engine, texts)

    def _fast_mask(
        self, conversations: Sequence[Conversation], marks: Sequence[SpanPlaces], batch: TokenBatch
    ) -> tuple[Mask, npt.NDArray[np.bool_]]:
        """(T,) mask of the batch, and (B,) True for the conversations that it is right for."""
        entries: dict[int, int] = {}  # identity of SpanPlaces -> row in the table
        table: list[PlacesInIds] = []
        entry = np.empty(len(marks), np.int64)
        own: list[tuple[int, npt.NDArray[np.float32]]] = []
        for index, (conversation, mark) in enumerate(zip(conversations, marks, strict=True)):
            row = entries.get(id(mark))
            if row is None:
                row = entries[id(mark)] = len(table)
                table.append(self._compile(mark, conversation))
            entry[index] = row
            if conversation.weights is not None:
                own.append((index, self.weights(conversation)[table[row].message]))
        given = None
        if own:
            given = GivenWeights(np.array([index for index, _ in own]), np.concatenate([weight for _, weight in own]))
        end = self._config.train_end_of_turn
        mask, ok = mask_by_controls(batch, self._control_ids, entry, PlaceTable.of(table), given, train_end_of_turn=end)
        if self._config.control_tokens == "allow" and self._rule:
            ok[:] = True
        return mask, ok

    def _compile(self, marks: SpanPlaces, conversation: Conversation) -> PlacesInIds:
        """Marks in ids, remembered for as long as the shape is. Roles are part of a shape, so weights by role are too."""
        known = self._compiled.get(marks)
        if known is None:
            if len(self._compiled) >= _MOST_COMPILED:
                self._compiled.clear()
            shape = SpanPlaces(marks.controls, (), (), (), (), False) if self._rule else marks
            roles = replace(conversation, weights=None)
            known = self._compiled[marks] = places_in_ids(shape, self.weights(roles), self._encode_piece)
        return known

    def weights(self, conversation: Conversation) -> npt.NDArray[np.float32]:
        """(M,) float32: the loss weight of each message."""
        roles = [message["role"] for message in conversation.messages]
        return message_weights(roles, self._trained, conversation.weights)

    def _silent(
        self, conversations: Sequence[Conversation], marks: Sequence[SpanPlaces], failed: dict[int, str]
    ) -> int:
        """How many turns would be trained if anything of them were printed. Templates whose mask is a rule tell of none."""
        found = (
            self.weights(conversation)[list(mark.silent)]
            for index, (conversation, mark) in enumerate(zip(conversations, marks, strict=True))
            if mark.silent and index not in failed
        )
        return sum(int(np.count_nonzero(weights)) for weights in found)

    def _exactly(
        self, conversations: Sequence[Conversation], replayed: Sequence[tuple[str, SpanPlaces] | None] = ()
    ) -> ByCharacters:
        """The exact way: Jinja's own text, ids with their places in it, masks by character.

        replayed: the conversations' texts and marks, to be taken for Jinja's where no text spells a control token.
        """
        if not conversations:
            return ByCharacters(_NO_TOKENS, np.zeros(0, np.bool_), {}, [], 0, 0)
        renderings, failed = self._render_exactly(conversations, replayed)
        for conversation, rendering in zip(conversations, renderings, strict=True):
            if len(rendering.text) >= _LONG:
                conversation.forget()
        forged = [bool(rendering.forged) for rendering in renderings]
        if self._config.control_tokens == "reject":
            failed |= {index: FORGED for index, spelled in enumerate(forged) if spelled and index not in failed}
        for index in failed:
            renderings[index] = _NOTHING
        adapted = sum(rendering.adapted for rendering in renderings)
        placed = self._encode_exactly(renderings)
        mask, boundary_tokens = self._exact_mask(conversations, renderings, placed)
        return ByCharacters(placed.tokens, mask, failed, forged, int(boundary_tokens.sum()), adapted)

    def _render_exactly(
        self, conversations: Sequence[Conversation], replayed: Sequence[tuple[str, SpanPlaces] | None]
    ) -> tuple[list[Rendering], dict[int, str]]:
        """Renderings, and why some failed, by index; those are empty. replayed: as in `_exactly`, or fewer."""
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

    def _encode_exactly(self, renderings: Sequence[Rendering]) -> PlacedTokens:
        texts = [rendering.text for rendering in renderings]
        if self._config.control_tokens == "allow":
            return self._tiled.encode_with_starts(texts)
        return self._tiled.encode_plain_text(texts, [rendering.controls for rendering in renderings])

    def _exact_mask(
        self, conversations: Sequence[Conversation], renderings: Sequence[Rendering], placed: PlacedTokens
    ) -> tuple[Mask, npt.NDArray[np.int64]]:
        """(T,) mask over the placed tokens; (B,) tokens of each conversation that hold header and answer, for blocks (1,) of 0."""
        starts, stops, offsets = placed.starts, placed.stops, placed.tokens.offsets
        if self._blocks:
            return generation_mask(starts, stops, offsets, _blocks(renderings)), np.zeros(1, np.int64)
        weights = [self.weights(conversation) for conversation in conversations]
        spans = char_spans(renderings, weights, train_end_of_turn=self._config.train_end_of_turn)
        return span_mask(starts, stops, offsets, spans)

    def _compare(
        self, conversations: Sequence[Conversation], sampled: list[int], texts: list[str], batch: TokenBatch, mask: Mask
    ) -> None:
        """Raise where the exact way gives another text, other ids or another mask than the fast way did."""
        if self._engine is not self._engine.reference:
            with self._stage("checks"):
                chosen = [index for number, index in enumerate(sampled, self._sampled) if number % _TOKENIZED == 0]
                self._compare_engines(chosen, texts, batch)
                self._sampled += len(sampled)
        texts.clear()  # a long one need not be in memory twice
        with self._stage("checks"):
            exact = self._exactly([conversations[index] for index in sampled])
        for at, index in enumerate(sampled):
            here, there = slice(*batch.offsets[index : index + 2]), slice(*exact.batch.offsets[at : at + 2])
            if at in exact.failed or not np.array_equal(batch.ids[here], exact.batch.ids[there]):
                raise DisagreementError(index, "two ways of masking give different ids")
            if not self._rule and not np.array_equal(mask[here], exact.mask[there]):
                raise DisagreementError(index, "masks by control tokens and by characters differ")

    def _compare_engines(self, sampled: list[int], texts: list[str], batch: TokenBatch) -> None:
        """Of a text that would take the reference too much memory, both encode the start."""
        engine, reference = self._engine, self._engine.reference
        looked_at = [reference.cuts.start_of(texts[index]) for index in sampled]
        expected = split_rows(reference.encode(looked_at))
        for index, text, ids in zip(sampled, looked_at, expected, strict=True):
            whole = text is texts[index]
            given = batch.ids[slice(*batch.offsets[index : index + 2])] if whole else engine.encode([text]).ids
            if not np.array_equal(given, ids):
                what = f"engine {engine.name} and the reference give different ids"
                raise DisagreementError(index, what, "; --tokenizer-engine hf does the job by the reference alone")


class DisagreementError(TokenizerError):
    """The fast and the exact way differ on a conversation: a fault of sftprep or of a library, never of the data."""

    def __init__(self, index: int, what: str, remedy: str = "") -> None:
        super().__init__(index, what, remedy)
        self.index, self.what, self.remedy = index, what, remedy

    def __str__(self) -> str:
        return f"{self.what}; nothing can be trusted then, so the job stops. Please report it{self.remedy}"


_NO_PLACES = SpanPlaces((), (), (), (), (), unplaced=False)
_NOTHING = Rendering("", (), ())
_NO_TOKENS = TokenBatch(np.zeros(0, np.uint32), np.zeros(1, np.int64))


def _blocks(renderings: Sequence[Rendering]) -> CharSpans:
    """The generation blocks of a batch."""
    rows = [(index, span.start, span.stop) for index, each in enumerate(renderings) for span in each.spans]
    conversation, start, stop = np.array(rows, np.int64).reshape(-1, 3).T
    return CharSpans(conversation, start, stop)


def _put_in(
    batch: TokenBatch, mask: Mask, places: list[int], exact: ByCharacters, failed: dict[int, str]
) -> tuple[TokenBatch, Mask]:
    """The batch and its (T,) mask, the conversations at `places` (indices in the batch, in the order of `exact`) replaced by
    what the exact way found, and failed ones emptied."""
    if not places and not failed:
        return batch, mask
    dtype = np.result_type(mask, exact.mask)
    ids, masks, lengths = [], [], np.diff(batch.offsets)
    done = 0
    other = dict(zip(places, range(len(places)), strict=True))
    for place in sorted({*places, *failed}):
        ids.append(batch.ids[done : batch.offsets[place]])
        masks.append(mask[done : batch.offsets[place]])
        done = batch.offsets[place + 1]
        lengths[place] = 0
        if place not in failed:
            start, stop = exact.batch.offsets[other[place] : other[place] + 2]
            ids.append(exact.batch.ids[start:stop])
            masks.append(exact.mask[start:stop])
            lengths[place] = stop - start
    ids.append(batch.ids[done:])
    masks.append(mask[done:])
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    return TokenBatch(np.concatenate(ids), offsets), np.concatenate(masks).astype(dtype, copy=False)
