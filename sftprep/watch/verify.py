"""What `sftprep verify` shows: a bar while it hashes, then every problem, or that there is none."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict
from functools import partial
from pathlib import Path

import click
from rich.markup import escape

from sftprep.dataset.manifest import load_manifest
from sftprep.dataset.verify import Problem, verify_dataset
from sftprep.errors import SftprepError
from sftprep.jobs.rederive import verify_source
from sftprep.visible import visible
from sftprep.watch.log import say, says_json
from sftprep.watch.stated import as_json_line
from sftprep.watch.steps import QuietConsole, Steps
from sftprep.workers.trial import run_apart


def verify_command(
    folder: Path, *, fast: bool, sources: Sequence[str], tokenizer: str | None, quiet: bool, as_json: bool = False
) -> bool:
    """Check and show every problem; True if there is none. as_json: as one object on standard output."""
    size = _bytes(folder)
    hashed = not fast and size is not None
    with Steps(quiet=quiet or not hashed) as steps:
        steps.begin("hashing", size)
        problems = verify_dataset(folder, fast=fast, progress=steps.advance)
        if not problems and sources and tokenizer is not None:
            steps.begin("deriving a sample of rows anew", None)
            derive = partial(verify_source, folder, sources, tokenizer)
            problems = run_apart(derive, what="deriving rows anew by the chat template")
    if as_json:
        found = {"sound": not problems, "problems": [asdict(each) for each in problems], "hashed": hashed}
        click.echo(as_json_line(found))
    if says_json() or (not as_json and (problems or not quiet)):
        _show(folder, problems, _looked_at(fast=fast, derived=bool(sources)))
    return not problems


def _show(folder: Path, problems: Sequence[Problem], looked_at: str) -> None:
    if says_json():
        for problem in problems:
            say(f"{folder / problem.file}: {problem.what}", "problem", asdict(problem), logging.ERROR)
        if not problems:
            say(f"{folder}: sound ({looked_at})", "summary", {"sound": True})
        return
    console = QuietConsole(stderr=True)
    with suppress(OSError):
        for problem in problems:
            where, what = (escape(visible(each)) for each in (str(folder / problem.file), problem.what))
            console.print(f"[red]{where}[/]: {what}", highlight=False, soft_wrap=True)
        if not problems:
            console.print(f"[green]{escape(visible(str(folder)))}: sound[/] ({looked_at})", soft_wrap=True)


def _looked_at(*, fast: bool, derived: bool) -> str:
    looked_at = "sizes and headers" if fast else "sizes, hashes, totals and rows"
    return f"{looked_at}, and a sample of rows derived anew" if derived else looked_at


def _bytes(folder: Path) -> int | None:
    """How much there is to hash; None where the manifest cannot say."""
    try:
        return sum(entry.bytes for entry in load_manifest(folder).files.values())
    except SftprepError:
        return None
