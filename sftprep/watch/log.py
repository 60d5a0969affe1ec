"""What a command says while it works: lines of text on standard error, or with --log-json one JSON object a line.

Whatever is said goes through the logger "sftprep". What a pipeline may want to know stands in a record's `event` (begin,
progress, end, summary, problem, error; else note) and `stated`, a dictionary. Light: every command imports it.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import click

from sftprep.visible import visible

_LOG = logging.getLogger("sftprep")


class _Lines(logging.Handler):
    """Lines of dim text; a standard error that is gone is no reason to stop."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        stream, text = sys.stderr, visible(self.format(record))
        if stream is not None:  # not by click, which writes past the bar that is drawn on it
            with suppress(OSError):
                print(click.style(text, dim=True) if stream.isatty() else text, file=stream, flush=True)


class _JsonLines(logging.Handler):
    """An object a line, in ASCII, so that it can be printed anywhere."""

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": vars(record).get("event", "note"),
            "message": visible(record.getMessage()),
        }
        with suppress(OSError):
            click.echo(json.dumps({**said, **vars(record).get("stated", {})}, default=str), err=True)


def show_log(*, quiet: bool = False, as_json: bool | None = None) -> None:
    """Say what takes long while it does. quiet: only what goes wrong. as_json: None leaves it as it was."""
    as_json = says_json() if as_json is None else as_json
    _LOG.handlers[:] = [_JsonLines() if as_json else _Lines()]
    _LOG.setLevel(logging.WARNING if quiet else logging.INFO)


def says_json() -> bool:
    """Whether standard error is for machines: then nothing may go there but what is said here."""
    return any(isinstance(handler, _JsonLines) for handler in _LOG.handlers)


def say(message: str, event: str = "note", stated: Mapping[str, Any] | None = None, level: int = logging.INFO) -> None:
    """Say something. stated: for machines, what the message says and more."""
    _LOG.log(level, "%s", message, extra={"event": event, "stated": dict(stated or {})})
