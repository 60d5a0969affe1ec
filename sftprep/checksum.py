"""JSON that says so when it was changed: an object with the sha256 of its other keys under `checksum`.

The hash is over the object's one compact spelling with sorted keys, so white space may differ and nothing else. It tells
of damage, not of who wrote it: so what is read is checked against the types of what it becomes.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any

import msgspec

Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Hash = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]  # hex sha256


def with_checksum(stated: dict[str, Any]) -> dict[str, Any]:
    """The object with its checksum as the first key."""
    return {"checksum": _checksum(stated), **stated}


def without_checksum(data: bytes) -> dict[str, Any]:
    """The object in these bytes, without its checksum. Raises ValueError where it is none, or was changed."""
    stated = json.loads(data)
    if type(stated) is not dict or stated.pop("checksum", None) != _checksum(stated):
        raise ValueError("its checksum does not fit")
    return stated


def _checksum(stated: dict[str, Any]) -> str:
    text = json.dumps(stated, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()
