"""`sftprep inspect`: rows of a dataset, or those that a build would write."""

from __future__ import annotations

from difflib import get_close_matches
from pathlib import Path
from typing import Any

import click

from sftprep.cli.help import Command
from sftprep.cli.options import FOLDER, build_config, build_options
from sftprep.config import BuildConfig

_OWN = {"inputs", "tokenizer", "seed"}  # options of a build that are said in other words here
_OF_JOBS = {  # and those that no row depends on, or only rows of a set
    "output", "config_file", "input_name", "limit", "validation", "validation_input", "deduplicate", "strict", "on_error",
    "max_rejects", "workers", "engine", "by",
}  # fmt: skip


@build_options
def _build() -> None:
    """Has the options of a build."""


_PARAMETERS: list[click.Parameter] = _build.__click_params__  # type: ignore[attr-defined]
_OF_ROWS = [each for each in _PARAMETERS if each.name not in _OWN | _OF_JOBS]


def _of_a_build(command: Any) -> Any:
    """With the options of a build by which its rows are what they are."""
    command.__click_params__ = [*_OF_ROWS, *getattr(command, "__click_params__", ())]
    return command


@click.command(cls=Command, context_settings={"ignore_unknown_options": True})  # so that -1 is a row
@click.argument("names", nargs=-1, metavar="[OUT] [ROW...]", type=click.Path())
@click.option("-t", "--tokenizer", metavar="NAME", help="Tokenizer that gives the ids their text, if it is not found.")
@click.option("--set", "of", default="train", show_default=True, help="The set that the rows are of.")
@click.option("--table", is_flag=True, help="A line for each position: id, token, target, mask.")
@click.option("--only-trained", is_flag=True, help="Leave out what is not trained.")
@click.option("--at", "position", type=int, metavar="T", help="Say of position T of one row why it is trained or not.")
@click.option("--source", metavar="FILE[:LINE]", help="Rows that came from this file, or from this line of it.")
@click.option("--grep", metavar="TEXT", help="Rows that hold this text.")
@click.option("--untrained", is_flag=True, help="Conversations of which nothing is trained.")
@click.option("--truncated", is_flag=True, help="Conversations that were cut.")
@click.option(
    "--longest", type=click.IntRange(1), is_flag=False, flag_value=3, metavar="[N]", help="The longest N, or 3."
)
@click.option("--random", type=click.IntRange(1), metavar="N", help="N that are drawn.")
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Seed of what is drawn.")
@click.option(
    "--limit", type=click.IntRange(1), metavar="N", help="Show at most N.  [default: 10 of those searched for]"
)
@click.option("--color/--no-color", default=None, help="Colour even when not on a terminal, or never.")
@click.option("--pager/--no-pager", default=True, help="On a terminal, show it in $PAGER, or in less.")
@click.option("--force", is_flag=True, help="Show text by a tokenizer other than the one the dataset was built with.")
@click.option("--json", "as_json", is_flag=True, help="A JSON object a line, one for each conversation.")
@click.option(
    "--input",
    "inputs",
    multiple=True,
    metavar="FILE",
    help="Without OUT: show the rows that a build of this input would write. With OUT and --at: where the input lies now.",
)
@_of_a_build
@click.pass_context
def inspect(ctx: click.Context, /, names: tuple[str, ...], **options: Any) -> None:
    """Show rows: prompt dim, trained tokens bright, pads hidden. The first 3 unless rows are chosen.

    ROW is 3, 0-9, or -1 for the last. Before any build, `sftprep inspect --input chat.jsonl -t TOKENIZER 17` shows row 17 as it
    would be; the options of a build below belong to that.
    """
    from sftprep.look.inspect import Manner, preview_rows, show_position, show_rows
    from sftprep.views.choosing import Choice, rows_named

    inputs, position, of = options["inputs"], options["position"], options["of"]
    folder = None if inputs and (not names or rows_named(names[0])) else _folder(ctx, names)
    rows = []
    for name in names if folder is None else names[1:]:
        _refuse_option(ctx, name, is_known=(stretch := rows_named(name)) is not None)
        if stretch is None:
            raise click.UsageError(f"{name!r} is no row: expected one such as 3, 0-9 or -1.")
        rows.append(stretch)
    searched = {name: options[name] for name in ("source", "grep", "untrained", "truncated", "longest", "random")}
    if searched["longest"] and searched["random"]:
        raise click.UsageError("--longest and --random both choose some of the rows: give one of them.")
    choice = Choice(tuple(rows), **searched, seed=options["seed"], limit=options["limit"])
    shown = {
        name: options[name] for name in ("tokenizer", "force", "color", "pager", "table", "only_trained", "as_json")
    }
    manner = Manner(**shown)
    if folder is None:
        if of != "train":
            raise click.UsageError("--set belongs to a dataset: before a build there is one set.")
        preview_rows(_config(options), choice, position, manner)
        return
    _refuse_of_a_build(ctx)
    if position is not None:
        show_position(folder, choice, position, inputs, manner, of)
    elif inputs:
        raise click.UsageError("--input is for rows before a build, without OUT, or for --at.")
    else:
        show_rows(folder, choice, manner, of)


def _folder(ctx: click.Context, names: tuple[str, ...]) -> Path:
    """The dataset that is named first."""
    if not names:
        raise click.UsageError("Missing OUT, the folder of a dataset; or --input FILE, to see rows before a build.")
    _refuse_option(ctx, names[0], is_known=False)
    folder: Path = FOLDER.convert(names[0], None, ctx)
    return folder


def _refuse_option(ctx: click.Context, name: str, *, is_known: bool) -> None:
    """An argument that begins with a dash and is no row is an option that there is not."""
    if name.startswith("-") and not is_known:
        flag = name.partition("=")[0]
        flags = [each for parameter in ctx.command.params for each in parameter.opts]
        raise click.NoSuchOption(flag, possibilities=get_close_matches(flag, flags), ctx=ctx)


def _refuse_of_a_build(ctx: click.Context) -> None:
    """A dataset has its own."""
    for each in _OF_ROWS:
        if each.name and ctx.get_parameter_source(each.name) is click.core.ParameterSource.COMMANDLINE:
            raise click.UsageError(f"{each.opts[0]} is for rows before a build, with --input; a dataset has its own.")


def _config(options: dict[str, Any]) -> BuildConfig:
    """The build that would be."""
    given = {
        each.name: options[each.name] for each in _PARAMETERS if each.name in options and each.name not in _OF_JOBS
    }
    return build_config({**given, "output": "none", "workers": 1})
