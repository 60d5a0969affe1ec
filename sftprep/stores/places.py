"""Where a dataset's inputs and tokenizer lay when it was built: remembered on the machine that built it, in the user's cache.

No dataset says so: it is the same wherever it was built.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson

from sftprep.cache import read_entry, write_entry
from sftprep.stores.kinds import scheme_of

_STANDARD_INPUT = "-"


def remember_places(
    fingerprint: str, inputs: Sequence[str], tokenizer: str, validation_input: Sequence[str] = ()
) -> None:
    """What a build was told, for builds from other folders. fingerprint: of the dataset."""
    if _STANDARD_INPUT in inputs:
        return  # it is gone
    places, held_out = (
        [each if scheme_of(each) else str(Path(each).absolute()) for each in some]
        for some in (inputs, validation_input)
    )
    place = str(Path(tokenizer).absolute()) if Path(tokenizer).is_dir() else tokenizer
    stated = {"inputs": places, "tokenizer": place, "validation_input": held_out}
    write_entry("places", fingerprint, orjson.dumps(stated))


def remembered_places(fingerprint: str) -> dict[str, Any]:
    """The options `inputs`, `validation_input` and `tokenizer` of the build that made a dataset; none where that is not known
    here."""
    return read_entry("places", fingerprint, _decoded) or {}


def _decoded(contents: bytes) -> dict[str, Any]:
    """Raises an exception of some kind for others."""
    stated = orjson.loads(contents)
    inputs = {name: list(map(str, stated[name])) for name in ("inputs", "validation_input")}
    return {**inputs, "tokenizer": str(stated["tokenizer"])}
