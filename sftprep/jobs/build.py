"""build = plan, the splits that are missing, commit."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from tempfile import gettempdir

from sftprep.batches.toolbox import Toolbox
from sftprep.config import BuildConfig
from sftprep.containers.files import STANDARD_INPUT, Source
from sftprep.containers.kinds import suffix_of
from sftprep.dataset.manifest import REJECTS, Manifest, load_manifest
from sftprep.errors import ConfigError, InputError
from sftprep.jobs.commit import commit_dataset, missing_tasks
from sftprep.jobs.folder import adopt_plan, hold, no_temporaries, what_differs
from sftprep.jobs.plan import NOBODY, Plan, Watch, make_plan
from sftprep.jobs.repeats import STEP, find_repeats
from sftprep.jobs.work import Job
from sftprep.stores.kinds import store_of
from sftprep.stores.spooled import spool
from sftprep.tokens.load_early import BegunTokenizer, collector_as_it_was
from sftprep.workers.runners import runner
from sftprep.workers.worker import Report

_log = logging.getLogger(__name__)


@contextmanager
def standard_input(config: BuildConfig) -> Iterator[Source | None]:
    """What is in standard input, if it is one of the inputs: it is read once, to its end.

    Raises InputError where its name is of no known kind, or it cannot be read.
    """
    if STANDARD_INPUT not in config.inputs:
        yield None
        return
    name = config.input_name
    if suffix_of(name) is None or "/" in name or not name.isprintable():
        raise InputError(
            f"--input-name {name}: expected the name of a file of a known kind, such as stdin.jsonl or x.parquet"
        )
    if sys.stdin is None:
        raise InputError("-: there is no standard input")
    if sys.stdin.isatty():
        _log.info("reading standard input, to its end: Ctrl-D")
    with ExitStack() as stack:
        try:
            path = stack.enter_context(spool(sys.stdin.buffer, name))
        except OSError as error:
            what = f"standard input cannot be copied to {gettempdir()}"
            raise InputError(f"-: {what}: {error.strerror}") from error
        yield Source(path, name, store_of(path).size(path))


def build_dataset(
    config: BuildConfig,
    folder: Path,
    *,
    overwrite: bool = False,
    watch: Watch = NOBODY,
    tokenizer: BegunTokenizer | None = None,
    again: Manifest | None = None,
) -> Manifest:
    """Plan, work, commit. Run again after a crash it does what is missing; after success it tokenizes nothing.

    overwrite: replace a dataset in the folder, which stays whole until the new one is. watch: is told how it goes.
    tokenizer: if it is known already. again: of a dataset that the new one has to be equal to. Raises SftprepError of every
    kind; whatever happens, the folder holds a whole dataset or none.
    """
    with standard_input(config) as spooled, collector_as_it_was():
        plan, toolbox = make_plan(config, tokenizer, spooled, watch)
        if again and (differing := what_differs(plan, again)):
            raise ConfigError(f"this would be another dataset than the manifest's: another {differing}")
        return _build(config, folder, overwrite, watch, plan, toolbox)


def _build(config: BuildConfig, folder: Path, overwrite: bool, watch: Watch, plan: Plan, toolbox: Toolbox) -> Manifest:
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
