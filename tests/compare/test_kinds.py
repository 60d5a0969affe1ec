"""A way to compare is a function and a line."""

from __future__ import annotations

from pathlib import Path

import pytest

from sftprep.compare.findings import Advance, Comparison
from sftprep.compare.kinds import AGAINST, Begin, Request, compare_against


def toy(request: Request, begin: Begin, advance: Advance) -> Comparison:
    begin("looking", 3, "things")
    advance(3)
    return Comparison(str(request.folder), request.way, conversations=3, equal=3)


def test_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AGAINST, "toy", f"{__name__}:toy")
    told: list[object] = []
    found = compare_against(Request(Path("out"), "toy"), lambda *step: told.append(step), told.append)
    assert (found.b, found.differs, told) == ("toy", False, [("looking", 3, "things"), 3])
