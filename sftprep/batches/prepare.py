"""A batch of records -> rows, with a word on every record that gives none."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter

import numpy as np

from sftprep.batches.both_ways import BothWays, DisagreementError, Masked
from sftprep.batches.exact_way import weights_of
from sftprep.batches.toolbox import Toolbox
from sftprep.config import BuildConfig
from sftprep.dataset.origins import Provenance
from sftprep.dataset.receipt import Reject, Totals
from sftprep.dataset.shard_writer import Prepared
from sftprep.errors import ConversationError, TokenizerError
from sftprep.layouts.kinds import layout
from sftprep.masks.scan import ScanRule
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.records.json_text import Record
from sftprep.tokens.batch import dtype_for

_LONG = 1 << 18  # bytes: less is nothing to save memory of


class Preparer:
    """Everything a process needs to turn records into rows; opened once, used for all its splits.

    check_every: of so many records one takes both the fast and the exact way.
    """

    def __init__(self, config: BuildConfig, toolbox: Toolbox, source_names: Sequence[str], check_every: int) -> None:
        self.seconds: dict[str, float] = {}  # by stage
        self._config, self._names, self._check_every = config, source_names, check_every
        self._pad_id, self._dtype = toolbox.resolved.pad_id, dtype_for(toolbox.resolved.size)
        self._masker = BothWays(config, toolbox, self.stage)

    def prepare(self, records: list[Record]) -> Prepared:
        """Rows of a batch in the records' order, and a reject for each record that gives none. Long records lose their data.

        With `on_error="stop"` the first that gives none by its own fault raises ConversationError with `file:line`; so does, as
        TokenizerError, a sampled conversation on which the two ways differ.
        """
        size = sum(len(record.data) + 1 for record in records)
        with self.stage("JSON"):
            read, conversations, rejects = self._parse(records)
        sampled = [index for index, record in enumerate(read) if (record.line + record.offset) % self._check_every == 0]
        try:
            masked = self._masker.mask(conversations, sampled)
        except DisagreementError as error:
            raise TokenizerError(f"{self._where(read[error.index])}: {error}") from error
        rejects += [self._reject(read[index], reason) for index, reason in masked.failed.items()]
        with self.stage("rows"):
            keep = self._config.keep_untrained
            length, dtype = self._config.max_length, self._dtype
            rows = layout(self._config.layout).lay_out(
                masked.batch, masked.mask, length, self._pad_id, dtype, keep_untrained=keep
            )
            kept = rows.conversation
            provenance = Provenance(
                np.array([record.source for record in read], np.int32)[kept],
                np.array([record.line for record in read], np.int64)[kept],
                np.array([record.offset for record in read], np.int64)[kept],
                rows.tokens.astype(np.int32),
                rows.trained.astype(np.int32),
                rows.truncated,
            )
        dropped = sorted(set(range(len(read))) - set(kept.tolist()) - masked.failed.keys())
        rejects += [self._dropped(read[index], conversations[index], masked, index) for index in dropped]
        rejects.sort(key=lambda reject: reject.place)
        found, good = masked.found, [index for index in range(len(read)) if index not in masked.failed]
        totals = Totals(
            records=len(records),
            conversations=len(kept),
            rows=len(rows.x),
            tokens=int(rows.tokens.sum()),
            trained_tokens=int(rows.trained.sum()),
            truncated=int(rows.truncated.sum()),
            dropped=len(dropped),
            rejected=len(rejects) - len(dropped),
            control_text=int(found.forged.sum()),
            by_characters=int(found.by_characters[good].sum()),
            boundary_tokens=int(found.boundary_tokens[good].sum()),
            empty_turns=int(found.empty[good].sum()),
            unended_turns=int(found.unended[good].sum()),
            adapted=int(found.adapted[good].sum()),
        )
        return Prepared(rows, provenance, rejects, totals, size)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Put the time spent inside on a stage's account."""
        begin = perf_counter()
        try:
            yield
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + perf_counter() - begin

    def _parse(self, records: list[Record]) -> tuple[list[Record], list[Conversation], list[Reject]]:
        read: list[Record] = []
        conversations: list[Conversation] = []
        rejects: list[Reject] = []
        for index, record in enumerate(records):
            if record.error is not None:
                rejects.append(self._reject(record, record.error))
                continue
            try:
                conversations.append(parse_conversation(record.data, self._config.record_format, record.place))
                if len(record.data) >= _LONG:
                    records[index] = record = record._replace(data=b"")
                read.append(record)
            except ConversationError as error:
                rejects.append(self._reject(record, str(error)))
        return read, conversations, rejects

    def _reject(self, record: Record, reason: str) -> Reject:
        if self._config.on_error == "stop":
            raise ConversationError(f"{self._where(record)}: {reason}")
        return Reject(record.place, "rejected", reason)

    def _dropped(self, record: Record, conversation: Conversation, masked: Masked, index: int) -> Reject:
        """Why nothing of a conversation would be trained."""
        length = self._config.max_length
        start, stop = masked.batch.offsets[index : index + 2]
        if isinstance(masked.mask, ScanRule):
            reason = f"no answer is found by its header in the first {length:,} tokens"
        elif masked.mask[start + 1 : stop].any():
            reason = f"prompt longer than {length:,} tokens, so that nothing of the answer is left"
        elif not weights_of(conversation, self._config).any():
            reason = "no message to train on: none of a trained role, or all of weight 0"
        else:
            reason = "the chat template prints nothing of what would be trained"
        return Reject(record.place, "dropped", reason)

    def _where(self, record: Record) -> str:
        return f"{self._names[record.source]}:{record.line}"
