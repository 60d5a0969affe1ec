"""The command line: argv -> BuildConfig -> exit code. What the commands do lives in other rooms, imported when run."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

import click

from sftprep import __version__, config
from sftprep.errors import ConfigError, SftprepError

if TYPE_CHECKING:
    from sftprep.config import BuildConfig

EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143
_AGAIN_SECONDS = 0.05


class Group(click.Group):
    """Ends every command with one line and the usual exit code, whatever it raises. SFTPREP_DEBUG=1 shows tracebacks."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command, translating errors and signals to messages and exit codes."""
        signal.signal(signal.SIGTERM, _terminated)
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # no linear algebra here: its threads would only wait
        debug = bool(os.environ.get("SFTPREP_DEBUG"))
        if not debug:
            sys.unraisablehook = _not_raised
        try:
            return super().invoke(ctx)
        except (click.ClickException, click.exceptions.Exit, click.Abort):
            raise
        except KeyboardInterrupt:
            _end_interrupted()
        except SftprepError as error:
            _end_if_stopped(error)
            _end(f"Error: {error}", error.exit_code)
        except BrokenPipeError:  # `sftprep inspect ... | head`
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            sys.exit(0)
        except OSError as error:
            _end_if_stopped(error)
            where = f"{error.filename}: " if error.filename else ""
            _end(f"Error: {where}{error.strerror or error}", 1)
        except Exception as error:
            if debug:
                raise
            what = f"internal error: {type(error).__name__}; please report it (SFTPREP_DEBUG=1 shows more)"
            _end(f"Error: {what}", 1)


def _end(message: str, exit_code: int, color: str = "red") -> NoReturn:
    with suppress(OSError):  # standard error may be a file on the disk that is full
        click.secho(message, fg=color, err=True)
    sys.exit(exit_code)


def _end_interrupted() -> NoReturn:
    _end("Interrupted; run the same command again to go on from here.", EXIT_INTERRUPTED, "yellow")


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


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(__version__, prog_name="sftprep")
def main() -> None:
    """Tokenize chat data once: JSONL conversations in, memory-mapped X/Y/mask shards with true loss masks out."""


def _load_toml(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Path | None:
    """Take defaults from a TOML file; a flag on the command line wins over it."""
    if path is None:
        return None
    if sys.version_info >= (3, 11):
        import tomllib
    else:
        import tomli as tomllib
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    known = {option.name: option for option in ctx.command.params}
    names = {name.replace("-", "_"): value for name, value in settings.items()}
    for name, value in names.items():
        if name not in known or name == "config_file":
            raise ConfigError(f"{path}: unknown key {name!r}; keys are the options of `sftprep build --help`")
        if isinstance(value, dict):
            names[name] = [f"{key}={_toml_text(each)}" for key, each in value.items()]
        elif isinstance(value, list):
            names[name] = [str(each) for each in value]
        elif not isinstance(value, bool):
            names[name] = str(value)
    ctx.default_map = {**(ctx.default_map or {}), **names}
    return path


def _toml_text(value: Any) -> str:
    import json

    return value if isinstance(value, str) else json.dumps(value)


_Command = TypeVar("_Command", bound=Callable[..., Any])


def _options(*decorators: Any) -> Callable[[_Command], _Command]:
    def apply(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def _choice(flag: str, values: tuple[str, ...], text: str, *names: str) -> Any:
    return click.option(flag, *names, type=click.Choice(values), default=values[0], show_default=True, help=text)


build_options = _options(
    click.argument("inputs", nargs=-1, metavar="INPUT..."),
    click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder of the dataset.  [required]"),
    click.option("-t", "--tokenizer", metavar="NAME", help="Folder or hub name of the tokenizer.  [required]"),
    click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        is_eager=True,
        callback=_load_toml,
        help="TOML file with any of these options as keys; a flag wins over it.",
    ),
    click.option(
        "--max-length",
        type=int,
        help=f"Tokens kept per conversation; arrays are one narrower.  [default: {config.DEFAULT_MAX_LENGTH}]",
    ),
    click.option("--seq-length", type=int, help="Width of the arrays; instead of --max-length."),
    _choice("--layout", ("padded",), "How conversations lie in rows."),
    _choice("--format", config.FORMATS, "Kind of the records; auto looks at each.", "record_format"),
    click.option(
        "--chat-template",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="File with a Jinja chat template, instead of the tokenizer's own.",
    ),
    click.option(
        "--template-kwarg",
        "template_kwargs",
        multiple=True,
        metavar="NAME=VALUE",
        help="Variable for the chat template, such as enable_thinking=false; may be repeated.",
    ),
    click.option("--date", metavar="YYYY-MM-DD", help="The day a template's strftime_now sees.  [default: today]"),
    _choice("--mask", config.MASKS, "How trained tokens are found."),
    click.option(
        "--train-on",
        default="assistant",
        show_default=True,
        metavar="assistant|last|all|ROLE,ROLE",
        help="Whose messages are trained.",
    ),
    click.option(
        "--train-end-of-turn/--no-train-end-of-turn",
        default=True,
        show_default=True,
        help="Train the token that ends a turn.",
    ),
    click.option("--keep-untrained", is_flag=True, help="Keep conversations without any trained token."),
    click.option("--end-of-turn", metavar="TOKEN", help="The token that ends a turn, where it is not found rightly."),
    click.option("--header", metavar="TEXT", help="What stands before an answer, where it is not found rightly."),
    click.option("--scan-header", metavar="TEXT", help="For --mask scan: text before an answer."),
    click.option("--scan-end", metavar="TEXT", help="For --mask scan: text that ends an answer."),
    click.option(
        "--scan-start-offset",
        type=int,
        default=0,
        show_default=True,
        help="For --mask scan: tokens from the header's end to the first trained one.",
    ),
    click.option(
        "--scan-end-offset",
        type=int,
        default=0,
        show_default=True,
        help="For --mask scan: tokens trained after the end text.",
    ),
    _choice("--control-tokens", config.CONTROL_TOKENS, "What message text that spells a control token becomes."),
    _choice("--on-error", ("reject", "stop"), "What a record that cannot be used does."),
    click.option("--max-rejects", metavar="N|N%", help="Fail when more records than this are rejected."),
    click.option("-w", "--workers", type=int, help="Worker processes.  [default: one per core]"),
    _choice("--tokenizer-engine", config.TOKENIZER_ENGINES, "auto takes the fast one where it is proven equal."),
    click.option("--trust-remote-code", is_flag=True, help="Run Python code that comes with the tokenizer."),
)
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace the dataset in the folder; it stays readable until the new one is whole."
)
quiet_option = click.option("-q", "--quiet", is_flag=True, help="No progress, no table; errors only.")


def _build_config(options: dict[str, Any]) -> BuildConfig:
    for name, flag in (("inputs", "INPUT"), ("tokenizer", "--tokenizer"), ("output", "--output")):
        if not options[name]:
            raise click.UsageError(f"Missing {flag} (as an argument, or in --config).")
    if options["max_length"] is not None and options["seq_length"] is not None:
        raise click.UsageError("Give --max-length or --seq-length, not both.")
    values = {key: value for key, value in options.items() if key not in ("config_file", "output", "seq_length")}
    if options["seq_length"] is not None:
        values["max_length"] = options["seq_length"] + 1
    elif options["max_length"] is None:
        values["max_length"] = config.DEFAULT_MAX_LENGTH
    values["workers"] = options["workers"] if options["workers"] is not None else _cores()
    kwargs = {}
    for pair in options["template_kwargs"]:
        name, separator, text = pair.partition("=")
        if not separator or not name.isidentifier():
            raise click.UsageError(f"--template-kwarg {pair!r}: expected NAME=VALUE.")
        kwargs[name] = config.template_value(text)
    values["template_kwargs"] = kwargs
    if options["chat_template"]:
        try:
            values["chat_template"] = options["chat_template"].read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{options['chat_template']}: {error}") from error
    return config.BuildConfig(**values)


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@main.command()
@build_options
@overwrite_option
@quiet_option
def build(overwrite: bool, quiet: bool, output: Path, **options: Any) -> None:
    """The whole job: plan, work on all cores, commit.

    INPUT is a .jsonl or .json file, a folder, or a glob. Run again after a crash, it does only what is missing.
    """
    build_config = _build_config({**options, "output": output})
    from sftprep.build import build_dataset

    build_dataset(build_config, output, overwrite=overwrite, quiet=quiet)


@main.command()
@build_options
@overwrite_option
@quiet_option
def plan(overwrite: bool, quiet: bool, output: Path, **options: Any) -> None:
    """Write plan.json: inputs, splits, options. Then run `work` once per split, anywhere, then `commit`."""
    build_config = _build_config({**options, "output": output})
    from sftprep.plan import adopt_plan, hold, make_plan

    planned, _ = make_plan(build_config)
    with hold(output):
        adopted = adopt_plan(planned, output, overwrite=overwrite)
    if quiet:
        return
    if adopted is None:
        click.echo(f"{output}: complete already; nothing to do")
        return
    last = len(planned.splits) - 1
    click.echo(
        f"{last + 1} splits: run `sftprep work {output} --task I` for I from 0 to {last}, then `sftprep commit {output}`."
    )


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--task", "tasks", type=int, multiple=True, required=True, help="Split to work on; may be repeated.")
@click.option("--tokenizer", "-t", metavar="NAME", help="Where the tokenizer lies on this machine, if elsewhere.")
@quiet_option
def work(folder: Path, tasks: tuple[int, ...], tokenizer: str | None, quiet: bool) -> None:
    """Do one split of a plan, wherever the folder can be reached; does nothing if it is done."""
    from sftprep.pipeline import work_on

    for task in tasks:
        done = work_on(folder, task, tokenizer)
        if not quiet:
            click.echo(f"split {task}: {done}")


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@quiet_option
def commit(folder: Path, quiet: bool) -> None:
    """Check that every split is done and write the manifest: from then on it is a dataset."""
    from sftprep.pipeline import commit_dataset
    from sftprep.plan import hold
    from sftprep.progress import show_summary

    with hold(folder, create=False):
        manifest = commit_dataset(folder)
    if not quiet:
        show_summary(manifest, folder)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.argument("rows", type=int, nargs=-1)
@click.option("-t", "--tokenizer", metavar="NAME", help="Tokenizer that gives the ids their text; ids without it.")
@click.option("--color/--no-color", default=None, help="Colour even when not on a terminal, or never.")
def inspect(folder: Path, rows: tuple[int, ...], tokenizer: str | None, color: bool | None) -> None:
    """Show rows in colour: prompt dim, trained tokens bright, pads hidden. The first 3 unless rows are named."""
    from sftprep.preview import show_rows

    show_rows(folder, rows, tokenizer, color)


@main.command()
@click.argument("folder", type=click.Path(path_type=Path))
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
    from sftprep.recheck import verify_command

    if not verify_command(folder, fast=fast, sources=sources, tokenizer=tokenizer, quiet=quiet):
        sys.exit(1)


@main.command()
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=Path("demo"),
    show_default=True,
    help="Folder of the dataset.",
)
def demo(output: Path) -> None:
    """The main job on the built-in sample: build, then a few rows in colour."""
    from sftprep.build import run_demo

    run_demo(output)


if __name__ == "__main__":
    main()
