"""Conversations -> ids and mask, the fast way first.

Fast: template replay, the fast engine, masks placed by the control tokens that the template wrote. Conversations that
do not add up that way (text that spells control tokens, a header that melts into the answer, a template without
control tokens) take the exact way (`exact_way`). A sample takes both: all of it Jinja and characters, a part of it the
`tokenizers` library.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cache

import numpy as np
import numpy.typing as npt

from sftprep.batches.contexts import Contexts
from sftprep.batches.exact_way import LONG, ByCharacters, ExactWay, weights_of
from sftprep.batches.toolbox import Toolbox
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
from sftprep.masks.paint import Mask
from sftprep.masks.scan import ScanRule
from sftprep.records.conversation import Conversation
from sftprep.records.said import LeftOut
from sftprep.template.turns import NOTHING_TOLD, SpanPlaces, Told
from sftprep.tokens.batch import TokenBatch, split_rows
from sftprep.tokens.engines import encode_apart

Stage = Callable[[str], AbstractContextManager[None]]  # puts the time spent inside on that stage's account
_MOST_COMPILED = 4096  # shapes of conversations kept in ids
_TOKENIZED = 5  # of so many sampled conversations, one is tokenized by the reference: that takes most of the exact way


@dataclass(frozen=True, slots=True, eq=False)
class Masked:
    """A batch's ids and what is trained of them; conversations that failed have no ids."""

    batch: TokenBatch
    mask: Mask | ScanRule
    failed: dict[int, str]  # index in the batch -> why it is to be rejected
    found: Findings


@dataclass(frozen=True, slots=True, eq=False)
class Findings:
    """What there is to say of each conversation of a batch (B of them)."""

    forged: npt.NDArray[np.bool_]  # (B,) True: its text spells a control token
    by_characters: npt.NDArray[np.bool_]  # (B,) True: masked by character offsets because the fast way did not add up
    adapted: npt.NDArray[np.bool_]  # (B,) True: the template took it in another variant than its own only
    replayed: npt.NDArray[np.bool_]  # (B,) True: rendered without Jinja
    boundary_tokens: npt.NDArray[np.int64]  # (B,) tokens that hold both header and answer; not trained
    empty: npt.NDArray[np.int64]  # (B,) turns that have something to say of which nothing is printed; not trained
    unended: npt.NDArray[np.int64]  # (B,) trained turns without an end-of-turn token
    other_context: npt.NDArray[np.int64]  # (B,) trained turns that stand in another context than they are asked for in
    unknown_context: npt.NDArray[np.int64]  # (B,) trained turns of which that is not known
    dropped_reasoning: npt.NDArray[np.int64]  # (B,) trained turns whose reasoning is printed only while they come last
    unprinted: list[tuple[LeftOut, ...]] = field(default_factory=list)  # (B,) what the template leaves out of it

    @classmethod
    def none(cls, size: int) -> Findings:
        """Nothing to say of any of so many conversations."""
        found = cls(*np.zeros((4, size), np.bool_), *np.zeros((6, size), np.int64))
        found.unprinted.extend([()] * size)
        return found


class BothWays:
    """Ids and masks of conversations, for one tokenizer, template and way of masking."""

    def __init__(self, config: BuildConfig, toolbox: Toolbox, stage: Stage) -> None:
        resolved, engine = toolbox.resolved, toolbox.engine
        self._config, self._engine, self._stage = config, engine, stage
        self._templates, self._exact = toolbox.templates, ExactWay(config, toolbox)
        controls = self._templates.control_tokens
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
        found = Findings.none(len(conversations))
        if self._blocks:
            with self._stage("by characters"):
                exact = self._exact.mask(conversations)
            found.forged[:], found.adapted[:] = exact.forged, exact.adapted
            found.unended[:] = unended_runs(exact.batch, exact.mask, self._control_ids)
            found.unprinted[:] = exact.unprinted
            return Masked(exact.batch, exact.mask, exact.failed, found)
        with self._stage("rendering"):
            texts, told, failed = self._render(conversations, found)
        marks = [places for places, _ in told]
        found.unprinted[:] = [mark.unprinted for mark in marks]
        if self._config.contexts == "whole" and self._config.mask_kind.spans == "turns":
            with self._stage("contexts"):
                for index in range(len(conversations)):
                    self._look_at_contexts(index, conversations[index], texts[index], told[index], found)
        with self._stage("tokenizing"):
            batch, unreadable = self._encode(texts)
        failed |= dict.fromkeys(unreadable, "its text cannot be tokenized")
        with self._stage("mask"):
            mask, ok = self._fast_mask(conversations, marks, batch)
        rest = [index for index in np.flatnonzero(~ok).tolist() if index not in failed]
        known = [(texts[index], told[index]) if len(texts[index]) < LONG else None for index in rest]
        compared = {*sampled} - {index for index, each in zip(rest, known, strict=True) if each is None}
        for index in {*rest} - compared:
            texts[index] = ""  # a long one need not be in memory twice
        with self._stage("by characters"):
            exact = self._exact.mask([conversations[index] for index in rest], known)
        failed |= {rest[index]: reason for index, reason in exact.failed.items()}
        batch, mask = _put_in(batch, mask, rest, exact, failed)
        found.forged[rest], found.boundary_tokens[rest] = exact.forged, exact.boundary_tokens
        if not self._rule:
            found.by_characters[rest] = True
            if self._config.train_end_of_turn:
                found.unended[:] = unended_runs(batch, mask, self._control_ids)
        for index, (conversation, mark) in enumerate(zip(conversations, marks, strict=True)):
            if mark.silent:
                found.empty[index] = np.count_nonzero(self._weights(conversation)[list(mark.silent)])
        compared -= {*failed, *np.flatnonzero(found.forged).tolist()}  # what is forged took no other way
        self._compare(conversations, sorted(compared), texts, batch, mask, found)
        return Masked(batch, self._rule or mask, failed, found)

    def _render(
        self, conversations: Sequence[Conversation], found: Findings
    ) -> tuple[list[str], list[Told], dict[int, str]]:
        """Texts and what is told of them; the conversations that failed, and why."""
        texts, told, failed = [], [], {}
        for index, conversation in enumerate(conversations):
            replayed = self._templates.replayed
            try:
                text, each, found.adapted[index] = self._templates.render_fast(conversation)
                found.replayed[index] = self._templates.replayed > replayed
            except ConversationError as error:
                failed[index] = str(error)
                text, each = "", NOTHING_TOLD
            texts.append(text)
            told.append(each)
        return texts, told, failed

    def _look_at_contexts(self, index: int, conversation: Conversation, text: str, told: Told, found: Findings) -> None:
        places, _ = told
        if places.others is None or places.others:
            contexts = Contexts(self._templates, conversation)
            others = contexts.others(self._weights(conversation), (text, told))
            found.other_context[index], found.unknown_context[index] = len(others), contexts.unknown
            found.dropped_reasoning[index] = contexts.dropped_reasoning(others, (text, told))

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
                own.append((index, self._weights(conversation)[table[row].message]))
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
            known = self._compiled[marks] = places_in_ids(shape, self._weights(roles), self._encode_piece)
        return known

    def _weights(self, conversation: Conversation) -> npt.NDArray[np.float32]:
        return weights_of(conversation, self._config)

    def _compare(
        self,
        conversations: Sequence[Conversation],
        sampled: list[int],
        texts: list[str],
        batch: TokenBatch,
        mask: Mask,
        found: Findings,
    ) -> None:
        """Raise where the exact way gives another text, other ids, another mask or leaves out other things than the fast way
        did."""
        if self._engine is not self._engine.reference:
            with self._stage("checks"):
                chosen = [index for number, index in enumerate(sampled, self._sampled) if number % _TOKENIZED == 0]
                self._compare_engines(chosen, texts, batch)
                self._sampled += len(sampled)
        texts.clear()  # a long one need not be in memory twice
        with self._stage("checks"):
            exact = self._exact.mask([conversations[index] for index in sampled])
        for at, index in enumerate(sampled):
            here, there = slice(*batch.offsets[index : index + 2]), slice(*exact.batch.offsets[at : at + 2])
            if at in exact.failed or not np.array_equal(batch.ids[here], exact.batch.ids[there]):
                raise DisagreementError(index, "two ways of masking give different ids")
            if not self._rule and not np.array_equal(mask[here], exact.mask[there]):
                raise DisagreementError(index, "two ways of masking give different masks")
            if found.unprinted[index] != exact.unprinted[at]:
                raise DisagreementError(index, "two ways of rendering differ on what the chat template leaves out")

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
