"""Files, folders and globs -> the files to read, in order."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sftprep.errors import InputError
from sftprep.records.compressed import CODECS
from sftprep.records.kinds import KINDS, suffix_of


@dataclass(frozen=True, slots=True)
class Source:
    """One input file."""

    path: str  # absolute, for workers
    name: str  # written into the dataset: relative to the folder that all inputs share, with "/" on every system
    bytes: int  # on disk


@dataclass(frozen=True, slots=True)
class PassedOver:
    """Files of one kind, in the folders and globs given, that are not read."""

    kind: str  # the suffix, such as ".parquet" or ".csv.gz", or one of the names below
    count: int
    example: str  # the path of the first by name, fit to be printed


@dataclass(frozen=True, slots=True)
class FoundInputs:
    """All that the inputs name."""

    sources: tuple[Source, ...]  # in the order of reading
    passed_over: tuple[PassedOver, ...]  # by kind


HIDDEN = "hidden"  # files and folders with a dot before their name; a folder counts once and is not looked into
LINKED = "linked folder"  # in a folder that is searched: it might lead back into it
NO_SUFFIX = "no suffix"  # or one that is a mere number, or no word
_WORD = re.compile(r"\.(?!\d+$)[\w~+-]{1,16}")


def find_sources(inputs: Sequence[str], *, strict: bool = False) -> FoundInputs:
    """Files, folders and globs -> the files to read, in the order given; a folder's and a glob's files are sorted.

    Folders are searched with their subfolders for files of a known suffix; other and hidden files are passed over and
    counted, and so are other files that a glob finds. strict: they are refused, but for hidden ones.
    Names depend on the set of files alone, not on the working directory or on how the files were named.
    Raises InputError for what is missing, unreadable, empty, of an unknown suffix, or given twice.
    """
    search = _Search()
    for given in inputs:
        search.add(given)
    if not search.paths:
        raise InputError("no input; give files, folders or globs of .jsonl, .ndjson or .json, plain or compressed")
    seen: set[str] = set()
    for path in search.paths:
        if path in seen:
            raise InputError(f"{path}: given twice; every file may be read once")
        seen.add(path)
    passed_over = search.passed_over()
    refused = [f"{each.count} {each.kind} (such as {each.example})" for each in passed_over if each.kind != HIDDEN]
    if strict and refused:
        raise InputError(f"files that are not read: {', '.join(refused)}; name the files to read, or drop --strict")
    root = Path(os.path.commonpath([Path(path).parent for path in search.paths]))
    return FoundInputs(tuple(_source(path, root) for path in search.paths), passed_over)


class _Search:
    """Collects the files of one input after another."""

    def __init__(self) -> None:
        self.paths: list[str] = []  # absolute, of files of a known suffix
        self._folders: set[str] = set()  # absolute, that were searched
        self._others: dict[str, set[str]] = {}  # absolute paths of all others, by kind

    def passed_over(self) -> tuple[PassedOver, ...]:
        counts = []
        for kind in sorted(self._others):
            paths = self._others[kind].difference(self.paths)  # a hidden file may be named, and so may a linked folder
            if kind == LINKED:
                paths = {path for path in paths if os.path.realpath(path) not in self._folders}
            if paths:
                example = os.fsencode(min(paths)).decode("utf-8", "backslashreplace")
                counts.append(PassedOver(kind, len(paths), example))
        return tuple(counts)

    def add(self, given: str) -> None:
        """Add a file, a folder or a glob, with something to read in it."""
        before = len(self.paths)
        exists = os.path.exists(given)  # noqa: PTH110 - Path.exists raises for odd names
        if exists or not glob.has_magic(given):
            if not exists:
                raise InputError(f"{given!r}: no such file or folder")
            path = _absolute(given)
            if not path.is_dir() and suffix_of(path.name) is None:
                raise InputError(
                    f"{given}: unknown kind of file; expected {', '.join(KINDS)}, plain or with {', '.join(CODECS)}"
                )
            self._expand(path)
            what = "holds"
        else:
            found = glob.iglob(given, recursive=True)  # noqa: PTH207 - Path.glob takes no absolute patterns
            for match in sorted(found, key=lambda match: Path(match).parts):
                self._expand(_absolute(match))
            what = "matches"
        if len(self.paths) == before:
            raise InputError(f"{given}: {what} no {', '.join(KINDS)} file")

    def _expand(self, path: Path) -> None:
        if path.is_dir():
            self._search(path)
        elif suffix_of(path.name):
            self.paths.append(str(path))
        else:
            self._pass_over(_kind(path.name), path)

    def _search(self, path: Path) -> None:
        found: list[Path] = []
        for folder, subfolders, files in os.walk(path, onerror=_refuse):
            self._folders.add(folder)
            for name in list(subfolders):
                place = Path(folder, name)
                if name.startswith(".") or place.is_symlink():
                    subfolders.remove(name)
                    self._pass_over(HIDDEN if name.startswith(".") else LINKED, place)
            for name in files:
                if not name.startswith(".") and suffix_of(name):
                    found.append(Path(folder, name))
                else:
                    self._pass_over(_kind(name), Path(folder, name))
        self.paths += [str(file) for file in sorted(found, key=lambda file: file.parts)]

    def _pass_over(self, kind: str, path: Path) -> None:
        self._others.setdefault(kind, set()).add(str(path))


def _absolute(given: str) -> Path:
    """Without links of folders. A file's own name has the suffix, the target of a link (in a content-addressed store, say)
    may not. Never normpath(): `link/../x` is beside the link's target."""
    path = Path(given)
    return path.resolve() if path.is_dir() else path.parent.resolve() / path.name


def _kind(name: str) -> str:
    """What a file that is not read is counted as."""
    if name.startswith("."):
        return HIDDEN
    path = Path(name.lower())
    inner = path.with_suffix("").suffix if path.suffix in CODECS else ""
    return "".join(suffix for suffix in (inner, path.suffix) if _WORD.fullmatch(suffix)) or NO_SUFFIX


def _refuse(error: OSError) -> None:
    raise InputError(f"{error.filename}: cannot be listed: {error.strerror}") from error


def _source(path: str, root: Path) -> Source:
    name = Path(path).relative_to(root).as_posix()
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{path!r}: the name is not UTF-8 and cannot be written into a dataset; rename it") from error
    if not Path(path).is_file():
        raise InputError(f"{path}: not a regular file")
    try:
        with Path(path).open("rb") as file:
            return Source(path, name, os.fstat(file.fileno()).st_size)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
