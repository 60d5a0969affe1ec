"""`python -m sftprep` is the program."""

from sftprep.cli.commands import run

run()
