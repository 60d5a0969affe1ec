"""The ways to run workers, by the name that `--engine` gives them. A new one is a room and a line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from sftprep.workers.worker import RunTasks

RUNNERS = {"local": "sftprep.workers.local"}  # rooms with a `run_tasks`


def runner(name: str) -> RunTasks:
    """What has tasks done in that way."""
    return cast("RunTasks", import_module(RUNNERS[name]).run_tasks)
