"""Writes docs/commands.md, the reference of all commands, from the commands themselves: python tests/command_pages.py"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path

import click

from sftprep.cli.commands import main
from sftprep.cli.help import COMMANDS, EXAMPLES, options_of

PAGE = Path(__file__).parents[1] / "docs" / "commands.md"
_HEAD = """\
# Commands

As `sftprep COMMAND --help` says it. Options of `build` may stand in a file, too: [the same again](tour.md#the-same-again).
"""


def reference() -> str:
    """The whole page."""
    parts = [_HEAD]
    rest = main.commands.keys() - {name for names in COMMANDS.values() for name in names}
    for title, names in {**COMMANDS, **({"Other commands": sorted(rest)} if rest else {})}.items():
        parts += [f"## {title}\n", *(part for name in names for part in _command(name, main.commands[name]))]
    return "\n".join(parts)


def _command(name: str, command: click.Command) -> Iterator[str]:
    yield f"### {name}\n"
    yield inspect.cleandoc(command.help or "").replace("*", r"\*") + "\n"
    if name in EXAMPLES:
        yield "\n".join(["```text", *EXAMPLES[name], "```"]) + "\n"
    with click.Context(command, info_name=f"sftprep {name}") as ctx:
        usage = " ".join(command.collect_usage_pieces(ctx))
        yield f"`sftprep {name} {usage}`\n"
        for title, rows in options_of(command, ctx).items():
            if shown := [
                f"| `{_cell(typed)}` | {_cell(meaning)} |" for typed, meaning in rows if "--help" not in typed
            ]:
                yield "\n".join([f"| {title} | |", "|---|---|", *shown]) + "\n"


def _cell(text: str) -> str:
    return text.replace("|", r"\|").replace("<", "&lt;")


if __name__ == "__main__":
    PAGE.write_text(reference(), encoding="utf-8")
