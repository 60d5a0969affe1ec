"""The layouts of rows, by the name that `--layout` gives them. A new one is a room and a line here."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from sftprep.layouts.types import Layout

LAYOUTS = {  # rooms that have what `Layout` says
    "padded": "sftprep.layouts.padded",
    "packed": "sftprep.layouts.packed",
    "ragged": "sftprep.layouts.ragged",
}
OVERFLOWS = (
    "truncate",
    "turns",
    "split",
    "drop",
    "error",
)  # what may become of a conversation that is longer than a row


def layout(name: str) -> Layout:
    """How conversations lie in rows of that layout."""
    return cast("Layout", import_module(LAYOUTS[name]))
