"""Odd values at every place of a JSON value: what a file may hold that somebody has changed."""

from __future__ import annotations

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from sftprep.checksum import with_checksum
from sftprep.config import fingerprint

GONE = object()
NOT_CONTENT = {"inputs", "validation_input", "tokenizer", "tokenizer_engine"}
ODD = [GONE, None, True, -1, 7, 2**63, 1.5, "a", "", [], {}, [[]], {"a": {}}, "../../etc/passwd"]


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a JSON value."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*path, key)
        yield from places(value[key], (*path, key))


def changed(stated: dict[str, Any], path: tuple[Any, ...], odd: Any) -> bytes:
    """The object with another value at a place, under the checksum and the fingerprint that fit it."""
    changed = copy.deepcopy(stated)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    if odd is GONE:
        del parent[path[-1]]
    else:
        parent[path[-1]] = odd
    if path[0] not in ("fingerprint", "format", "version", "sftprep") and "sources" in changed:
        with suppress(Exception):
            names = ("name", "bytes", "sha256", "records")
            content = {name: value for name, value in changed["config"].items() if name not in NOT_CONTENT}
            inputs = [{**{name: each[name] for name in names}, "set": "train"} for each in changed["sources"]]
            held_out = changed["validation_sources"]
            for each in inputs[len(inputs) - held_out :]:
                each["set"] = "validation"
            changed["fingerprint"] = fingerprint(
                {"config": content, "inputs": inputs, "tokenizer": changed["tokenizer"]}
            )
    return json.dumps(with_checksum(changed)).encode()
