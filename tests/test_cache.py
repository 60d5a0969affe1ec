"""The cache: entries that are whole or not there, how much is kept, and that nothing of anybody else's is touched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from sftprep import cache as cache_room
from sftprep.cache import LIMIT, Held, cache_folder, clear, held, read_entry, write_entry
from sftprep.cli.commands import main

A, B, C, D = (letter * 64 for letter in "abcd")


def read(digest: str) -> bytes | None:
    return read_entry("engines", digest, bytes)


def write(digest: str, contents: bytes = b"contents", age: int = 0) -> Path:
    """Write an entry, last used `age` seconds ago."""
    write_entry("engines", digest, contents)
    path = Path(os.environ["SFTPREP_CACHE"]) / f"engines-{digest}"
    os.utime(path, (path.stat().st_mtime - age,) * 2)
    return path


def names(cache: Path) -> list[str]:
    return sorted(path.name for path in cache.iterdir())


# -- entries --


def test_entries_are_whole_or_not_there(cache: Path) -> None:
    assert read(A) is None
    write(A, b"one\ntwo")
    write(A, b"three\n")
    write_entry("tokenizer", A, b"")
    assert read(A) == b"three\n"
    assert read_entry("tokenizer", A, bytes) == b""
    assert names(cache) == [f"engines-{A}", f"tokenizer-{A}"]


@pytest.mark.parametrize(
    "change", [lambda whole: whole[:-1], lambda _: b"", lambda _: b"{}", lambda whole: whole + b"x"]
)
@pytest.mark.usefixtures("cache")
def test_damaged_entries_count_as_missing(change: Callable[[bytes], bytes]) -> None:
    path = write(A, b"one")
    path.write_bytes(change(path.read_bytes()))
    assert read(A) is None
    write(A, b"one")
    assert read(A) == b"one"


@pytest.mark.parametrize("error", [ValueError, KeyError, AttributeError, RecursionError, MemoryError])
@pytest.mark.usefixtures("cache")
def test_entries_that_are_not_decoded_count_as_missing(error: type[Exception]) -> None:
    def refuse(_: bytes) -> Any:
        raise error

    write(A)
    assert read_entry("engines", A, refuse) is None
    assert read(A) == b"contents"


PLACES: dict[str, Callable[[Path], object]] = {
    "pipe": os.mkfifo,
    "folder": lambda path: path.mkdir(),
    "link": lambda path: path.symlink_to(write(B)),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "device": lambda path: path.symlink_to("/dev/zero"),
    "huge file": lambda path: write(A) and os.truncate(path, LIMIT + 1),
}


@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
def test_what_is_no_regular_file_is_not_waited_for(cache: Path, place: Callable[[Path], object]) -> None:
    cache.mkdir()
    place(cache / f"engines-{A}")
    code = f"from sftprep.cache import *; print(read_entry('engines', '{A}', bytes))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "None\n"
    write_entry("engines", A, b"anew")
    assert read(A) == (None if (cache / f"engines-{A}").is_dir() else b"anew")
    assert not list(cache.glob(".*"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
@pytest.mark.usefixtures("cache")
def test_an_entry_without_permission_is_made_anew() -> None:
    write(A).chmod(0)
    assert read(A) is None
    write(A)
    assert read(A) == b"contents"


def test_a_folder_that_cannot_be_made_is_done_without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SFTPREP_CACHE", str(tmp_path / "file" / "cache"))
    write_entry("engines", A, b"")
    assert read(A) is None


def test_importing_it_costs_nothing() -> None:
    code = "import sys, sftprep.cache; print(sorted({'numpy', 'orjson', 'click'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


# -- how much is kept --


def test_what_was_not_used_for_longest_goes_first(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_room, "LIMIT", 3 * (65 + 100))
    write(A, bytes(100), age=30)
    write(B, bytes(100), age=20)
    write(C, bytes(100), age=10)
    assert names(cache) == [f"engines-{each}" for each in (A, B, C)]
    assert read(A) == bytes(100)  # from now on the one used last
    write(D, bytes(100))
    assert names(cache) == [f"engines-{each}" for each in (A, C, D)]
    write(B, bytes(200))
    assert names(cache) == [f"engines-{each}" for each in (B, D)]
    write_entry("engines", C, bytes(500))  # alone too large
    assert names(cache) == [f"engines-{each}" for each in (B, D)]
    write(C, bytes(430))
    assert names(cache) == [f"engines-{C}"]


def test_two_hundred_megabytes_are_kept(cache: Path) -> None:
    for digest, age in ((A, 30), (B, 20), (C, 10)):
        os.truncate(write(digest), 90_000_000)
        os.utime(cache / f"engines-{digest}", (1e9 - age,) * 2)
    write(D)
    assert names(cache) == [f"engines-{each}" for each in (B, C, D)]
    assert held() == Held(3, 180_000_000 + 65 + len(b"contents"))


def test_only_what_it_made_itself_is_counted_and_removed(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(A, age=30)
    (cache / f".engines-{A}.k2_x9abc.new").write_bytes(bytes(1000))  # of a write that was killed
    strangers = [
        "notes.txt",
        ".abcd1234.new",
        f"tokenizer-{A}.bak",
        f"Tokenizer-{A}",
        f"tokenizer-{A[1:]}",
        f"tokenizer-{A.upper()}",
        f"my-tokenizer-{A}",
        f"other-{A}",
        f"engines-{A}\n",
    ]
    for name in strangers:
        (cache / name).write_bytes(bytes(1000))
    (cache / f"tokenizer-{B}").mkdir()
    (cache / f"tokenizer-{B}" / f"tokenizer-{A}").write_bytes(bytes(1000))
    (cache / f"tokenizer-{C}").symlink_to("notes.txt")
    os.mkfifo(cache / f"tokenizer-{D}")
    kept = {*strangers, *(f"tokenizer-{each}" for each in (B, C, D))}
    assert held() == Held(2, 1000 + 65 + len(b"contents"))
    monkeypatch.setattr(cache_room, "LIMIT", 100)
    write(B)
    assert {*names(cache)} == kept | {f"engines-{B}"}
    assert clear() == Held(1, 65 + len(b"contents"))
    assert {*names(cache)} == kept
    assert (cache / f"tokenizer-{B}" / f"tokenizer-{A}").exists()
    assert clear() == held() == Held(0, 0)


def test_one_that_cannot_be_removed_does_not_keep_the_others(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    refused = write(A, age=10)
    write(B)
    unlink = Path.unlink

    def refuse(path: Path, missing_ok: bool = False) -> None:
        if path == refused:
            raise PermissionError(13, "Permission denied", str(path))
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(PermissionError):
        clear()
    assert names(cache) == [f"engines-{A}"]
    monkeypatch.setattr(cache_room, "LIMIT", 2 * (65 + len(b"contents")))
    write(B, age=5)
    write(C)
    assert names(cache) == [f"engines-{each}" for each in (A, C)]


# -- where it is, and the command --


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", "/home/someone")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    monkeypatch.setenv("SFTPREP_CACHE", "here")
    assert cache_folder() == tmp_path / "here"
    monkeypatch.delenv("SFTPREP_CACHE")
    assert cache_folder() == Path("/xdg/sftprep")
    for ignored in ("relative", ""):
        monkeypatch.setenv("XDG_CACHE_HOME", ignored)
        assert cache_folder() == Path("/home/someone/.cache/sftprep")
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder() == Path("/home/someone/.cache/sftprep")


def test_the_command_says_where_and_how_large(cache: Path) -> None:
    ended = CliRunner().invoke(main, ["cache"])
    assert ended.output == f"{cache}: 0 entries, 0.0 MB of at most 200\n"
    assert not cache.exists()
    write(A, bytes(1_300_000))
    write(B)
    ended = CliRunner().invoke(main, ["cache"])
    assert ended.output == f"{cache}: 2 entries, 1.3 MB of at most 200\n"
    ended = CliRunner().invoke(main, ["cache", "--json"])
    size = 1_300_000 + len(b"contents") + 2 * 65
    stated = {"folder": str(cache), "entries": 2, "bytes": size, "limit": 200_000_000, "cleared": False}
    assert json.loads(ended.output) == stated


def test_the_command_empties_it(cache: Path) -> None:
    write(A, bytes(1_300_000))
    (cache / "notes.txt").write_text("mine")
    ended = CliRunner().invoke(main, ["cache", "clear"])
    assert (ended.exit_code, ended.output) == (0, f"{cache}: 1 entries, 1.3 MB removed\n")
    assert names(cache) == ["notes.txt"]
    assert json.loads(CliRunner().invoke(main, ["cache", "clear", "--json"]).output)["entries"] == 0
    assert CliRunner().invoke(main, ["cache", "delete"]).exit_code == 2


def test_the_command_where_there_is_no_cache(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.write_text("")
    ended = CliRunner().invoke(main, ["cache"])
    assert (ended.exit_code, ended.output) == (1, f"Error: {cache}: Not a directory\n")

    def no_home() -> Path:
        raise RuntimeError

    monkeypatch.delenv("SFTPREP_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    ended = CliRunner().invoke(main, ["cache"])
    assert (ended.exit_code, ended.output.startswith("no home folder")) == (0, True)
    assert json.loads(CliRunner().invoke(main, ["cache", "--json"]).output)["folder"] is None
