"""A batch of records -> rows, with a word on every record that gives none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import blake2b
from itertools import chain
from time import perf_counter

import numpy as np
import numpy.typing as npt

from sftprep.batches.both_ways import BothWays, DisagreementError, Masked
from sftprep.batches.contexts import Contexts
from sftprep.batches.exact_way import weights_of
from sftprep.batches.lengths import count_at_lengths, is_long, why_nothing_is_left
from sftprep.batches.toolbox import Toolbox
from sftprep.config import BuildConfig
from sftprep.containers.record import Record
from sftprep.dataset.origins import Provenance
from sftprep.dataset.receipt import Reject, Totals
from sftprep.dataset.shard_writer import Prepared
from sftprep.errors import ConversationError, TokenizerError
from sftprep.layouts.kinds import layout
from sftprep.layouts.types import Rows
from sftprep.masks.paint import Mask
from sftprep.masks.scan import ScanRule
from sftprep.records.conversation import Conversation, group_in, parse_conversation
from sftprep.records.said import KINDS, LeftOut, in_words
from sftprep.records.traits import Traits, traits_of
from sftprep.sets.contents import near_key
from sftprep.sets.draws import draw
from sftprep.tokens.batch import TokenBatch, dtype_for
from sftprep.unread import Unread

_LONG = 1 << 18  # bytes: less is nothing to save memory of
_MOST = 1 << 22  # characters of examples that are tokenized together


@dataclass(frozen=True, slots=True)
class _Read:
    """A record, and what it is trained as."""

    record: Record
    examples: tuple[Conversation, ...]
    key: bytes  # 8 of them, a hash of its bytes
    near: bytes = b""  # its `near_key`, where there is a validation set to compare with
    other_context: int = 0  # turns that none of the examples shows in the context in which they are asked for
    characters: int = 0  # of the examples, if there may be several
    system_added: bool = False  # whether its system prompt is none of its own


class Preparer:
    """Everything a process needs to turn records into rows; opened once, used for all its splits.

    check_every: of so many records one takes both the fast and the exact way. lengths: count what other limits of length
    would cut off.
    """

    def __init__(
        self,
        config: BuildConfig,
        toolbox: Toolbox,
        source_names: Sequence[str],
        check_every: int,
        *,
        lengths: bool = False,
    ) -> None:
        self.seconds: dict[str, float] = {}  # by stage
        self._config, self._names, self._check_every, self._lengths = config, source_names, check_every, lengths
        self._reading, self._augmentation = config.reading, config.augmentation
        self._pad_id, self._dtype = toolbox.resolved.pad_id, dtype_for(toolbox.resolved.size)
        self._masker, self._templates = BothWays(config, toolbox, self.stage), toolbox.templates
        self._layout = layout(config.layout)

    def prepare(self, records: list[Record], home: str = "train") -> Iterator[Prepared]:
        """Rows of a batch in the records' order, set by set, and a reject for each record that gives none; in parts, where it is
        much. Long records lose their data. home: the set that the records are for, if they are not drawn for another.

        With `on_error="stop"` the first that gives none by its own fault raises ConversationError with `file:line`; so does, as
        TokenizerError, a sampled conversation on which the two ways differ.
        """
        size = sum(len(record.data) + 1 for record in records)
        unread = Unread()
        with self.stage("JSON"):
            read, rejects = self._parse(records, unread)
        for of, members in self._by_set(read, home).items():
            for part in _parts(self._served(self._varied(members, of), rejects)):
                yield self._prepare(part, rejects, size, unread, of)
                rejects, size, unread = [], 0, Unread()

    def examples(self, record: Record, home: str = "train") -> tuple[Conversation, tuple[Conversation, ...]]:
        """A record's conversation as a build varies it, and what it is trained as. Raises ConversationError where it is as
        nothing."""
        read, rejects = self._parse([record], Unread())
        for of, members in self._by_set(read, home).items():
            varied = self._varied(members, of)
            for each in self._served(varied, rejects):
                return varied[0].examples[0], each.examples
        raise ConversationError(rejects[0].reason)

    def _varied(self, read: list[_Read], of: str) -> list[_Read]:
        """Records of a set, with what is added to them and left out."""
        if of != "train" or not self._augmentation:
            return read
        with self.stage("augmentation"):
            return [self._augmented(each) for each in read]

    def _served(self, read: list[_Read], rejects: list[Reject]) -> list[_Read]:
        """With the examples that they are trained as. Those that have none are added to the rejects."""
        if self._config.contexts != "served":
            return read
        with self.stage("contexts"):
            return self._serve(read, rejects)

    def _by_set(self, read: list[_Read], home: str) -> dict[str, list[_Read]]:
        """The records of each set, at least one set."""
        if not self._config.has_validation:
            return {home: read}
        share, seed = self._config.validation_share, self._config.seed
        sets: dict[str, list[_Read]] = {home: []}
        with self.stage("sets"):
            for each in read:
                (conversation,) = each.examples
                drawn = share and draw(seed, "validation", conversation) < share
                keyed = replace(each, near=near_key(conversation))
                sets.setdefault("validation" if drawn else home, []).append(keyed)
        return sets

    def _augmented(self, read: _Read) -> _Read:
        (conversation,) = read.examples
        varied = self._augmentation.of(conversation)
        added = len(varied.messages) > len(conversation.messages)
        return replace(read, examples=(varied,), system_added=added)

    def _prepare(self, read: list[_Read], rejects: list[Reject], size: int, unread: Unread, of: str) -> Prepared:
        """Rows of some records. rejects: of others. size: bytes of all. unread: keys of all. of: the set they are for."""
        examples = [example for each in read for example in each.examples]
        owner = np.repeat(np.arange(len(read)), [len(each.examples) for each in read])  # (E,) index in read
        places = [read[index].record for index in owner.tolist()]
        sampled = [
            index for index, record in enumerate(places) if (record.line + record.offset) % self._check_every == 0
        ]
        traits = [traits_of(example) for example in examples]
        try:
            masked = self._masker.mask(examples, sampled)
        except DisagreementError as error:
            raise TokenizerError(f"{self._where(places[error.index])}: {error}") from error
        reasons = {int(owner[index]): reason for index, reason in reversed(masked.failed.items())}
        left_out = _left_out(masked.found.unprinted, examples, owner)
        if self._config.on_unprinted == "reject":
            reasons = {index: in_words(left[0]) for index, left in left_out.items()} | reasons
        rejects = rejects + [self._reject(read[index].record, reason) for index, reason in sorted(reasons.items())]
        good = np.flatnonzero(~np.isin(owner, list(reasons)))  # a record is trained whole or not at all
        with self.stage("rows"):
            batch, mask = _chosen(masked.batch, masked.mask, good)
            self._refuse_long(batch, good, places)
            given = batch, mask, self._config.max_length, self._pad_id, self._dtype
            overflow, keep = self._config.overflow, self._config.keep_untrained
            rows = self._layout.lay_out(*given, overflow=overflow, keep_untrained=keep)
            kept = good[rows.conversation]
            provenance = _provenance(read, owner, traits, masked, kept, rows)
        shown = set(owner[kept].tolist())
        dropped = sorted(set(range(len(read))) - shown - reasons.keys())
        firsts = np.searchsorted(owner, dropped)
        rejects += [self._dropped(places[index], examples[index], masked, index) for index in firsts.tolist()]
        rejects.sort(key=lambda reject: reject.place)
        found = masked.found
        unprinted = Counter(kind for index in shown for kind, _ in left_out.get(index, ()))
        totals = Totals(
            records=len(read) + len(rejects) - len(reasons) - len(dropped),
            conversations=len(shown),
            rows=0 if self._layout.by_split else len(rows),
            tokens=int(rows.tokens.sum()),
            trained_tokens=int(rows.trained.sum()),
            truncated=int(rows.truncated.sum()),
            dropped=len(dropped),
            rejected=len(rejects) - len(dropped),
            control_text=len(np.unique(owner[found.forged])),
            by_characters=len(np.unique(owner[good][found.by_characters[good]])),
            boundary_tokens=int(found.boundary_tokens[good].sum()),
            empty_turns=int(found.empty[good].sum()),
            unended_turns=int(found.unended[good].sum()),
            adapted=len(np.unique(owner[good][found.adapted[good]])),
            examples=len(kept),
            system_added=sum(read[index].system_added for index in shown),
            dropped_examples=int(np.isin(owner, list(shown)).sum()) - len(np.unique(kept)),
            other_context=int(found.other_context[good].sum()) + sum(each.other_context for each in read),
            unknown_context=int(found.unknown_context[good].sum()),
            dropped_reasoning=int(found.dropped_reasoning[good].sum()),
            **{f"unprinted_{kind}": unprinted[kind] for kind in KINDS},
        )
        replayed = len(read) - len(np.unique(owner[~found.replayed]))
        lengths = count_at_lengths(batch, mask) if self._lengths else None
        keys = bytearray().join(read[index].near for index in sorted(shown))
        return Prepared(rows, provenance, rejects, totals, unread, size, replayed, lengths, of, keys)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Put the time spent inside on a stage's account."""
        begin = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - begin

    def _parse(self, records: list[Record], unread: Unread) -> tuple[list[_Read], list[Reject]]:
        read: list[_Read] = []
        rejects: list[Reject] = []
        for index, record in enumerate(records):
            if record.error is not None:
                rejects.append(self._reject(record, record.error))
                continue
            try:
                conversation = parse_conversation(record.data, self._reading, record.place, unread)
                key = blake2b(record.data, digest_size=8).digest()
                if self._config.by is not None and record.group is None:
                    record = record._replace(group=conversation.group)
                if len(record.data) >= _LONG:
                    records[index] = record = record._replace(data=b"")
                read.append(_Read(record, (conversation,), key))
            except ConversationError as error:
                record = record._replace(group=group_in(record, self._config.by))
                rejects.append(self._reject(record, str(error)))
        return read, rejects

    def _serve(self, read: list[_Read], rejects: list[Reject]) -> list[_Read]:
        """Each record's examples. Those that have none are added to the rejects."""
        served = []
        for each in read:
            (conversation,) = each.examples
            whole, left_out = replace(conversation, left_out=""), conversation.left_out  # a server leaves nothing out
            try:
                examples = Contexts(self._templates, whole).examples(weights_of(whole, self._config))
                own = tuple(replace(example, left_out=left_out) for example in examples.conversations)
                others, characters = examples.others, examples.characters
                served.append(replace(each, examples=own, other_context=others, characters=characters))
            except ConversationError as error:
                rejects.append(self._reject(each.record, str(error)))
        return served

    def _reject(self, record: Record, reason: str) -> Reject:
        if self._config.on_error == "stop":
            raise ConversationError(f"{self._where(record)}: {reason}")
        return Reject(record.place, "rejected", reason, group=record.group)

    def _dropped(self, record: Record, conversation: Conversation, masked: Masked, index: int) -> Reject:
        """Why nothing of a conversation would be trained."""
        start, stop = masked.batch.offsets[index : index + 2].tolist()
        tokens = stop - start if is_long(stop - start, self._config) else None
        if isinstance(masked.mask, ScanRule):
            reason = "no answer is found by its header" + (
                f" in the first {self._config.max_length:,} tokens" if tokens else ""
            )
        elif tokens and masked.mask[start + 1 : stop].any():
            reason = why_nothing_is_left(self._config)
        elif not weights_of(conversation, self._config).any():
            reason, tokens = "no message to train on: none of a trained role, or all of weight 0", None
        else:
            reason, tokens = "the chat template prints nothing of what would be trained", None
        return Reject(record.place, "dropped", reason, group=record.group, tokens_in_all=tokens)

    def _refuse_long(self, batch: TokenBatch, chosen: npt.NDArray[np.intp], places: Sequence[Record]) -> None:
        """Raise ConversationError for the first example that is too long, where that ends the job. chosen: its index in places."""
        for at in (
            np.flatnonzero(is_long(np.diff(batch.offsets), self._config))[:1]
            if self._config.overflow == "error"
            else ()
        ):
            tokens, limit = int(np.diff(batch.offsets)[at]), self._config.max_length
            what = f"{tokens:,} tokens, and --max-length is {limit:,}; --overflow says what may become of it"
            raise ConversationError(f"{self._where(places[int(chosen[at])])}: {what}")

    def _where(self, record: Record) -> str:
        return f"{self._names[record.source]}:{record.line}"


def _provenance(
    read: Sequence[_Read],
    owner: npt.NDArray[np.intp],
    traits: Sequence[Traits],
    masked: Masked,
    kept: npt.NDArray[np.intp],
    rows: Rows,
) -> Provenance:
    """Of the examples that have rows. owner, traits: of all examples, (E,). kept: (S,) their indices."""
    own = owner[kept]  # index of each one's record
    records = [each.record for each in read]
    turns, tools, reasoning = zip(*traits, strict=True) if traits else ((), (), ())
    others = np.array([each.other_context for each in read], np.int64)[own]
    return Provenance(
        source=np.array([record.source for record in records], np.int32)[own],
        line=np.array([record.line for record in records], np.int64)[own],
        byte_offset=np.array([record.offset for record in records], np.int64)[own],
        tokens=rows.tokens.astype(np.int32),
        tokens_in_all=np.diff(masked.batch.offsets)[kept].astype(np.int32),
        trained_tokens=rows.trained.astype(np.int32),
        truncated=rows.truncated,
        turns=np.array(turns, np.int32)[kept],
        tools=np.array(tools, np.bool_)[kept],
        reasoning=np.array(reasoning, np.bool_)[kept],
        forged=masked.found.forged[kept],
        other_context=masked.found.other_context[kept] + others > 0,
        record_key=np.frombuffer(b"".join(each.key for each in read), "<i8")[own],
        group=np.array([record.group or "" for record in records], object)[own],
    )


def _chosen(
    batch: TokenBatch, mask: Mask | ScanRule, chosen: npt.NDArray[np.intp]
) -> tuple[TokenBatch, Mask | ScanRule]:
    """Some conversations of a batch, indices in order, and their part of its (T,) mask."""
    lengths = np.diff(batch.offsets)
    if len(chosen) == len(lengths):
        return batch, mask
    tokens = np.repeat(np.isin(np.arange(len(lengths)), chosen), lengths)
    offsets = np.cumsum([0, *lengths[chosen]], dtype=np.int64)
    return TokenBatch(batch.ids[tokens], offsets), mask if isinstance(mask, ScanRule) else mask[tokens]


def _left_out(
    unprinted: Sequence[tuple[LeftOut, ...]], examples: Sequence[Conversation], owner: npt.NDArray[np.intp]
) -> dict[int, list[LeftOut]]:
    """By index of the record, what none of its examples prints that have the message. owner: (E,) index of each example's record."""
    found = {}
    for record in dict.fromkeys(int(owner[index]) for index, left in enumerate(unprinted) if left):
        own = range(*np.searchsorted(owner, (record, record + 1)).tolist())
        some = dict.fromkeys(chain.from_iterable(unprinted[index] for index in own))
        found[record] = [
            left
            for left in some
            if all(left in unprinted[index] or left[1] >= len(examples[index].messages) for index in own)
        ]
    return {record: left for record, left in found.items() if left}


def _parts(read: list[_Read]) -> Iterator[list[_Read]]:
    """Records whose examples are few enough to be held at once; one part at least."""
    part: list[_Read] = []
    size = 0
    for each in read:
        if part and size + each.characters > _MOST:
            yield part
            part, size = [], 0
        part.append(each)
        size += each.characters
    yield part
