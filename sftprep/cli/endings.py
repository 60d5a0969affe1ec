"""How a command ends: one line and the usual exit code, whatever it raises and whichever signal comes."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from typing import Any, NoReturn

import click

from sftprep.cli import help as pages
from sftprep.errors import SftprepError
from sftprep.visible import visible
from sftprep.watch.log import say, says_json, show_log

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
_AGAIN_SECONDS = 0.05


class Group(pages.Group):
    """Ends every command with one line and the usual exit code, whatever it raises. SFTPREP_DEBUG=1 shows tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, translating errors and signals to messages and exit codes."""
        signal.signal(signal.SIGTERM, _terminated)
        show_log(as_json="--log-json" in ctx.args)  # before options are read: what is wrong with them is said that way
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no linear algebra here: its threads would only wait
        debug = bool(os.environ.get("SFTPREP_DEBUG"))
        if not debug:
            sys.unraisablehook = _not_raised
        try:
            return super().invoke(ctx)
        except click.ClickException as error:
            if says_json():
                _end(error.format_message(), error.exit_code)
            vars(error)["message"] = visible(error.message)
            raise
        except (click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            _end_interrupted()
        except SftprepError as error:
            _end_if_stopped(error)
            _end(str(error), error.exit_code)
        except BrokenPipeError:  # `sftprep inspect ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except OSError as error:
            _end_if_stopped(error)
            where = f"{error.filename}: " if error.filename else ""
            _end(f"{where}{error.strerror or error}", 1)
        except Exception as error:
            if debug:
                raise
            what = f"internal error: {type(error).__name__}; please report it (SFTPREP_DEBUG=1 shows more)"
            _end(what, 1)


def end_quickly(command: click.Command) -> NoReturn:
    """Run a command as the whole program, and leave without taking the interpreter down, which would first wait for a
    tokenizer that is still loading and then free every word of it (0.3 s)."""
    code: Any = 0
    try:
        try:
            command()
        except SystemExit as end:
            code = end.code
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except BrokenPipeError:  # `sftprep --help | head`
        pass
    except OSError as error:  # such as a full disk behind `> file`
        with suppress(OSError):
            click.secho(f"Error: standard output: {error.strerror}", fg="red", err=True)
        code = code or 1
    os._exit(code if isinstance(code, int) else bool(code))


def _end(message: str, exit_code: int, *, interrupted: bool = False) -> NoReturn:
    if says_json():
        event = "interrupted" if interrupted else "error"
        say(message, event, {"exit_code": exit_code}, logging.ERROR)
        sys.exit(exit_code)
    with suppress(OSError):  # standard error may be a file on the disk that is full
        shown = message if interrupted else f"Error: {message}"
        click.secho(visible(shown), fg="yellow" if interrupted else "red", err=True)
    sys.exit(exit_code)


def _end_interrupted() -> NoReturn:
    _end("Interrupted; run the same command again to go on from here.", EXIT_INTERRUPTED, interrupted=True)


def _end_if_stopped(error: BaseException) -> None:
    """An error on the way out after a signal, such as a file closed twice, does not count."""
    before = error.__cause__ or error.__context__
    while before is not None:
        if isinstance(before, KeyboardInterrupt):
            _end_interrupted()
        if isinstance(before, SystemExit):
            raise before
        before = before.__cause__ or before.__context__


def _not_raised(unraisable: sys.UnraisableHookArgs) -> None:
    """What is raised in a finalizer goes nowhere and is not shown, but a signal that ended there is sent again."""
    number = {KeyboardInterrupt: signal.SIGINT, SystemExit: signal.SIGTERM}.get(unraisable.exc_type)
    if number is not None:
        again = threading.Timer(_AGAIN_SECONDS, os.kill, (os.getpid(), number))
        again.daemon = True
        again.start()


def _terminated(number: int, frame: object) -> NoReturn:
    sys.exit(EXIT_TERMINATED)
