"""The commands that look at a dataset or a template, and change nothing in it: argv -> what other rooms show."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from sftprep.cli.help import Command
from sftprep.cli.inspecting import inspect
from sftprep.cli.options import FOLDER, json_option, quiet_option, show_log, template_config, template_options
from sftprep.exports.kinds import EXPORTS
from sftprep.visible import visible


@click.command(cls=Command)
@click.argument("folder", type=FOLDER)
@json_option
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
def report(folder: Path, output: Path, tokenizer: str | None, no_text: bool) -> None:
    """Make a page of a dataset for a browser: numbers, what was lost and why, telling conversations in colour."""
    from sftprep.pages.report import write_report

    if why := write_report(folder, output, tokenizer, text=not no_text):
        click.secho(visible(why), dim=True, err=True)
    click.echo(visible(f"{output}: open it in a browser"))


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
def verify(folder: Path, fast: bool, sources: tuple[str, ...], tokenizer: str | None, quiet: bool) -> None:
    """Check a dataset against its manifest and itself; name every wrong file. Exit code 1 if there is one."""
    if sources and not tokenizer:
        raise click.UsageError("--source needs --tokenizer.")
    from sftprep.watch.verify import verify_command

    if not verify_command(folder, fast=fast, sources=sources, tokenizer=tokenizer, quiet=quiet):
        sys.exit(1)


@click.command(cls=Command)
@click.argument("folder", type=FOLDER)
@click.option("--to", "form", type=click.Choice([*EXPORTS]), required=True, help="Whose form.")
@click.option("-o", "--output", type=FOLDER, required=True, help="A new folder.")
@quiet_option
def export(folder: Path, form: str, output: Path, quiet: bool) -> None:
    """Write a dataset in another trainer's form: its conversations, unpadded, with their labels."""
    from sftprep.watch.export import watched_export

    watched_export(folder, form, output, quiet=quiet)


@click.command(cls=Command)
@template_options
@click.option("--color/--no-color", default=None, help="Colour even when not on a terminal, or never.")
@json_option
def template(color: bool | None, as_json: bool, **options: Any) -> None:
    """Show what a chat template trains, over a dozen small conversations, and what to beware of."""
    show_log()
    config = template_config(options)
    from sftprep.tokens.resolve import Resolving

    resolving = Resolving(config.tokenizer, trust_remote_code=config.trust_remote_code)  # while the rest is imported
    from sftprep.look.template import show_template

    show_template(config, color, as_json=as_json, resolving=resolving)


LOOKING = (inspect, stats, report, verify, export, template)
