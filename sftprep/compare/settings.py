"""What two manifests state differently: options, programs, inputs, totals."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from typing import Any

from sftprep.compare.findings import Change
from sftprep.dataset.manifest import Manifest

_LAID_OUT = ("sftprep", "layout", "width", "dtype", "pad_id")
_SHOWN_HASH = 12  # hex digits


def changed_options(a: Manifest, b: Manifest) -> list[Change]:
    """Options, tokenizer, versions, form of the rows, and inputs, as far as they differ."""
    return [
        *_changes(_options(a), _options(b)),
        *_changes(
            *({f"tokenizer {name}": _short(name, value) for name, value in each.tokenizer.items()} for each in (a, b))
        ),
        *_changes(*({name: getattr(each, name) for name in _LAID_OUT} for each in (a, b))),
        *_changes(*({f"input {entry.name}": entry.sha256[:_SHOWN_HASH] for entry in each.inputs} for each in (a, b))),
    ]


def changed_totals(a: Manifest, b: Manifest) -> list[Change]:
    """Counts that differ; what one of them does not count is 0."""
    return [Change(each.name, each.a or 0, each.b or 0) for each in _changes(a.totals, b.totals) if each.a or each.b]


def _options(manifest: Manifest) -> dict[str, Any]:
    """The options, without texts that no line can hold."""
    template = manifest.config.get("chat_template")
    shown = template and f"sha256 {hashlib.sha256(str(template).encode()).hexdigest()[:_SHOWN_HASH]}"
    return {name: shown if name == "chat_template" else value for name, value in manifest.config.items()}


def _short(name: str, value: Any) -> Any:
    return str(value)[:_SHOWN_HASH] if name.endswith("sha256") else value


def _changes(a: Mapping[str, Any], b: Mapping[str, Any]) -> Iterator[Change]:
    for name in dict.fromkeys([*a, *b]):
        if a.get(name) != b.get(name):
            yield Change(name, a.get(name), b.get(name))
