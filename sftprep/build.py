"""build = plan, the splits that are missing, commit; and the demo, which is a build of the built-in sample."""

from __future__ import annotations

import time
from functools import partial
from importlib.resources import as_file, files
from pathlib import Path

from rich.console import Console

from sftprep.config import BuildConfig
from sftprep.engines import FORKS, Progress, run_tasks
from sftprep.fast_tokens import BegunTokenizer
from sftprep.folder import adopt_plan, complete_manifest, hold, no_temporaries
from sftprep.manifest import REJECTS, Manifest
from sftprep.pipeline import Job, commit_dataset, missing_tasks
from sftprep.plan import make_plan
from sftprep.progress import BuildProgress, show_summary
from sftprep.visible import visible


def build_dataset(
    config: BuildConfig,
    folder: Path,
    *,
    overwrite: bool = False,
    quiet: bool = True,
    tokenizer: BegunTokenizer | None = None,
) -> Manifest:
    """Plan, work, commit. Run again after a crash it does what is missing; after success it tokenizes nothing.

    tokenizer: if it is known already. Raises SftprepError of every kind; whatever happens, the folder holds a whole
    dataset or none.
    """
    begin = time.monotonic()
    plan, loaded = make_plan(config, tokenizer)
    with hold(folder):
        target = adopt_plan(plan, folder, overwrite=overwrite)
        if target is None:
            manifest = complete_manifest(folder)
            config.tolerance.check(manifest.totals, folder / REJECTS)
            if not quiet:
                done = f"{visible(str(folder))}: complete already; nothing to do"
                Console(stderr=True).print(done, markup=False, soft_wrap=True)
            return manifest
        with no_temporaries(target):
            tasks = missing_tasks(plan, target)
            left = sum(place.stop - place.start for task in tasks for place in plan.splits[task].ranges)
            with BuildProgress(left, quiet) as progress:
                progress.update(Progress(note=loaded.reason))
                if tasks and FORKS:
                    loaded.warm()
                open_job = partial(Job, plan, target, loaded=loaded if FORKS else None)
                run_tasks(open_job, tasks, config.workers, progress.update, plan.describe)
            manifest = commit_dataset(folder, config.tolerance)
    if not quiet:
        show_summary(manifest, folder, plan.passed_over, time.monotonic() - begin, progress)
    return manifest


def run_demo(folder: Path) -> None:
    """Build the sample into `folder` and show some of its rows."""
    from sftprep.preview import show_rows

    with as_file(files("sftprep") / "sample") as sample:
        tokenizer = str(sample / "tokenizer")
        config = BuildConfig((str(sample / "conversations.jsonl"),), tokenizer, max_length=512)
        build_dataset(config, folder, quiet=False)
        show_rows(folder, (), tokenizer, None)
