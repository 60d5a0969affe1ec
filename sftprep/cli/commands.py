"""The command line: argv -> BuildConfig -> exit code. What the commands do lives in other rooms, imported when run."""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from shlex import quote
from typing import Any, NoReturn

import click

from sftprep import __version__
from sftprep.cli.endings import Group, end_quickly
from sftprep.cli.looking import LOOKING
from sftprep.cli.options import (
    FOLDER,
    build_config,
    build_options,
    commit_options,
    explain_config,
    json_option,
    overwrite_option,
    quiet_option,
    same_as,
    verbose_option,
    work_options,
)
from sftprep.errors import ConfigError
from sftprep.visible import visible
from sftprep.watch.log import say

SHELLS = ("bash", "zsh", "fish")


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="sftprep")
def main() -> None:
    """Tokenize chat data once: JSONL conversations in, memory-mapped X/Y/mask shards with true loss masks out."""


@main.command()
@build_options
@overwrite_option
@quiet_option
@verbose_option
@json_option
@click.option("--dry-run", is_flag=True, help="Write nothing: count what would come of it, and of other lengths.")
@click.option(
    "--explain",
    metavar="FILE",
    help="Build nothing: show how the first records of each kind in FILE are read. Needs no other option.",
)
def build(
    overwrite: bool,
    quiet: bool,
    verbose: bool,
    as_json: bool,
    dry_run: bool,
    explain: str | None,
    output: Path | None,
    **options: Any,
) -> None:
    """Make a dataset of conversations: the whole job, on all cores.

    INPUT is a file of JSON, Parquet or Arrow, a folder, a glob, or - for standard input. Run again after a crash, it does only what is missing.
    """
    if explain is not None:
        from sftprep.look.explain import show_explanation

        if not show_explanation(explain_config({**options, "output": output}, explain), as_json=as_json):
            sys.exit(1)
        return
    config = build_config({**options, "output": output or dry_run})
    again = same_as(click.get_current_context(), config)
    from sftprep.tokens.load_early import begin_tokenizer

    fast = config.tokenizer_engine != "hf"
    trusted = config.trust_remote_code
    tokenizer = begin_tokenizer(config.tokenizer, trust_remote_code=trusted, fast=fast)  # while the rest is imported
    if output is None or dry_run:
        from sftprep.watch.build import watched_dry_run

        watched_dry_run(config, quiet=quiet, verbose=verbose, as_json=as_json, tokenizer=tokenizer)
        return
    from sftprep.watch.build import watched_build

    shown = {"quiet": quiet, "verbose": verbose, "as_json": as_json}
    watched_build(config, output, overwrite=overwrite, tokenizer=tokenizer, again=again, **shown)


@main.command()
@click.argument("path", metavar="[FILE]", type=click.Path(path_type=Path), default=Path("build.toml"))
def init(path: Path) -> None:
    """Write a file with all options of a build, for `build --config FILE`."""
    from sftprep.cli.config_file import commented

    try:
        with path.open("x", encoding="utf-8") as file:
            file.write(commented(build, path.name))
    except FileExistsError:
        raise ConfigError(f"{path}: is there already; give another name") from None
    click.echo(visible(f"{path}: name inputs and tokenizer in it, then run `sftprep build --config {path}`"))


@main.command()
@build_options
@overwrite_option
@quiet_option
@json_option
def plan(overwrite: bool, quiet: bool, as_json: bool, output: Path, **options: Any) -> None:
    """Cut the inputs into splits and write plan.json. Then run `work` once per split, anywhere, then `commit`.

    With --deduplicate it also reads all records, on all cores, to find those that say the same.
    """
    config = build_config({**options, "output": output})
    from sftprep.tokens.load_early import begin_tokenizer

    tokenizer = begin_tokenizer(config.tokenizer, trust_remote_code=config.trust_remote_code, fast=False)
    from sftprep.watch.build import watched_plan

    planned, is_left = watched_plan(config, output, overwrite=overwrite, quiet=quiet, tokenizer=tokenizer)
    if as_json:
        from sftprep.watch.stated import as_json_line, stated_plan

        click.echo(as_json_line(stated_plan(planned, is_left=is_left)))
    if quiet or as_json:
        return
    if not is_left:
        click.echo(visible(f"{output}: complete already; nothing to do"))
        return
    last = len(planned.splits) - 1
    for each in planned.passed_over:
        say(f"not read: {each.count:,} {each.kind}, such as {each.example}", level=logging.WARNING)
    steps = f"run `sftprep work {output} --task I` for I from 0 to {last}, then `sftprep commit {output}`."
    click.echo(visible(f"{last + 1} split{'s' * (last > 0)}: {steps}"))


@main.command()
@click.argument("folder", type=FOLDER)
@click.option("--task", "tasks", type=int, multiple=True, required=True, help="Split to work on; may be repeated.")
@click.option("--tokenizer", "-t", metavar="NAME", help="Where the tokenizer lies on this machine, if elsewhere.")
@work_options
@quiet_option
def work(folder: Path, tasks: tuple[int, ...], tokenizer: str | None, quiet: bool, **call: Any) -> None:
    """Do a split of a plan, wherever the folder can be reached."""
    from sftprep.watch.build import watched_work

    for task in tasks:
        done = watched_work(folder, task, tokenizer, quiet=quiet, **call)
        if not quiet:
            click.echo(visible(f"split {task}: {done}"))


@main.command()
@click.argument("folder", type=FOLDER)
@commit_options
@quiet_option
@verbose_option
@json_option
def commit(folder: Path, quiet: bool, verbose: bool, as_json: bool, **call: Any) -> None:
    """Check that every split is done and write the manifest: now it is a dataset."""
    from sftprep.config import Tolerance
    from sftprep.watch.build import watched_commit

    watched_commit(folder, Tolerance(**call), quiet=quiet, verbose=verbose, as_json=as_json)


@main.command()
@click.option("-o", "--output", type=FOLDER, default=Path("demo"), show_default=True, help="Folder of the dataset.")
def demo(output: Path) -> None:
    """Build the sample that comes along, and show rows of it in colour."""
    from sftprep.sample import CONVERSATIONS, TOKENIZER
    from sftprep.tokens.load_early import begin_tokenizer

    tokenizer = begin_tokenizer(str(TOKENIZER), trust_remote_code=False, fast=True)
    from sftprep.config import BuildConfig
    from sftprep.look.inspect import Manner, show_rows
    from sftprep.views.choosing import Choice
    from sftprep.watch.build import watched_build

    config = BuildConfig((str(CONVERSATIONS),), str(TOKENIZER), max_length=512)
    watched_build(config, output, tokenizer=tokenizer, hint=False)
    show_rows(output, Choice(), Manner(tokenizer=str(TOKENIZER), pager=False, legend=True))
    named = f"{quote(str(output))} 28 35"
    click.echo(f"Next, two rows with reasoning and tools: sftprep inspect {visible(named)}")


@main.command()
@click.argument("shell", type=click.Choice(SHELLS))
def completion(shell: str) -> None:
    """Print what makes a shell complete commands, options and their values."""
    from click.shell_completion import get_completion_class

    if kind := get_completion_class(shell):
        click.echo(kind(main, {}, "sftprep", "_SFTPREP_COMPLETE").source())


@main.command()
@click.argument("action", metavar="[clear]", type=click.Choice(["clear"]), required=False)
@json_option
def cache(action: str | None, as_json: bool) -> None:
    """Say where the cache is and how large; `sftprep cache clear` empties it.

    It holds what was found out about tokenizers, which would otherwise take each job some seconds, in at most 200 MB.
    $SFTPREP_CACHE names another folder.
    """
    import json

    from sftprep.cache import LIMIT, cache_folder, clear, held

    folder = cache_folder()
    size = clear() if action else held()
    if as_json:
        stated = {"folder": folder and str(folder), "entries": size.entries, "bytes": size.bytes, "limit": LIMIT}
        click.echo(json.dumps(stated | {"cleared": bool(action)}))
        return
    where = folder or "no home folder, and $SFTPREP_CACHE names none"
    rest = "removed" if action else f"of at most {LIMIT / 1e6:.0f}"
    click.echo(f"{visible(str(where))}: {size.entries} entries, {size.bytes / 1e6:,.1f} MB {rest}")


for each in LOOKING:
    main.add_command(each)


def run() -> NoReturn:
    """The program `sftprep`."""
    end_quickly(main)
