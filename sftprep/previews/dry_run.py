"""A build that writes nothing: every record is read, rendered, tokenized and masked, and what comes of it is counted."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import chain

import numpy as np
import numpy.typing as npt

from sftprep.batches.lengths import COUNTED, LENGTHS
from sftprep.batches.toolbox import Toolbox
from sftprep.config import BuildConfig
from sftprep.dataset.manifest import Manifest
from sftprep.dataset.receipt import Reject, Totals
from sftprep.dataset.rejects import ReasonCount, counted
from sftprep.jobs.build import NOBODY, Watch, standard_input
from sftprep.jobs.commit import manifest_of
from sftprep.jobs.plan import Plan, make_plan
from sftprep.jobs.work import SplitReader
from sftprep.tokens.load_early import BegunTokenizer
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


class CountingJob(SplitReader):
    """Reports what splits would hold."""

    def __init__(self, plan: Plan, suspect: Suspect, toolbox: Toolbox | None = None) -> None:
        super().__init__(plan, suspect, toolbox, lengths=True)

    def run(self, order: Order, report: Callable[[Report], None]) -> Callable[[], object]:
        """Count one split; the returned callable reports it."""
        totals, unread, rejects = Totals(), Unread(), list[Reject]()
        lengths = np.zeros((len(LENGTHS), len(COUNTED)), np.int64)
        for prepared in self.prepared(order, report):
            totals.add(prepared.totals)
            unread.add(prepared.unread)
            rejects += prepared.rejects
            if prepared.lengths is not None:
                lengths += prepared.lengths
        reasons = counted(ReasonCount(each.kind, each.reason, 1, self.plan.describe(each.place)) for each in rejects)
        return partial(report, Report(done=(order.task, Counts(totals, unread, reasons, lengths))))


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
    with standard_input(config) as spooled:
        plan, toolbox = make_plan(config, tokenizer, spooled)
        return _count(config, watch, plan, toolbox)


def _count(config: BuildConfig, watch: Watch, plan: Plan, toolbox: Toolbox) -> tuple[Manifest, Counts]:
    gathering = _Gathering(watch)
    watch.begin(plan, sum(place.stop - place.start for split in plan.splits for place in split.ranges))
    watch.update(Report(note=toolbox.reason))
    engine = runner(config.engine)
    if engine.FORKS:
        toolbox.warm()
    open_job = partial(CountingJob, plan, toolbox=toolbox if engine.FORKS else None)
    engine.run_tasks(open_job, range(len(plan.splits)), config.workers, gathering.update, plan.describe)
    found = [gathering.counts[task] for task in range(len(plan.splits))]
    totals, unread = Totals(), Unread()
    for each in found:
        totals.add(each.totals)
        unread.add(each.unread)
    reasons = counted(chain.from_iterable(each.reasons for each in found))
    lengths = np.sum([each.lengths for each in found], axis=0)
    return manifest_of(plan, [], totals, unread), Counts(totals, unread, reasons, lengths)
