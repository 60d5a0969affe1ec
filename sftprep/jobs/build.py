"""build = plan, the splits that are missing, commit."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from sftprep.config import BuildConfig
from sftprep.dataset.manifest import REJECTS, Manifest, load_manifest
from sftprep.jobs.commit import commit_dataset, missing_tasks
from sftprep.jobs.folder import adopt_plan, hold, no_temporaries
from sftprep.jobs.plan import Plan, make_plan
from sftprep.jobs.repeats import STEP, find_repeats
from sftprep.jobs.work import Job
from sftprep.tokens.load_early import BegunTokenizer
from sftprep.workers.runners import runner
from sftprep.workers.worker import Report


class Watch:
    """Is told how a build goes, and does nothing about it: a subclass may show it."""

    def begin(self, plan: Plan, step: str, left: int) -> None:
        """A step begins: so many bytes of input are left to do. Not called where the dataset is complete already."""

    def update(self, report: Report) -> None:
        """What happened since the last call."""


_NOBODY = Watch()


def build_dataset(
    config: BuildConfig,
    folder: Path,
    *,
    overwrite: bool = False,
    watch: Watch = _NOBODY,
    tokenizer: BegunTokenizer | None = None,
) -> Manifest:
    """Plan, work, commit. Run again after a crash it does what is missing; after success it tokenizes nothing.

    overwrite: replace a dataset in the folder, which stays whole until the new one is. watch: is told how it goes.
    tokenizer: if it is known already. Raises SftprepError of every kind; whatever happens, the folder holds a whole
    dataset or none.
    """
    plan, toolbox = make_plan(config, tokenizer)
    with hold(folder):
        target = adopt_plan(plan, folder, overwrite=overwrite)
        if target is None:
            manifest = load_manifest(folder)  # its files were looked at just now
            config.tolerance.check(manifest.totals, folder / REJECTS)
            return manifest
        with no_temporaries(target):
            tasks = missing_tasks(plan, target)
            watch.begin(plan, "tokenizing", plan.size(tasks))
            watch.update(Report(note=toolbox.reason))
            engine = runner(config.engine)
            if tasks and engine.FORKS:
                toolbox.warm()
            if tasks and plan.config.deduplicate:  # once no thread is loading anything: workers are forked
                find_repeats(plan, target, partial(watch.begin, plan, STEP), watch.update)
                watch.begin(plan, "tokenizing", plan.size(tasks))
            open_job = partial(Job, plan, target, toolbox=toolbox if engine.FORKS else None)
            engine.run_tasks(open_job, tasks, config.workers, watch.update, plan.describe)
            return commit_dataset(folder, config.tolerance)
