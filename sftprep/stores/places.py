"""What a build was told to read, as its dataset states it: relative to the dataset's folder, so that both may be moved together.

A name on the hub, an address and standard input are stated as they are.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sftprep.stores.kinds import scheme_of

_STANDARD_INPUT = "-"


def given_of(inputs: Sequence[str], tokenizer: str, folder: Path) -> dict[str, Any]:
    """For the manifest of a dataset in `folder`."""
    place = tokenizer if not Path(tokenizer).is_dir() else _from_folder(tokenizer, folder)
    return {"inputs": [_from_folder(each, folder) for each in inputs], "tokenizer": place}


def as_given(given: Mapping[str, Any], folder: Path) -> dict[str, Any]:
    """The inverse, for the working folder."""
    inputs, tokenizer = given.get("inputs", []), given.get("tokenizer")
    found: dict[str, Any] = {"inputs": [_from_here(each, folder) for each in inputs]} if inputs else {}
    return found | ({"tokenizer": _from_here(tokenizer, folder)} if tokenizer else {})


def _from_folder(place: str, folder: Path) -> str:
    if place == _STANDARD_INPUT or scheme_of(place):
        return place
    path = Path(place)
    real = path.parent.resolve() / path.name  # its own name has the suffix, where it leads may not
    return f"./{Path(os.path.relpath(real, folder.resolve())).as_posix()}"


def _from_here(place: str, folder: Path) -> str:
    return os.path.normpath(folder.resolve() / place) if place.startswith("./") else place
