"""A build that writes nothing: every record is read, rendered, tokenized and masked, and what comes of it is counted."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt

from sftprep.batches.lengths import COUNTED, LENGTHS
from sftprep.batches.toolbox import Toolbox
from sftprep.config import BuildConfig
from sftprep.dataset.manifest import Manifest
from sftprep.dataset.receipt import Reject, Totals
from sftprep.dataset.rejects import ReasonCount, counted
from sftprep.jobs.build import standard_input
from sftprep.jobs.commit import held_by_sets, manifest_of
from sftprep.jobs.folder import make_subfolders
from sftprep.jobs.plan import NOBODY, Plan, Watch, make_plan
from sftprep.jobs.repeats import STEP, find_repeats
from sftprep.jobs.work import SplitReader
from sftprep.layouts.kinds import layout
from sftprep.layouts.packing import rows_needed
from sftprep.sets.repeats import as_keys, count_among
from sftprep.tokens.load_early import BegunTokenizer, collector_as_it_was
from sftprep.unread import Unread
from sftprep.workers.limits import Suspect
from sftprep.workers.runners import runner
from sftprep.workers.worker import Order, Report


@dataclass(frozen=True, slots=True)
class Counts:
    """What a split, or all of them, would hold."""

    totals: Totals
    unread: Unread
    reasons: list[ReasonCount]
    lengths: npt.NDArray[np.int64]  # (len(LENGTHS), len(COUNTED)), `batches.lengths`
    sets: Mapping[str, Totals] = field(default_factory=dict)
    keys: Mapping[str, bytes] = field(default_factory=dict)  # of each set's conversations, where there are two


class CountingJob(SplitReader):
    """Reports what splits would hold."""

    def __init__(self, plan: Plan, folder: Path, suspect: Suspect, toolbox: Toolbox | None = None) -> None:
        super().__init__(plan, suspect, toolbox, lengths=True)
        self._folder, self._by_split = folder, layout(plan.config.layout).by_split

    def run(self, order: Order, report: Callable[[Report], None]) -> Callable[[], object]:
        """Count one split; the returned callable reports it."""
        totals, unread, rejects = Totals(), Unread(), list[Reject]()
        sets, keys = defaultdict[str, Totals](Totals), defaultdict[str, bytearray](bytearray)
        lengths = np.zeros((len(LENGTHS), len(COUNTED)), np.int64)
        waiting = defaultdict[str, list[npt.NDArray[np.int64]]](list)  # pairs of what shares rows, by set

        def leave_out(duplicates: list[Reject]) -> None:
            totals.add(Totals(records=len(duplicates), duplicates=len(duplicates)))
            rejects.extend(duplicates)

        for prepared in chain.from_iterable(self.batches(order, report, self._folder, leave_out)):
            totals.add(prepared.totals)
            unread.add(prepared.unread)
            sets[prepared.set].add(prepared.totals)
            if self._by_split:
                waiting[prepared.set].append(prepared.rows.segments[:, 2])
            keys[prepared.set] += prepared.keys or b""
            rejects += prepared.rejects
            if prepared.lengths is not None:
                lengths += prepared.lengths
        for of, pairs in waiting.items():
            rows = rows_needed(np.bincount(np.concatenate(pairs)), self.plan.config.width)
            for held in (totals, sets[of]):
                held.rows += rows
        reasons = counted(ReasonCount(each.kind, each.reason, 1, self.plan.describe(each.place)) for each in rejects)
        counts = Counts(totals, unread, reasons, lengths, dict(sets), {of: bytes(each) for of, each in keys.items()})
        return partial(report, Report(done=(order.task, counts)))


class _Gathering(Watch):
    """Passes on what is reported, and keeps what is counted, by split: one may be done twice."""

    def __init__(self, watch: Watch) -> None:
        self.counts: dict[int, Counts] = {}
        self._watch = watch

    def update(self, report: Report) -> None:
        if report.done:
            task, counts = report.done
            self.counts[task] = counts
        self._watch.update(report)


def count_dataset(
    config: BuildConfig, *, watch: Watch = NOBODY, tokenizer: BegunTokenizer | None = None
) -> tuple[Manifest, Counts]:
    """What `build_dataset` would make of the same options: a manifest without files, and all that was counted.

    Raises SftprepError as that does, but for records that are rejected, however many they are.
    """
    with standard_input(config) as spooled, TemporaryDirectory(prefix="sftprep-") as folder, collector_as_it_was():
        plan, toolbox = make_plan(config, tokenizer, spooled, watch)
        return _count(config, Path(folder), watch, plan, toolbox)


def _count(config: BuildConfig, folder: Path, watch: Watch, plan: Plan, toolbox: Toolbox) -> tuple[Manifest, Counts]:
    gathering, tasks = _Gathering(watch), range(len(plan.splits))
    watch.update(Report(note=toolbox.reason))
    engine = runner(config.engine)
    if engine.FORKS:
        toolbox.warm()
    if config.deduplicate:
        make_subfolders(folder)
        find_repeats(plan, folder, partial(watch.begin, plan, STEP), watch.update)
    watch.begin(plan, "tokenizing", plan.size(tasks))
    open_job = partial(CountingJob, plan, folder, toolbox=toolbox if engine.FORKS else None)
    engine.run_tasks(open_job, tasks, config.workers, gathering.update, plan.describe)
    found = [gathering.counts[task] for task in tasks]
    totals, unread = Totals(), Unread()
    for each in found:
        totals.add(each.totals)
        unread.add(each.unread)
    reasons = counted(chain.from_iterable(each.reasons for each in found))
    lengths = np.sum([each.lengths for each in found], axis=0)
    sets = held_by_sets(plan, [(of, asdict(held)) for each in found for of, held in each.sets.items()])
    train, validation = ([as_keys(each.keys.get(of, b"")) for each in found] for of in ("train", "validation"))
    totals.near_copies = count_among(train, np.concatenate(validation))
    return manifest_of(plan, [], totals, unread, sets), Counts(totals, unread, reasons, lengths)
