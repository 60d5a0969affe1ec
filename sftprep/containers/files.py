"""Files, folders and globs -> the files to read, in order."""

from __future__ import annotations

import json
import logging
import os
import re
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from sftprep.containers.compressed import CODECS
from sftprep.containers.kinds import COLUMNAR, KINDS, suffix_of
from sftprep.errors import InputError
from sftprep.stores.kinds import store_of
from sftprep.visible import visible


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


_log = logging.getLogger(__name__)
STANDARD_INPUT = "-"
HIDDEN = "hidden"  # files and folders with a dot before their name; a folder counts once and is not looked into
LINKED = "linked folder"  # in a folder that is searched: it might lead back into it
CACHED = "cache of datasets"  # beside the files of a saved dataset
NO_SUFFIX = "no suffix"  # or one that is a mere number, or no word
# What folders of Hugging Face `datasets` hold beside records: `save_to_disk` writes three of them, the Hub has the last.
_STATE = "state.json"
_DESCRIPTIONS = frozenset({_STATE, "dataset_dict.json", "dataset_info.json", "dataset_infos.json"})
_MOST_STATE = 16 << 20  # bytes
_WORD = re.compile(r"\.(?!\d+$)[\w~+-]{1,16}")


def find_sources(inputs: Sequence[str], *, strict: bool = False, spooled: Source | None = None) -> FoundInputs:
    """Files, folders and globs -> the files to read, in the order given; a folder's and a glob's files are sorted.

    Folders are searched with their subfolders for files of a known suffix; other and hidden files are passed over and
    counted, and so are other files that a glob finds. Of a folder that `datasets` saved, its files of records are read.
    strict: they are refused, but for hidden ones. spooled: what was read from standard input, in place of the input "-".
    Names depend on the set of files alone, not on the working directory or on how the files were named.
    Raises InputError for what is missing, unreadable, empty, of an unknown suffix, or given twice.
    """
    search = _Search()
    for given in inputs:
        if given == STANDARD_INPUT:
            search.paths.append(_once(inputs, spooled).path)
        else:
            search.add(given)
    search.say_splits()
    if not search.paths:
        raise InputError(f"no input; give files, folders or globs of {', '.join(KINDS)}, plain or compressed")
    seen: set[str] = set()
    for path in search.paths:
        if path in seen:
            raise InputError(f"{path}: given twice; every file may be read once")
        seen.add(path)
    passed_over = search.passed_over()
    refused = [
        f"{each.count} {each.kind} (such as {each.example})"
        for each in passed_over
        if each.kind not in (HIDDEN, CACHED)
    ]
    if strict and refused:
        raise InputError(f"files that are not read: {', '.join(refused)}; name the files to read, or drop --strict")
    here = [path for path in search.paths if spooled is None or path != spooled.path]
    folders = [PurePosixPath(path).parts[:-1] for path in here]
    shared = len(os.path.commonprefix(folders))  # noqa: RUF071 - of parts, not of characters
    sources = [spooled if spooled and path == spooled.path else _source(path, shared) for path in search.paths]
    if spooled and sum(source.name == spooled.name for source in sources) > 1:
        raise InputError(f"{spooled.name}: the name of a file and of standard input; give --input-name another one")
    return FoundInputs(tuple(sources), passed_over)


def _once(inputs: Sequence[str], spooled: Source | None) -> Source:
    """Standard input. Raises InputError where it is given twice, or nothing was read from it."""
    if inputs.count(STANDARD_INPUT) > 1:
        raise InputError("-: given twice; standard input can be read once only")
    if spooled is None:
        raise InputError("-: standard input can be read once only, by `sftprep build`; here, give a file")
    return spooled


class _Search:
    """Collects the files of one input after another."""

    def __init__(self) -> None:
        self.paths: list[str] = []  # of files of a known suffix
        self._searched: set[str] = set()  # folders
        self._linked: dict[str, str] = {}  # folders that were not -> where they lead
        self._others: dict[str, set[str]] = {}  # paths of all other files, by kind
        self._saved: list[PurePosixPath] = []  # folders of saved datasets

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
        files, cached = (found.files, set()) if found.what == "is" else self._records_in(found.files)
        known = [path for path in files if suffix_of(path)]
        if not known:
            if found.what == "is":
                raise InputError(
                    f"{given}: unknown kind of file; expected {', '.join(KINDS)}, plain or with {', '.join(CODECS)}"
                )
            raise InputError(f"{given}: {found.what} no {', '.join(KINDS)} file")
        self.paths += known
        self._searched.update(found.searched)
        self._linked |= found.linked
        if cached:
            self._others.setdefault(CACHED, set()).update(cached)
        for path in {*files, *found.hidden}.difference(known):
            self._others.setdefault(_kind(PurePosixPath(path).name), set()).add(path)

    def _records_in(self, files: Sequence[str]) -> tuple[list[str], set[str]]:
        """Files without those that describe a saved dataset; and its files that are no part of it."""
        columnar = {folder for path in files if suffix_of(path) in COLUMNAR for folder in PurePosixPath(path).parents}
        cached: set[str] = set()
        kept = []
        for file in files:
            path = PurePosixPath(file)
            if path.name not in _DESCRIPTIONS or path.parent not in columnar:
                kept.append(file)
            elif path.name == _STATE and (own := _files_of_state(file)) is not None:
                self._saved.append(path.parent)
                beside = {each for each in files if PurePosixPath(each).parent == path.parent}
                cached |= {
                    each for each in beside if suffix_of(each) in COLUMNAR and PurePosixPath(each).name not in own
                }
        return [path for path in kept if path not in cached], cached

    def say_splits(self) -> None:
        """Say which splits of a saved dictionary of datasets are read."""
        for folder in dict.fromkeys(each.parent for each in self._saved):
            splits = [each.name for each in self._saved if each.parent == folder]
            if len(splits) > 1:
                one = visible(str(folder / splits[-1]))
                _log.info("all splits are read: %s; name a folder to read one, such as %s", ", ".join(splits), one)


def _files_of_state(path: str) -> list[str] | None:
    """The names of a saved dataset's files, in order, as its state.json has them; None where it has none."""
    try:
        with closing(store_of(path).open_file(path)) as file:
            return [each["filename"] for each in json.loads(file.read(_MOST_STATE))["_data_files"]]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return None


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
