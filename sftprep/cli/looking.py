"""The commands that look at a dataset or a template, and change nothing in it: argv -> what other rooms show."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from sftprep.cli.help import Command
from sftprep.cli.inspecting import inspect
from sftprep.cli.options import (
    FOLDER,
    cores,
    json_option,
    log_json_option,
    quiet_option,
    template_config,
    template_options,
)
from sftprep.compare.kinds import AGAINST, MOST, Request
from sftprep.exports.kinds import EXPORTS


@click.command(cls=Command)
@click.argument("folder", type=FOLDER)
@json_option
@log_json_option
def stats(folder: Path, as_json: bool) -> None:
    """Show a dataset in numbers: where every record went, what is trained, what the template leaves out."""
    from sftprep.look.stats import show_stats

    show_stats(folder, as_json=as_json)


@click.command(cls=Command)
@click.argument("folder", type=FOLDER)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("report.html"),
    show_default=True,
    help="File of the page.",
)
@click.option(
    "-t", "--tokenizer", metavar="NAME", help="Tokenizer that gives the ids their text, if it is not found by itself."
)
@click.option("--no-text", is_flag=True, help="Leave out of the page what messages say: numbers and lengths only.")
@quiet_option
def report(folder: Path, output: Path, tokenizer: str | None, no_text: bool, quiet: bool) -> None:
    """Make a page of a dataset for a browser: numbers, what was lost and why, telling conversations in colour."""
    from sftprep.watch.datasets import watched_report

    watched_report(folder, output, tokenizer, text=not no_text, quiet=quiet)


@click.command(cls=Command)
@click.argument("folder", type=FOLDER)
@click.option("--fast", is_flag=True, help="Sizes and headers only.")
@click.option(
    "--source",
    "sources",
    multiple=True,
    metavar="INPUT",
    help="Also re-read these inputs and derive a sample of rows anew; needs --tokenizer.",
)
@click.option("-t", "--tokenizer", metavar="NAME", help="Tokenizer for --source.")
@quiet_option
@json_option
def verify(
    folder: Path, fast: bool, sources: tuple[str, ...], tokenizer: str | None, quiet: bool, as_json: bool
) -> None:
    """Check a dataset against its manifest and itself; name every wrong file. Exit code 1 if there is one."""
    if sources and not tokenizer:
        raise click.UsageError("--source needs --tokenizer.")
    from sftprep.watch.verify import verify_command

    said = {"quiet": quiet, "as_json": as_json}
    if not verify_command(folder, fast=fast, sources=sources, tokenizer=tokenizer, **said):
        sys.exit(1)


@click.command(cls=Command)
@click.argument("folder", type=FOLDER)
@click.option("--to", "form", type=click.Choice([*EXPORTS]), required=True, help="Whose form.")
@click.option("-o", "--output", type=FOLDER, required=True, help="A new folder.")
@quiet_option
def export(folder: Path, form: str, output: Path, quiet: bool) -> None:
    """Write a dataset in another trainer's form: its conversations, unpadded, with their labels."""
    from sftprep.watch.datasets import watched_export

    watched_export(folder, form, output, quiet=quiet)


@click.command(cls=Command)
@template_options
@click.option("--color/--no-color", default=None, help="Colour even when not on a terminal, or never.")
@json_option
@log_json_option
def template(color: bool | None, as_json: bool, **options: Any) -> None:
    """Show what a chat template trains, over a dozen small conversations, and what to beware of."""
    config = template_config(options)
    from sftprep.tokens.resolve import Resolving

    resolving = Resolving(config.tokenizer, trust_remote_code=config.trust_remote_code)  # while the rest is imported
    from sftprep.look.template import show_template

    show_template(config, color, as_json=as_json, resolving=resolving)


@click.command(cls=Command)
@click.argument("folder", metavar="A", type=FOLDER)
@click.argument("other", metavar="[B]", type=FOLDER, required=False)
@click.option(
    "--against",
    type=click.Choice([*AGAINST]),
    help="Instead of B, what another program makes of the same conversations.",
)
@click.option("-t", "--tokenizer", metavar="NAME", help="Tokenizer of the dataset, where it is not remembered.")
@click.option(
    "--input", "inputs", multiple=True, metavar="INPUT", help="For --against hf: its inputs; may be repeated."
)
@click.option("--limit", type=click.IntRange(1), metavar="N", help=f"For --against hf: compare N.  [default: {MOST:,}]")
@click.option("--all", "every", is_flag=True, help="For --against hf: compare every conversation.")
@click.option("--examples", "few", type=click.IntRange(0), default=3, show_default=True, help="Shown of each kind.")
@click.option("--color/--no-color", default=None, help="Colour even when not on a terminal, or never.")
@json_option
@quiet_option
def diff(
    folder: Path,
    other: Path | None,
    against: str | None,
    tokenizer: str | None,
    inputs: tuple[str, ...],
    limit: int | None,
    every: bool,
    few: int,
    color: bool | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Compare a dataset with another: conversation by conversation, by what they are, not where they lie.

    Order, files, splits and dtypes do not count. Exit code 1 where ids, masks or sets of conversations differ, 0 where not,
    whatever the options say. With --against, compare with what Transformers, or MiniMind's loop, makes of the same.
    """
    if (other is None) == (against is None):
        raise click.UsageError("Give a second dataset B, or --against.")
    if against != "hf" and (inputs or limit or every):
        raise click.UsageError("--input, --limit and --all belong to --against hf.")
    if limit and every:
        raise click.UsageError("Give --limit or --all, not both.")
    from sftprep.watch.datasets import watched_against, watched_diff

    if other is not None:
        comparison = watched_diff(folder, other, few=few, quiet=quiet)
    else:
        most = None if every else limit or MOST
        request = Request(folder, str(against), tokenizer, inputs, most, few, cores())
        comparison = watched_against(request, quiet=quiet)
    from sftprep.look.diff import show_comparison, show_comparison_as_json

    if as_json:
        show_comparison_as_json(comparison)
    elif not quiet:
        show_comparison(comparison, [each for each in (folder, other) if each], tokenizer, color)
    if comparison.differs:
        sys.exit(1)


LOOKING = (inspect, stats, report, diff, verify, export, template)
