"""The options of a build -> BuildConfig."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click
from click.shell_completion import CompletionItem

from sftprep import config
from sftprep.cli.config_file import take_defaults
from sftprep.cli.named_files import prompts_in, text_in
from sftprep.config import BuildConfig
from sftprep.errors import ConfigError
from sftprep.layouts.kinds import LAYOUTS, OVERFLOWS
from sftprep.masks.kinds import MASKS
from sftprep.records.forms import FORMS
from sftprep.records.messages import CALLING, ROLES
from sftprep.stores.kinds import scheme_of
from sftprep.watch.log import show_log
from sftprep.workers.runners import RUNNERS

if TYPE_CHECKING:
    from sftprep.dataset.manifest import Manifest

_Command = TypeVar("_Command", bound=Callable[..., Any])


def _options(*decorators: Any) -> Callable[[_Command], _Command]:
    def apply(function: Any) -> Any:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


def _option(name: str, text: str, flag: str | None = None, *, choices: Collection[str] = (), **more: Any) -> Any:
    """The option of one of a build's fields, which has its default. flag: how it is spelled, if not as the field."""
    default = BuildConfig.__dataclass_fields__[name].default
    flag = flag or f"--{name.replace('_', '-')}"
    more.setdefault("show_default", default is not False)
    if isinstance(default, bool):
        more["is_flag"] = True
        flag += f"/--no-{flag[2:]}" if default else ""
    if choices:
        more["type"] = click.Choice(tuple(choices))
    return click.option(flag, name, default=default, help=text, **more)


class _Folder(click.Path):
    """A folder of this machine. An address would become a local folder with an odd name."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Raises ConfigError for an address."""
        if scheme := scheme_of(os.fspath(value)):
            raise ConfigError(
                f"{value}: datasets behind {scheme}:// are not possible yet; give a folder on this machine"
            )
        return super().convert(value, param, ctx)


def _bytes(text: str | int) -> int:
    """A number of bytes, such as 1000, 64MiB or 1GB."""
    found = re.fullmatch(r"(\d+) *([KMG]?)(i?)B?", str(text), re.IGNORECASE)
    if not found:
        raise click.BadParameter(f"{text!r} is no number of bytes, such as 1000, 64MiB or 1GB.")
    unit = 1024 if found[3] else 1000
    return int(found[1]) * int(unit ** " KMG".index(found[2].upper() or " "))


FOLDER = _Folder(path_type=Path)
_ON_ERROR = _option(
    "on_error", "A record that cannot be used is listed and left out, or ends the job.", choices=("reject", "stop")
)
_MAX_REJECTS = _option("max_rejects", "Fail when more records than this are rejected.", metavar="N|N%")
_TRUST = _option("trust_remote_code", "Run Python code that comes with the tokenizer: only if this call says so.")


def names_of(kind: str) -> Callable[..., list[CompletionItem]]:
    """What a shell completes a value with. kind: file or dir."""
    return lambda ctx, parameter, begun: [CompletionItem(begun, type=kind)]


_TOKENIZER = click.option(
    "-t",
    "--tokenizer",
    metavar="NAME",
    help="Folder or hub name of the tokenizer.  [required]",
    shell_complete=names_of("dir"),
)
_TEMPLATE = (
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
    _option("date", "The day a template's strftime_now sees.  [default: today]", metavar="YYYY-MM-DD"),
)
_TRAINED = (
    _option("train_on", "Whose messages are trained.", metavar="assistant|last|all|ROLE,ROLE"),
    _option("train_end_of_turn", "Train the token that ends a turn."),
)
_TURNS = (
    _option("end_of_turn", "The token that ends a turn, instead of the one that is found.", metavar="TOKEN"),
    _option("header", "What stands before an answer, instead of what is found.", metavar="TEXT"),
)
_READING = (
    _option(
        "record_format",
        f"Form of the records: {', '.join(FORMS)}; auto looks at each.",
        "--format",
        choices=("auto", *FORMS),
        metavar="FORM",
    ),
    _option("messages_key", "Key of a record that its messages are under.", metavar="KEY"),
    click.option(
        "--role-map",
        "role_map",
        multiple=True,
        metavar="NAME=ROLE",
        help=f"What a name of a role means, in any case: {', '.join(ROLES)}, or {CALLING}; may be repeated.",
    ),
    _option(
        "by",
        "Key of a record beside its conversation, such as source: stats are of each of its values, too.",
        metavar="KEY",
    ),
    _option("keep_calls_apart", "Leave a turn of calls of tools apart from the assistant's turn that it follows."),
)
build_options = _options(
    click.argument("inputs", nargs=-1, metavar="INPUT...", shell_complete=names_of("file")),
    click.option("-o", "--output", type=FOLDER, help="Folder of the dataset.  [required]"),
    _TOKENIZER,
    click.option(
        "--config",
        "config_file",
        type=click.Path(path_type=Path, dir_okay=False),
        is_eager=True,
        callback=take_defaults,
        help="TOML file with any of these options as keys, or the manifest.json of a dataset; a flag wins over it.",
    ),
    click.option(
        "--max-length",
        type=int,
        help=f"Tokens kept per conversation; rows are one narrower.  [default: {config.DEFAULT_MAX_LENGTH}; ragged: all]",
    ),
    click.option("--seq-length", type=int, help="Width of the arrays; instead of --max-length."),
    _option(
        "layout",
        "How conversations lie in rows: one each, several each, or without rows, which are made when reading.",
        choices=LAYOUTS,
    ),
    _option(
        "overflow",
        "What becomes of a longer conversation: cut off, cut back to a whole turn, made several of, left out; or the job ends.",
        choices=OVERFLOWS,
    ),
    *_READING,
    _option("input_name", "Name of standard input, the INPUT -; its suffix says what is in it.", metavar="NAME"),
    _option(
        "max_record_bytes",
        "A record that is longer is rejected, unread.  [default: 64MiB]",
        type=_bytes,
        show_default=False,
        metavar="N|NMiB",
    ),
    *_TEMPLATE,
    _option("mask", "How trained tokens are found.", choices=MASKS),
    *_TRAINED,
    _option("keep_untrained", "Keep conversations without any trained token."),
    *_TURNS,
    _option("scan_header", "For --mask scan: text before an answer.", metavar="TEXT"),
    _option("scan_end", "For --mask scan: text that ends an answer.", metavar="TEXT"),
    _option("scan_start_offset", "For --mask scan: tokens from the header's end to the first trained one."),
    _option("scan_end_offset", "For --mask scan: tokens trained after the end text."),
    _option("control_tokens", "What message text that spells a control token becomes.", choices=config.CONTROL_TOKENS),
    _option(
        "tool_arguments",
        "Tool arguments in a JSON string: object decodes them, auto where the template refuses or quotes the string.",
        choices=config.TOOL_ARGUMENTS,
    ),
    _option(
        "contexts",
        "Train each turn where it stands in the whole conversation, or behind just what a server shows that asks for it.",
        choices=config.CONTEXTS,
    ),
    _option(
        "on_unprinted",
        "A record of which the template leaves something out, such as reasoning or a call of a tool, is counted or listed and left out.",
        choices=config.ON_UNPRINTED,
    ),
    _option("limit", "Read only the first N records.", metavar="N", type=int),
    _option(
        "validation",
        "Put this share of the conversations, chosen by what they say, into a validation set.",
        metavar="N%",
    ),
    click.option(
        "--validation-input",
        multiple=True,
        metavar="INPUT",
        help="A file, folder or glob that is the validation set; may be repeated.",
    ),
    _option("deduplicate", "Leave out and list records that say the same as another; the first one stays."),
    click.option(
        "--system-prompt-file",
        "system_prompts",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="File with a system prompt a line, of which one is added to some conversations that have none, and no tools.",
    ),
    _option("system_prompt_ratio", "Share of these conversations that get one.", type=float, metavar="SHARE"),
    _option(
        "drop_empty_think",
        "Share of the conversations from which empty thinking, <think>\\n\\n</think>\\n\\n, is left out.",
        type=float,
        metavar="SHARE",
    ),
    _option("seed", "Seed of what is drawn: another one draws another validation set, other system prompts.", type=int),
    _option("strict", "Refuse folders and globs with files in them that are not read, other than hidden ones."),
    _ON_ERROR,
    _MAX_REJECTS,
    click.option("-w", "--workers", type=int, help="Worker processes.  [default: one per core]"),
    _option("engine", "Who runs the workers.", choices=RUNNERS),
    _option(
        "tokenizer_engine",
        "auto takes the fast one if it gives the same ids with this tokenizer.",
        choices=config.TOKENIZER_ENGINES,
    ),
    _TRUST,
)
work_options = _options(_ON_ERROR, _TRUST)
commit_options = _options(_ON_ERROR, _MAX_REJECTS)
template_options = _options(_TOKENIZER, *_TEMPLATE, *_TRAINED, *_TURNS, _TRUST)
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace the dataset in the folder; it stays readable until the new one is whole."
)


def _quiet(ctx: click.Context, parameter: click.Parameter, quiet: bool) -> bool:
    show_log(quiet=quiet)
    return quiet


json_option = click.option("--json", "as_json", is_flag=True, help="One JSON object on standard output.")
log_json_option = click.option(
    "--log-json",
    is_flag=True,
    expose_value=False,  # `endings.Group` looks for it: what is wrong with the other options is an object, too
    help="Progress, notes and errors as one JSON object a line, and nothing else on standard error.",
)
quiet_option = _options(
    click.option("-q", "--quiet", is_flag=True, callback=_quiet, help="No progress, no table; errors only."),
    log_json_option,
)
verbose_option = click.option(
    "-v", "--verbose", is_flag=True, help="A longer table: counts that are zero, where the time went, keys not read."
)


def build_config(options: dict[str, Any]) -> BuildConfig:
    """What the options of a command say. Raises click.UsageError, or ConfigError where a file cannot be read."""
    for name, flag in (("inputs", "INPUT"), ("tokenizer", "--tokenizer"), ("output", "--output")):
        if not options[name]:
            raise click.UsageError(f"Missing {flag} (as an argument, or in --config).")
    if options["max_length"] is not None and options["seq_length"] is not None:
        raise click.UsageError("Give --max-length or --seq-length, not both.")
    values = {key: value for key, value in options.items() if key not in ("output", "seq_length")}
    if options["seq_length"] is not None:
        values["max_length"] = options["seq_length"] + 1
    values["workers"] = options["workers"] if options["workers"] is not None else cores()
    return _config_of(values)


def same_as(ctx: click.Context, config: BuildConfig) -> Manifest | None:
    """The manifest whose dataset a build is to give again: the one that all of its options come from."""
    manifest: Manifest | None = ctx.params["config_file"]
    own = (click.core.ParameterSource.COMMANDLINE, click.core.ParameterSource.ENVIRONMENT)
    told = any(ctx.get_parameter_source(name) in own for name in ("inputs", "tokenizer"))
    return None if manifest is None or told or config.content_options() != dict(manifest.config) else manifest


def explain_config(options: dict[str, Any], given: str) -> BuildConfig:
    """What the options of a command say that reads one input only, and makes nothing of it. Raises as `build_config` does."""
    unasked = {name: options[name] or "none" for name in ("tokenizer", "output")}
    return build_config({**options, **unasked, "inputs": (given,)})


def template_config(options: dict[str, Any]) -> BuildConfig:
    """What the options of a command say that has no inputs. Raises as `build_config` does."""
    if not options["tokenizer"]:
        raise click.UsageError("Missing --tokenizer.")
    return _config_of({**options, "inputs": ()})


def _config_of(values: dict[str, Any]) -> BuildConfig:
    kwargs = {}
    for pair in values["template_kwargs"]:
        name, separator, text = pair.partition("=")
        if not separator or not name.isidentifier():
            raise click.UsageError(f"--template-kwarg {pair!r}: expected NAME=VALUE.")
        kwargs[name] = config.template_value(text)
    values["template_kwargs"] = kwargs
    manifest = values.pop("config_file", None)
    prompts = values.get("system_prompts")
    values["system_prompts"] = prompts_in(prompts) if prompts else manifest.config["system_prompts"] if manifest else []
    if "role_map" in values:
        values["role_map"] = dict(map(_role_named, values["role_map"]))
    if values["chat_template"]:
        values["chat_template"] = text_in(values["chat_template"], "a Jinja chat template")
    elif manifest is not None:
        values["chat_template"] = manifest.config["chat_template"]
    return BuildConfig(**values)


def _role_named(pair: str) -> tuple[str, str]:
    name, separator, role = pair.rpartition("=")
    if not separator or not name:
        raise click.UsageError(f"--role-map {pair!r}: expected NAME=ROLE.")
    return name, role


def cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
