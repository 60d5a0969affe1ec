"""The package is a house: folders are floors, in the order data flows, and imports go down only."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sftprep

PACKAGE = Path(sftprep.__file__).parent
FLOORS = [  # from the roof down; `config` is a floor of one room, the other rooms beside folders are the ground
    "cli", "look", "exports", "jobs", "reader", "batches", "config", "dataset", "layouts", "masks", "characters", "replay", "template", "tokens",
    "jinja", "records", "stores", "workers",
]  # fmt: skip
ROOMS = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] != "sample"
}


def imports(path: Path) -> Iterator[str]:
    """Rooms and libraries that a room imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{each.name}" for each in node.names)


def neighbours(room: str) -> set[str]:
    """The rooms that a room imports."""
    inside = {name.removeprefix("sftprep.") for name in imports(ROOMS[room]) if name.startswith("sftprep.")}
    return inside & ROOMS.keys() - {room}


def floor(room: str) -> int:
    """The roof is 0."""
    name = room.partition(".")[0]
    return FLOORS.index(name) if name in FLOORS else len(FLOORS)


def test_every_folder_is_a_floor() -> None:
    assert {path.parent.name for name, path in ROOMS.items() if "." in name} == {*FLOORS} - {"config"}


def test_imports_go_down() -> None:
    """The program's doors, `sftprep` and `python -m sftprep`, may name anything."""
    up = [(room, each) for room in ROOMS for each in neighbours(room) if floor(each) < floor(room)]
    assert [(room, each) for room, each in up if room not in ("__init__", "__main__")] == []


def test_there_is_no_circle() -> None:
    order = list(TopologicalSorter({room: neighbours(room) - {"__init__"} for room in ROOMS}).static_order())
    assert order.index("errors") < order.index("cli.commands")


@pytest.mark.parametrize("name", [name for name in FLOORS if name != "config"])
def test_a_folder_says_what_it_does_and_has_few_rooms(name: str) -> None:
    said = importlib.import_module(f"sftprep.{name}").__doc__ or ""
    assert said.startswith("In: ")
    assert all(word in said for word in ("Does: ", "Out: ", "To others: "))
    rooms = [path.stem for path in (PACKAGE / name).glob("*.py") if path.stem != "__init__"]
    assert 1 <= len(rooms) <= 9
    for named in ast.walk(ast.parse((PACKAGE / name / "__init__.py").read_text())):
        if isinstance(named, ast.ImportFrom):
            assert name == "reader"  # its face; the others are asked for by room


def test_only_what_people_look_at_draws() -> None:
    drawing = {
        room.partition(".")[0] for room, path in ROOMS.items() if any(each.startswith("rich") for each in imports(path))
    }
    assert drawing == {"look"}


def test_the_face_is_light() -> None:
    code = (
        "import sys, sftprep; print(*(name for name in ('numpy', 'click', 'orjson', 'jinja2') if name in sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
    for name in sftprep.__all__:
        assert getattr(sftprep, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = sftprep.nothing
