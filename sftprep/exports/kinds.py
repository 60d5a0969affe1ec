"""The forms a dataset can be exported to, by the name that `--to` gives them. A new one is a function and a line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from sftprep.exports.examples import Write

EXPORTS = {  # "room:function"; the function is what `Write` says
    "hf": "sftprep.exports.saved_dataset:hf",
    "trl": "sftprep.exports.saved_dataset:trl",
    "axolotl": "sftprep.exports.saved_dataset:axolotl",
    "llama-factory": "sftprep.exports.saved_dataset:llama_factory",
}


def export_to(name: str) -> Write:
    """What writes that form."""
    room, _, function = EXPORTS[name].partition(":")
    return cast("Write", getattr(import_module(room), function))
