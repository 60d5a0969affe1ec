"""The package is a house: folders are floors, in the order data flows, and imports go down only."""

from __future__ import annotations

import ast
import importlib
import re
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sftprep

PACKAGE = Path(sftprep.__file__).parent
FLOORS = [  # from the roof down; `config` is a floor of one room, the other rooms beside folders are the ground
    "cli", "look", "watch", "pages", "compare", "remaking", "views", "statistics", "exports", "previews", "jobs", "reader", "batches", "config", "sets", "dataset", "layouts", "masks", "characters", "replay", "template", "tracing", "tokens",
    "jinja", "records", "containers", "stores", "workers",
]  # fmt: skip
ROOMS = {
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts): path
    for path in PACKAGE.rglob("*.py")
    if path.relative_to(PACKAGE).parts[0] != "sample"
}
TESTS = Path(__file__).parent
TESTED_ELSEWHERE = {  # rooms without a test file of their own, and why
    "containers.record": "types that test_json_text and test_columnar compare",
    "exports.kinds": "a registry: test_registries adds an export",
    "layouts.kinds": "a registry: test_registries adds a layout",
    "masks.kinds": "a registry: test_registries adds a kind of mask",
    "stores.kinds": "a registry: test_registries adds a place to store",
    "stores.types": "types that test_local compares",
    "workers.runners": "a registry: test_registries adds a way to run workers",
    "workers.worker": "types that test_local passes to and fro",
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
    assert drawing == {"look", "watch"}


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


def test_the_map_shows_the_house() -> None:
    text = (TESTS.parent / "CONTRIBUTING.md").read_text(encoding="utf-8")
    assert set(re.findall(r"<b>(\w+)</b>", text)) == {*FLOORS} - {"config"}
    places = [place for place in re.findall(r"`([\w/]+/[\w.]+)`", text) if not place.startswith("sftprep/")]
    assert len(places) > 8
    for place in places:
        assert (PACKAGE / place).exists() or (TESTS.parent / place).exists(), place
    for room in re.findall(r"`([a-z]+\.\w+)`", text):
        assert room in ROOMS or (TESTS.parent / room).exists(), room
    for command in re.findall(r"^make (\w+)|`make ([\w-]+)`", text, re.MULTILINE):
        assert f"\n{''.join(command)}:" in (TESTS.parent / "Makefile").read_text(encoding="utf-8")


def test_every_room_has_its_test_file() -> None:
    rooms = ROOMS.keys() - {"__main__"} - {room for room in ROOMS if room.endswith("__init__")}
    files = {room: TESTS.joinpath(*room.split(".")[:-1], f"test_{room.rpartition('.')[2]}.py") for room in rooms}
    assert {room for room, file in files.items() if not file.exists()} == TESTED_ELSEWHERE.keys()


@pytest.mark.parametrize("name", [name for name in FLOORS if name != "config"])
def test_a_test_file_is_named_after_its_room(name: str) -> None:
    """A second file of a room has a second idea behind its name."""
    rooms = [room.partition(".")[2] for room in ROOMS if room.startswith(f"{name}.")]
    files = [path.stem.removeprefix("test_") for path in (TESTS / name).glob("test_*.py")]
    assert files
    assert [file for file in files if not any(file == room or file.startswith(f"{room}_") for room in rooms)] == []


def test_no_module_is_long() -> None:
    """A package's room of more than 350 lines, or a test module of more than 400, holds two ideas."""
    lines = {path: len(path.read_bytes().splitlines()) for path in (*PACKAGE.rglob("*.py"), *TESTS.rglob("*.py"))}
    most = {path: 350 if path.is_relative_to(PACKAGE) else 400 for path in lines}
    assert {str(path): count for path, count in lines.items() if count > most[path]} == {}
