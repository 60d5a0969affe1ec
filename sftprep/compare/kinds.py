"""Whose way a dataset may be compared with. A new one is a room and a line here. Light, since the command line names them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sftprep.compare.findings import Comparison

MOST = 1000  # conversations that are compared, unless more are asked for


@dataclass(frozen=True, slots=True)
class Request:
    """What is compared."""

    folder: Path
    way: str  # of AGAINST
    tokenizer: str | None = None  # where it is remembered, unless given
    inputs: tuple[str, ...] = ()  # where they are remembered, unless given
    limit: int | None = MOST  # conversations, spread over the dataset; None: all
    few: int = 3  # examples of each kind
    workers: int = 1  # processes, where there is work for several


Begin = Callable[[str, int, str], None]  # is told that a step begins, and how much of which unit `Advance` will count

AGAINST = {  # name -> "room:function" that gets a Request, Begin and Advance
    "hf": "sftprep.compare.transformers_way:compare_with_transformers",
    "minimind": "sftprep.compare.minimind_way:compare_with_minimind",
    "minimind-v5": "sftprep.compare.minimind_way:compare_with_minimind",
}


def compare_against(request: Request, begin: Begin, advance: Callable[[int], None]) -> Comparison:
    """What differs between a dataset and what another program makes of the same. Raises SftprepError."""
    room, _, function = AGAINST[request.way].partition(":")
    compare: Any = getattr(import_module(room), function)
    comparison: Comparison = compare(request, begin, advance)
    return comparison
