"""The places that hold files, by the scheme of their addresses. A new one is a room and a line here."""

from __future__ import annotations

import re
from importlib import import_module
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from sftprep.stores.types import Store

STORES: dict[str | None, str] = {  # scheme -> room that has what `Store` says
    None: "sftprep.stores.local",  # a plain path
    "spooled": "sftprep.stores.spooled",  # standard input
}


def scheme_of(place: str) -> str | None:
    """ "s3" of "s3://bucket/key", None of a path."""
    found = re.match(r"([a-z][a-z0-9+.-]*)://", place, re.IGNORECASE)
    return found[1].lower() if found else None


def store_of(place: str) -> Store:
    """The store that a path or an address of a known scheme belongs to."""
    return cast("Store", import_module(STORES[scheme_of(place)]))
