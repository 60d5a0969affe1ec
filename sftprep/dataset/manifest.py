"""The manifest of a dataset: written last, read first, and trusted in nothing.

A manifest carries the sha256 of its own bytes without the line that states it, so that

    grep -v '^ "checksum"' manifest.json | sha256sum

gives the checksum. A file name in it is one of a fixed few forms, so no manifest leads out of its folder. Top-level
keys that this version does not know are passed over.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Collection, Mapping
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin, get_type_hints

import numpy as np
import numpy.typing as npt

from sftprep import FORMAT_VERSION
from sftprep.dataset.safe_open import open_array, open_file
from sftprep.errors import ConfigError, DatasetError
from sftprep.layouts.kinds import LAYOUTS, layout

MANIFEST = "manifest.json"
REJECTS = "rejects.jsonl"
FORMAT = "sftprep"
VERSION = FORMAT_VERSION
DTYPES = {"uint16": "<u2", "uint32": "<u4"}
LARGEST_ID = {"uint16": 2**16 - 1, "uint32": 2**32 - 1}
SETS = {"train": "shard", "validation": "validation"}  # with what the names of a set's shards begin
SET_TOTALS = ("conversations", "examples", "rows", "tokens", "trained_tokens", "truncated")  # what a set holds
TOTALS = ("records", "conversations", "rows", "tokens", "trained_tokens", "truncated", "dropped", "rejected")
LARGEST_MANIFEST = 128 << 20  # bytes; 100,000 shards take 75 MB
_LARGEST_INT = 2**63 - 1
_HASH = re.compile(r"[0-9a-f]{64}")
_MISSING = object()
_CALLED = {str: "a string", int: "a whole number", list: "a list", dict: "an object"}
_CHECKSUM_LINE = re.compile(rb'^ "checksum": "([0-9a-f]{64})",\n', re.MULTILINE)


Count = Annotated[int, range(_LARGEST_INT + 1)]
Positive = Annotated[int, range(1, _LARGEST_INT + 1)]
Hash = Annotated[str, _HASH]


@dataclass(frozen=True, slots=True)
class _Head:
    """What any manifest begins with, of whatever version."""

    format: str
    version: Count


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size in bytes and hex sha256 of one file of the dataset."""

    bytes: Count
    sha256: Hash


@dataclass(frozen=True, slots=True)
class InputEntry:
    """One input that was read: its name as given, size in bytes, hex sha256, and how many records it held."""

    name: str
    bytes: Count
    sha256: Hash
    records: Count
    set: Annotated[str, SETS] = "train"  # "validation": all that is used of it is in that set


@dataclass(frozen=True, slots=True)
class ArrayForm:
    """What an array file has to be: shape, and the dtypes it may have, as .npy headers spell them."""

    shape: tuple[int, ...]
    dtypes: tuple[str, ...]


RowArrays = tuple[npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[Any], npt.NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard: X, Y and mask of `rows` rows, and `segments` conversations in them, of `tokens` ids together."""

    name: str
    rows: Positive
    segments: Positive
    tokens: Positive
    set: Annotated[str, SETS] = "train"

    @property
    def provenance(self) -> str:
        """Name of the file that says where each segment came from."""
        return f"{self.name}.provenance.parquet"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a dataset holds and where it came from. `dtype` is that of X and Y."""

    sftprep: str  # version of the program that wrote it
    fingerprint: Hash  # over all that decides the bytes
    config: Mapping[str, Any]  # the options that decide the bytes
    layout: Annotated[str, LAYOUTS]
    width: Count  # of rows, in (X, Y) pairs; 0 where they have none: in `ragged`
    dtype: Annotated[str, DTYPES]
    pad_id: Count
    tokenizer: Mapping[str, Any]
    inputs: tuple[InputEntry, ...]
    totals: Mapping[str, Count]  # at least TOTALS
    sets: Mapping[str, Mapping[str, Count]]  # of SETS those asked for, each with what it holds: SET_TOTALS
    shards: tuple[ShardEntry, ...]  # set by set
    files: Mapping[str, FileEntry]
    ignored_keys: Mapping[str, Count] = field(default_factory=dict)  # of records; how many have each
    message_keys: Mapping[str, Count] = field(
        default_factory=dict
    )  # passed on to the template; how many messages have each

    def to_bytes(self) -> bytes:
        """The file: ASCII JSON, sorted keys, indent 1, trailing newline, with the checksum as its first key."""
        stated = {"format": FORMAT, "version": VERSION, **asdict(self)}
        text = json.dumps(stated, sort_keys=True, indent=1, allow_nan=False) + "\n"
        body = text.encode("ascii")
        line = f' "checksum": "{hashlib.sha256(body).hexdigest()}",\n'.encode()
        return body[:2] + line + body[2:]

    def shards_of(self, name: str, folder: Path) -> tuple[ShardEntry, ...]:
        """The shards of a set. Raises ConfigError, which names `folder`, where it is not there, or has no row."""
        shards = tuple(shard for shard in self.shards if shard.set == name)
        if not shards and name != "train":
            there = " and ".join({"train": 0, **dict.fromkeys(shard.set for shard in self.shards)})
            empty = " with a row in it" if name in self.sets else ""
            raise ConfigError(f"{folder}: no set {name!r}{empty}; there is {there}")
        return shards

    def arrays(self, shard: ShardEntry) -> dict[str, ArrayForm]:
        """File names of a shard's arrays, with the form of each: X, Y and mask as the layout has them, then segments."""
        shapes = {**layout(self.layout).shapes(shard.rows, shard.tokens, self.width), "segments": (shard.segments, 3)}
        dtypes = {"mask": ("|b1", "<f4"), "segments": ("<i8",)}
        ids = (DTYPES[self.dtype],)
        return {f"{shard.name}.{kind}.npy": ArrayForm(shape, dtypes.get(kind, ids)) for kind, shape in shapes.items()}


def form_of(manifest: Manifest) -> str:
    """What its rows are, in words."""
    wide = f"{manifest.width:,} wide" if manifest.width else "each as long as its conversation"
    return wide if manifest.layout == "padded" else f"{manifest.layout}, {wide}"


def open_rows(folder: Path, manifest: Manifest, shard: ShardEntry) -> RowArrays:
    """A shard's X, Y, mask, with two axes whatever the layout, and segments, mapped: `X[row, start : start + length]` is a
    segment's. Raises DatasetError, naming the file, where one is another than the manifest says."""
    arrays = {
        name.split(".")[-2]: open_array(folder / name, manifest.files[name].bytes, form.shape, form.dtypes)
        for name, form in manifest.arrays(shard).items()
    }
    return *layout(manifest.layout).as_rows(arrays), arrays["segments"]


def shard_name(number: int, of: str = "train") -> str:
    """The stem of the files of a set's shard: shard-00017."""
    return f"{SETS[of]}-{number:05d}"


def set_of(shard: str) -> str:
    """The set that a shard is of, by its name."""
    return next(name for name, start in SETS.items() if shard.startswith(f"{start}-"))


def load_manifest(folder: Path) -> Manifest:
    """Read and check `folder`/manifest.json. Opens no other file.

    Raises DatasetError for whatever is not a manifest of this version, StorageError where it cannot be read.
    """
    path = folder / MANIFEST
    with open_file(path) as file:
        data = file.read(LARGEST_MANIFEST + 1)
    try:
        return parse_manifest(data)
    except DatasetError as error:
        raise DatasetError(f"{path}: {error}") from None


def parse_manifest(data: bytes) -> Manifest:
    """Check a manifest's bytes, which may be anything. Raises DatasetError, saying which key is wrong."""
    if len(data) > LARGEST_MANIFEST:
        raise DatasetError(f"larger than {LARGEST_MANIFEST:,} bytes")
    stated = _parse_json(data)
    head: _Head = _read(_Head, stated)
    if head.format != FORMAT:
        raise DatasetError(f"format {head.format[:40]!r}; expected {FORMAT!r}")
    if head.version != VERSION:
        raise DatasetError(f"format version {head.version}; this sftprep reads version {VERSION}")
    _check_checksum(data)
    manifest: Manifest = _read(Manifest, stated)
    for name in TOTALS:
        _read(Count, manifest.totals.get(name, _MISSING), _below("'totals'", name))
    _check_sets(manifest)
    _check_shards(manifest)
    return manifest


def _parse_json(data: bytes) -> Any:
    try:
        return json.loads(data.decode("ascii"), parse_constant=_refuse_constant, object_pairs_hook=_unique)
    except UnicodeDecodeError:
        raise DatasetError("holds bytes that are not ASCII") from None
    except RecursionError:
        raise DatasetError("nested too deeply") from None
    except ValueError as error:  # JSONDecodeError, or an integer of more digits than Python converts
        raise DatasetError(f"not JSON ({error})") from None


def _refuse_constant(name: str) -> None:
    raise DatasetError(f"holds {name}, which is not JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise DatasetError("holds a key twice in one object")
    return fields


def _check_checksum(data: bytes) -> None:
    # Lines of nested objects start with two spaces or more, and strings hold no raw newline: the match is top level.
    stated = _CHECKSUM_LINE.search(data)
    if stated is None:
        raise DatasetError("no line with its checksum")
    body = data[: stated.start()] + data[stated.end() :]
    if hashlib.sha256(body).hexdigest().encode() != stated[1]:
        raise DatasetError("its checksum does not fit: it was changed after it was written")


def _check_sets(manifest: Manifest) -> None:
    """Sets have known names, and say what they hold."""
    for name, held in manifest.sets.items():
        _admitted(name, SETS, "sets: a name")
        for total in SET_TOTALS:
            _read(Count, held.get(total, _MISSING), _below(_below("'sets'", name), total))


def _check_shards(manifest: Manifest) -> None:
    """Shards, files and totals have to tell one story. After this every file name is one of the known forms."""
    if manifest.pad_id > LARGEST_ID[manifest.dtype]:
        raise DatasetError(f"'pad_id' {manifest.pad_id} does not fit into {manifest.dtype}")
    for shard in manifest.shards:
        start = SETS[shard.set]
        if not re.fullmatch(f"{start}-[0-9]{{5}}", shard.name):
            raise DatasetError(f"shards: name {shard.name[:40]!r}; expected {start}-00000 to {start}-99999")
    names = [shard.name for shard in manifest.shards]
    if names != sorted(set(names)):  # as SETS are
        raise DatasetError("shards: not in order, or one is named twice")
    expected = {REJECTS}
    for shard in manifest.shards:
        if wrong := layout(manifest.layout).wrong_counts(shard.rows, shard.segments):
            raise DatasetError(f"shards: {shard.name} has {wrong}")
        for name, form in manifest.arrays(shard).items():
            if 0 in form.shape:
                raise DatasetError(f"'width' is 0, which rows of the layout {manifest.layout} cannot be")
            if math.prod(form.shape) * 8 > _LARGEST_INT:
                raise DatasetError(f"shards: {name} would take 2**63 bytes or more")
        expected |= {*manifest.arrays(shard), shard.provenance}
    if strangers := sorted(expected ^ manifest.files.keys()):
        missing = strangers[0] in expected
        raise DatasetError(f"files: {strangers[0][:60]!r} {'is missing' if missing else 'belongs to no shard'}")
    if sum(shard.rows for shard in manifest.shards) != manifest.totals["rows"]:
        raise DatasetError("totals: rows are not the sum of the shards' rows")
    for name in sorted({*manifest.sets, *(shard.set for shard in manifest.shards)}):
        rows = sum(shard.rows for shard in manifest.shards if shard.set == name)
        if rows != manifest.sets.get(name, {}).get("rows"):
            raise DatasetError(f"sets: rows of {name!r} are not the sum of its shards' rows")


def _read(kind: Any, value: Any, at: str = "") -> Any:
    """A JSON value as a dataclass, or as a type that a field of one has. Raises DatasetError, which names its place `at`,
    where it is missing, of another type, or not what an annotation admits."""
    origin, inner = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _admitted(_read(inner[0], value, at), inner[1], at)
    is_record = is_dataclass(kind)
    expected = dict if is_record or origin is Mapping else list if origin is tuple else kind
    if type(value) is not expected and kind is not Any:  # not isinstance: True is no number
        found = "is missing" if value is _MISSING else "is something else"
        raise DatasetError(f"{at or 'top level'} {found}; expected {_CALLED[expected]}")
    if is_record:
        optional = {each.name for each in fields(kind) if each.default_factory is not MISSING}.difference(value)
        read = {
            name: _read(each, value.get(name, _MISSING), _below(at, name))
            for name, each in _hints(kind).items()
            if name not in optional
        }
        return kind(**read)
    if origin is Mapping:
        return {name: _read(inner[1], each, _below(at, name)) for name, each in value.items()}
    if origin is tuple:
        return tuple(_read(inner[0], each, f"{at}[{number}]") for number, each in enumerate(value))
    return value


def _admitted(value: Any, by: range | re.Pattern[str] | Collection[str], at: str) -> Any:
    """The value, if it is in the range or the collection or is a hash."""
    if isinstance(by, re.Pattern):
        wrong = "" if by.fullmatch(value) else "is no hash; expected 64 hex digits"
    elif isinstance(by, range):
        wrong = "" if value in by else f"is out of range; expected {by.start} to 2**63 - 1"
    else:
        wrong = "" if value in by else f"is {value[:40]!r}; expected one of {', '.join(by)}"
    if wrong:
        raise DatasetError(f"{at} {wrong}")
    return value


def _below(at: str, key: str) -> str:
    return f"{at}.{key[:60]!r}" if at else repr(key)


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)
