"""Files that an option names, read whole: a chat template, system prompts."""

from __future__ import annotations

import json
from pathlib import Path

from sftprep import config
from sftprep.errors import ConfigError


def text_in(path: Path, what: str) -> str:
    """The text of a file. what: is expected in it. Raises ConfigError where it cannot be that."""
    try:
        if not path.is_file():  # a pipe that nobody writes into would be waited for
            raise ConfigError(f"{path}: not a regular file; expected one with {what}")
        with path.open(encoding="utf-8") as file:
            text = file.read(config.MOST_TEMPLATE + 1)  # more than that is refused
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path}: {error}") from error
    if not text:
        raise ConfigError(f"{path}: is empty; expected {what}")
    return text


def prompts_in(path: Path) -> list[str]:
    """The system prompts of a file: a line each, or a JSON string where it has lines of its own. Raises ConfigError."""
    text = text_in(path, "system prompts, one a line")
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    prompts = []
    for number, line in lines:
        try:
            prompts.append(str(json.loads(line)) if line.startswith('"') else line)
        except ValueError as error:
            raise ConfigError(f"{path}:{number}: begins with a quote and is no JSON string ({error})") from error
    if not prompts:
        raise ConfigError(f"{path}: is blank; expected a system prompt a line")
    return prompts
