"""Files, folders and globs -> the files to read, in order."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sftprep.containers.compressed import CODECS
from sftprep.containers.kinds import KINDS, suffix_of
from sftprep.errors import InputError
from sftprep.stores.kinds import store_of


@dataclass(frozen=True, slots=True)
class Source:
    """One input file."""

    path: str  # absolute or an address, for workers
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
    folders = [PurePosixPath(path).parts[:-1] for path in search.paths]
    shared = len(os.path.commonprefix(folders))  # noqa: RUF071 - of parts, not of characters
    return FoundInputs(tuple(_source(path, shared) for path in search.paths), passed_over)


class _Search:
    """Collects the files of one input after another."""

    def __init__(self) -> None:
        self.paths: list[str] = []  # of files of a known suffix
        self._searched: set[str] = set()  # folders
        self._linked: dict[str, str] = {}  # folders that were not -> where they lead
        self._others: dict[str, set[str]] = {}  # paths of all other files, by kind

    def passed_over(self) -> tuple[PassedOver, ...]:
        others = {
            kind: paths.difference(self.paths) for kind, paths in self._others.items()
        }  # hidden ones may be named
        others[LINKED] = {path for path, target in self._linked.items() if target not in self._searched}
        counts = []
        for kind, paths in sorted(others.items()):
            if paths:
                example = os.fsencode(min(paths)).decode("utf-8", "backslashreplace")
                counts.append(PassedOver(kind, len(paths), example))
        return tuple(counts)

    def add(self, given: str) -> None:
        """Add a file, a folder or a glob, with something to read in it."""
        found = store_of(given).find(given)
        known = [path for path in found.files if suffix_of(path)]
        if not known:
            if found.what == "is":
                raise InputError(
                    f"{given}: unknown kind of file; expected {', '.join(KINDS)}, plain or with {', '.join(CODECS)}"
                )
            raise InputError(f"{given}: {found.what} no {', '.join(KINDS)} file")
        self.paths += known
        self._searched.update(found.searched)
        self._linked |= found.linked
        for path in {*found.files, *found.hidden}.difference(known):
            self._others.setdefault(_kind(PurePosixPath(path).name), set()).add(path)


def _kind(name: str) -> str:
    """What a file that is not read is counted as."""
    if name.startswith("."):
        return HIDDEN
    path = Path(name.lower())
    inner = path.with_suffix("").suffix if path.suffix in CODECS else ""
    return "".join(suffix for suffix in (inner, path.suffix) if _WORD.fullmatch(suffix)) or NO_SUFFIX


def _source(path: str, shared: int) -> Source:
    """shared: how many parts of its path all inputs begin with."""
    name = "/".join(PurePosixPath(path).parts[shared:])
    try:
        name.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{path!r}: the name is not UTF-8 and cannot be written into a dataset; rename it") from error
    try:
        return Source(path, name, store_of(path).size(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
