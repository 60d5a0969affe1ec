"""A dataset's ids and mask beside those that Transformers itself gives for the same records.

The records are read again. Nothing of sftprep renders or tokenizes here: it is `apply_chat_template` of the tokenizer that
`AutoTokenizer` opens, in worker processes, within the limits that a template has everywhere. What sftprep promises to do
otherwise is counted apart (`MEANT`).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sftprep.batches.variants import in_parts, variants, varies
from sftprep.compare.examples import Example, Examples
from sftprep.compare.findings import Advance, Comparison, Difference, Tally, alone, shown
from sftprep.compare.kinds import Begin, Request
from sftprep.compare.origins_again import inputs_again, tokenizer_again
from sftprep.config import BuildConfig
from sftprep.containers.record import Record
from sftprep.containers.splits import SourceInfo, Split, read_records
from sftprep.errors import DatasetError
from sftprep.jobs.rederive import stated_config
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.workers.limits import Bounded, LimitError, Suspect
from sftprep.workers.runners import runner
from sftprep.workers.worker import Order, Report

KINDS = {
    "ids": "other ids",
    "mask": "the same ids, another mask than the template's {% generation %} blocks",
    "unrendered": "Transformers does not render it",
    "forged": "other ids, as the message text spells control tokens and stays plain text",
    "adapted": "Transformers' ids of what a server would give the template: arguments decoded, content filled in, parts joined",
    "refused": "Transformers renders no form of the record, which has calls, parts or missing content",
    "served": "an example of --contexts served: it begins with the ids by which Transformers asks for its last turn",
    "chosen": "the same ids, another mask, as options or the record's switches say what is trained",
}
MEANT = ("forged", "adapted", "refused", "served", "chosen")
_MOST_WORKERS = 4  # each holds Transformers and the tokenizer once more
_BLOCK = re.compile(r"\{%[-+]?\s*generation\b")
_KEPT_OUT = ("torch", "tensorflow", "jax", "flax")  # not needed, and slow to import


def compare_with_transformers(request: Request, begin: Begin, advance: Advance) -> Comparison:
    """Where ids or masks differ from Transformers', and of which kind that is. Raises SftprepError where tokenizer or inputs
    are not found, or are others than the dataset's."""
    side = Examples(request.folder)
    name, resolved = tokenizer_again(side.manifest, request.tokenizer)
    config = stated_config(request.folder, side.manifest, name)
    sources, splits = inputs_again(side.manifest, config, request.inputs, begin, advance)
    wanted = _wanted(side, sources, request.limit)
    begin("asking Transformers", len(wanted.numbers), "conversations")
    with_blocks = bool(_BLOCK.search(config.chat_template or resolved.chat_template() or ""))
    open_job = partial(_Job, request, config, sources, splits, wanted, with_blocks)
    results: dict[int, Tally] = {}

    def report(done: Report) -> None:
        advance(done.conversations)
        if done.done:
            results[done.done[0]] = done.done[1]

    tasks = [task for task, split in enumerate(splits) if wanted.may_be_in(split)]
    runner("local").run_tasks(
        open_job, tasks, min(_MOST_WORKERS, request.workers), report, lambda item: f"record {item}"
    )
    tally = _tally(request)
    for task in tasks:
        tally.join(results[task])
    compared = tally.equal + sum(kind.count for kind in tally.kinds.values())
    if compared != len(wanted.numbers):
        raise DatasetError(
            f"{request.folder}: names {len(wanted.numbers) - compared:,} records that are not in its inputs"
        )
    notes = []
    if compared < len(side):
        notes.append(f"{compared:,} of {len(side):,} conversations, spread over the dataset; --all compares every one")
    if not with_blocks:
        notes.append("ids only: the template has no {% generation %} blocks, so Transformers gives no mask")
    found = tally.found()
    return Comparison(
        str(request.folder), "Transformers", conversations=compared, equal=tally.equal, kinds=found, notes=notes
    )


def _tally(request: Request) -> Tally:
    return Tally(KINDS, MEANT, request.few)


@dataclass(frozen=True, slots=True, eq=False)
class _Wanted:
    """Examples to be compared, in the order of their records' places; (N,) each."""

    sources: npt.NDArray[np.int64]  # index of the record's input
    offsets: npt.NDArray[np.int64]  # of the record in it
    numbers: npt.NDArray[np.int64]  # of the example in the dataset

    def of(self, source: int, offset: int) -> list[int]:
        """The examples of a record."""
        begin, end = np.searchsorted(self.sources, (source, source + 1))
        first, last = np.searchsorted(self.offsets[begin:end], (offset, offset + 1)) + begin
        return sorted(self.numbers[first:last].tolist())

    def may_be_in(self, split: Split) -> bool:
        """Whether any is of an input that the split reads of."""
        return bool(np.isin([each.source for each in split.ranges], self.sources).any())


def _wanted(side: Examples, sources: Sequence[SourceInfo], limit: int | None) -> _Wanted:
    count = len(side)
    chosen = (
        np.arange(count) if limit is None else np.unique(np.linspace(0, count - 1, min(limit, count)).astype(np.int64))
    )
    names = {source.name: number for number, source in enumerate(sources)}
    parts = []
    for numbers in side.by_shard():
        inside = chosen[slice(*np.searchsorted(chosen, (numbers.start, numbers.stop)))]
        origins = side.origins(side.locate(numbers.start)[0])
        at = inside - numbers.start
        of = [names.get(str(name), -1) for name in origins["source"][at]]
        parts.append((np.array(of, np.int64), origins["byte_offset"][at], inside))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    order = np.lexsort(columns[1::-1])
    return _Wanted(*(column[order] for column in columns))


class _Given:
    """What Transformers gives for a conversation."""

    def __init__(self, config: BuildConfig, with_blocks: bool) -> None:
        sys.modules.update(dict.fromkeys((name for name in _KEPT_OUT if name not in sys.modules), None))  # type: ignore[arg-type]
        if Path(config.tokenizer).is_dir():
            os.environ["HF_HUB_OFFLINE"] = "1"
        from transformers import AutoTokenizer

        self._tokenizer = AutoTokenizer.from_pretrained(config.tokenizer)
        self._config, self._with_blocks = config, with_blocks
        if config.date:
            _make_today(config.date)

    def __call__(
        self, conversation: Conversation, *, asks: bool = False
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.bool_] | None] | None:
        """Ids, and the mask where there are blocks; None where Transformers refuses. asks: with the generation prompt."""
        blocks = self._with_blocks and not asks and not conversation.left_out
        try:
            with Bounded("Transformers"):
                given = self._tokenizer.apply_chat_template(
                    conversation.messages,
                    tools=conversation.tools,
                    chat_template=self._config.chat_template,
                    add_generation_prompt=asks,
                    tokenize=not conversation.left_out,
                    return_dict=True,
                    return_assistant_tokens_mask=blocks,
                    **{**self._config.template_kwargs, **conversation.template_kwargs},
                )
                if conversation.left_out:
                    given = self._tokenizer(given.replace(conversation.left_out, ""), add_special_tokens=False)
        except LimitError:
            return None
        except Exception:  # noqa: BLE001 - a template raises what it likes: that is a refusal, as in a build
            return None
        mask = np.array(given["assistant_masks"], np.bool_) if blocks else None
        return np.array(given["input_ids"], np.int64), mask


def _make_today(date: str) -> None:
    """Let templates see that day: Transformers takes no other as an argument. For a process that does nothing else."""
    from transformers.utils import chat_template_utils

    class Day(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Day:
            return cls.fromisoformat(date)

    vars(chat_template_utils)["datetime"] = Day


class _Job:
    """A worker's: compares the examples of the records of a split."""

    def __init__(
        self,
        request: Request,
        config: BuildConfig,
        sources: list[SourceInfo],
        splits: list[Split],
        wanted: _Wanted,
        with_blocks: bool,
        suspect: Suspect,
    ) -> None:
        self._request, self._config, self._sources, self._splits = request, config, sources, splits
        self._wanted, self._suspect = wanted, suspect
        self._side, self._given = Examples(request.folder), _Given(config, with_blocks)

    def run(self, order: Order, report: Callable[[Report], None]) -> Callable[[], object]:
        """Compare; what is returned reports what came of it."""
        tally = _tally(self._request)
        for record in read_records(self._splits[order.task], self._sources, self._config.selection):
            numbers = self._wanted.of(record.source, record.offset)
            if numbers and record.place in order.lost:
                for number in numbers:
                    tally.add("unrendered", partial(_alone, self._side[number]))
            elif numbers:
                self._suspect.is_at(*record.place)
                for number, conversation in zip(numbers, self._conversations(record, numbers), strict=True):
                    self._compare(tally, self._side[number], conversation, self._forged(number))
                self._suspect.is_at()
            if numbers:
                report(Report(len(numbers)))
        return partial(report, Report(done=(order.task, tally)))

    def _conversations(self, record: Record, numbers: Sequence[int]) -> Iterator[Conversation]:
        """The record's conversation, as it is in the set of each of its examples."""
        conversation = parse_conversation(record.data, self._config.reading, record.place)
        for number in numbers:
            shard = self._side.manifest.shards[self._side.locate(number)[0]]
            yield self._config.augmentation.of(conversation) if shard.set == "train" else conversation

    def _forged(self, number: int) -> bool:
        index, segment = self._side.locate(number)
        return bool(self._side.origins(index)["forged"][segment]) and self._config.control_tokens == "split"

    def _compare(self, tally: Tally, own: Example, conversation: Conversation, forged: bool) -> None:
        """Count an example as equal, or as of one kind."""
        first: npt.NDArray[np.int64] | None = None
        for number, variant in enumerate(self._variants(conversation)):
            given = self._given(variant)
            if given is None:
                continue
            ids, mask = given
            first = ids if first is None else first
            if not _is_same(own, ids):
                continue
            theirs = None if mask is None else _cut(own, mask)
            if theirs is not None and not np.array_equal(theirs[1:], own.weights[1:] > 0):
                name = "chosen" if self._is_chosen(conversation) else "mask"
                tally.add(name, partial(shown, own, replace(own, weights=_as_targets(theirs), row=None)))
            elif number:
                tally.add("adapted", partial(_alone, own))
            else:
                tally.equal += 1
            return
        if self._config.contexts == "served" and (found := self._as_served(own, conversation)):
            if found == "equal":
                tally.equal += 1
            else:
                tally.add("served", partial(_alone, own))
        elif first is None:
            tally.add("refused" if varies(conversation) else "unrendered", partial(_alone, own))
        else:
            theirs = _cut(own, first) if own.truncated else first
            other = replace(own, ids=theirs, weights=np.zeros(len(theirs)), row=None, masked=False)
            tally.add("forged" if forged else "ids", partial(shown, own, other))

    def _variants(self, conversation: Conversation) -> Iterator[Conversation]:
        """The conversation as it is, then as a server would give it."""
        yield conversation
        if varies(conversation):
            yield from (
                each for each in variants(conversation, self._config.tool_arguments) if each is not conversation
            )
        yield in_parts(conversation)

    def _as_served(self, own: Example, conversation: Conversation) -> str | None:
        """Whether an example is the beginning of the conversation, or begins as Transformers asks for one of its turns."""
        found = None
        for count in range(1, len(conversation.messages) + 1):
            if conversation.messages[count - 1]["role"] != "assistant":
                continue
            given = self._given(conversation.until(count))
            if given is not None and _is_same(own, given[0]):
                return "equal"
            asked = self._given(conversation.until(count - 1), asks=True)
            if asked is not None and np.array_equal(own.ids[: len(asked[0])], _cut(own, asked[0])):
                found = "served"
        return found

    def _is_chosen(self, conversation: Conversation) -> bool:
        """Whether anything says what is trained, beside the template."""
        config = self._config
        default = BuildConfig.__dataclass_fields__
        told = ("train_on", "train_end_of_turn", "header", "end_of_turn")
        return conversation.weights is not None or any(getattr(config, each) != default[each].default for each in told)


def _alone(own: Example) -> Difference:
    """An example that has no other side."""
    return Difference(alone(own), None)


def _is_same(own: Example, ids: npt.NDArray[np.int64]) -> bool:
    """Whether an example has these ids, or as many of them as its row takes."""
    return np.array_equal(own.ids, _cut(own, ids)) and (own.truncated or len(ids) == len(own.ids))


def _cut(own: Example, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return values[: len(own.ids)]


def _as_targets(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Nothing predicts a first id."""
    return np.concatenate([[False], mask[1:]])
