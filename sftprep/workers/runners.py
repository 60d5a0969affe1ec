"""The ways to run workers, by the name that `--engine` gives them. A new one is a room and a line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from sftprep.workers.worker import Runner

RUNNERS = {"local": "sftprep.workers.local"}  # rooms that have what `Runner` says


def runner(name: str) -> Runner:
    """What has tasks done in that way."""
    return cast("Runner", import_module(RUNNERS[name]))
