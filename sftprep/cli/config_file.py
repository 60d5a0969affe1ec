"""A build's options in a file: TOML, or the manifest of a dataset that was built with them; and a commented file to begin with."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import date
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from sftprep.errors import ConfigError, DatasetError

if TYPE_CHECKING:
    from sftprep.dataset.manifest import Manifest

_HEAD = """\
# Options of `sftprep build --config {name}`; a flag on the command line wins over its line here.
# Lines with a # before the key show the default: take the # away to change it.

inputs = ["chat.jsonl"]
tokenizer = "path/to/tokenizer"
output = "dataset"
"""
_REQUIRED = ("inputs", "tokenizer", "output")
_NO_KEYS = (
    "config_file",
    "help",
    "overwrite",
    "quiet",
    "verbose",
    "log_json",
    "as_json",
    "dry_run",
    "explain",
)  # what one call is told


def take_defaults(ctx: click.Context, parameter: click.Parameter, path: Path | None) -> Manifest | None:
    """Let a file's options be the defaults of a command's flags; the manifest, if it is one. Raises ConfigError."""
    if path is None:
        return None
    try:
        data = path.read_bytes()
        manifest = _manifest(data) if data.lstrip()[:1] == b"{" else None
        given = _of_manifest(manifest) if manifest else _of_toml(data.decode(), _keys(ctx.command))
    except (OSError, ValueError, ConfigError, DatasetError) as error:  # tomllib's and UTF-8's are ValueErrors
        raise ConfigError(f"{path}: {error}") from error
    ctx.default_map = {**(ctx.default_map or {}), **given}
    return manifest


def commented(command: click.Command, name: str) -> str:
    """A TOML file of that name, with every option of a command, what it means and its default."""
    options = [each for each in dict.fromkeys(_keys(command).values()) if isinstance(each, click.Option)]
    lines = (f"# {_meaning(each)}\n# {_own_name(each)} = {_example(each)}\n" for each in options)
    shown = (line for each, line in zip(options, lines, strict=True) if each.name not in _REQUIRED)
    return "\n".join([_HEAD.format(name=name), *shown])


def _keys(command: click.Command) -> dict[str, click.Parameter]:
    """The options that may stand in a file, by each of their names, with underscores."""
    found: dict[str, click.Parameter] = {}
    for parameter in command.params:
        if parameter.name and parameter.name not in _NO_KEYS:
            flags = [flag[2:] for flag in parameter.opts if flag.startswith("--")]
            found |= {name.replace("-", "_"): parameter for name in (*flags, parameter.name)}
    return found


def _of_toml(text: str, known: Mapping[str, click.Parameter]) -> dict[str, Any]:
    import tomllib

    found: dict[str, Any] = {}
    for key, value in tomllib.loads(text).items():
        parameter = known.get(key.replace("-", "_"))
        if parameter is None:
            close = get_close_matches(key.replace("-", "_"), known, 1)
            meant = (
                f"did you mean {_own_name(known[close[0]])}?"
                if close
                else "keys are the options of `sftprep build --help`"
            )
            raise ConfigError(f"unknown key {key!r}; {meant}")
        if parameter.name in found:
            raise ConfigError(f"key {key!r}: the same option is given under another name, too")
        found[str(parameter.name)] = _value(key, value, parameter)
    return found


def _value(key: str, value: Any, parameter: click.Parameter) -> Any:
    """A TOML value as the command line would have it: text, a list of texts, or a boolean. Raises ConfigError."""
    if isinstance(parameter, click.Option) and parameter.is_flag:
        if not isinstance(value, bool):
            raise ConfigError(f"key {key!r}: expected true or false")
        return value
    several = (
        parameter.multiple or parameter.nargs == -1 if isinstance(parameter, click.Option) else parameter.nargs == -1
    )
    if several and isinstance(value, dict) and "=" in (parameter.metavar or ""):
        return [f"{name}={each if isinstance(each, str) else json.dumps(each)}" for name, each in value.items()]
    values = value if several and isinstance(value, list) else [value]
    if any(isinstance(each, (bool, list, dict)) or not isinstance(each, (str, int, float, date)) for each in values):
        what = "text or a number, or a list of them" if several else "text or a number"
        raise ConfigError(f"key {key!r}: expected {what}")
    return [str(each) for each in values] if several else str(value)


def _manifest(data: bytes) -> Manifest:
    from sftprep.dataset.manifest import parse_manifest

    return parse_manifest(data)


def _of_manifest(manifest: Manifest) -> dict[str, Any]:
    """As `_of_toml`; the texts of files are left to whoever makes the config."""
    from sftprep.stores.places import remembered_places

    stated = {**manifest.config, **remembered_places(manifest.fingerprint)}
    options = {name: value for name, value in stated.items() if value is not None}
    for name in ("chat_template", "system_prompts"):
        options.pop(name, None)
    options["template_kwargs"] = [f"{name}={json.dumps(value)}" for name, value in options["template_kwargs"].items()]
    options["role_map"] = [f"{name}={role}" for name, role in options["role_map"].items()]
    return options


def _own_name(parameter: click.Parameter) -> str:
    return next((flag[2:] for flag in parameter.opts if flag.startswith("--")), str(parameter.name))


def _meaning(option: click.Option) -> str:
    shown = option.type if option.metavar is None else None  # else its help names the choices
    choices = f" One of {', '.join(shown.choices)}." if isinstance(shown, click.Choice) else ""
    return f"{(option.help or '').partition('  [')[0]}{choices}"


def _example(option: click.Option) -> str:
    """The default as TOML; where there is none, the kind of value that is expected, in capitals."""
    if option.multiple:
        return "[]"
    said = re.search(r"\[default: (\d+)\]", option.help or "")
    if said or isinstance(option.default, (str, int)):
        return said[1] if said else json.dumps(option.default)
    kind = option.metavar or option.type.name.upper()
    return kind if option.type in (click.INT, click.FLOAT) else json.dumps(kind)
