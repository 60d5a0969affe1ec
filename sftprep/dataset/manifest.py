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
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sftprep import FORMAT_VERSION
from sftprep.dataset.safe_open import open_file
from sftprep.errors import DatasetError
from sftprep.layouts.kinds import LAYOUTS, layout

MANIFEST = "manifest.json"
REJECTS = "rejects.jsonl"
FORMAT = "sftprep"
VERSION = FORMAT_VERSION
DTYPES = {"uint16": "<u2", "uint32": "<u4"}
LARGEST_ID = {"uint16": 2**16 - 1, "uint32": 2**32 - 1}
TOTALS = ("records", "conversations", "rows", "tokens", "trained_tokens", "truncated", "dropped", "rejected")
LARGEST_MANIFEST = 128 << 20  # bytes; 100,000 shards take 75 MB
_LARGEST_INT = 2**63 - 1
_SHARD = re.compile(r"shard-[0-9]{5}")
_HASH = re.compile(r"[0-9a-f]{64}")
_CHECKSUM_LINE = re.compile(rb'^ "checksum": "([0-9a-f]{64})",\n', re.MULTILINE)


@dataclass(frozen=True, slots=True)
class FileEntry:
    """Size in bytes and hex sha256 of one file of the dataset."""

    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class InputEntry:
    """One input that was read: its name as given, size in bytes, hex sha256, and how many records it held."""

    name: str
    bytes: int
    sha256: str
    records: int


@dataclass(frozen=True, slots=True)
class ArrayForm:
    """What an array file has to be: shape, and the dtypes it may have, as .npy headers spell them."""

    shape: tuple[int, ...]
    dtypes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ShardEntry:
    """One shard: X, Y and mask of `rows` rows, and `segments` conversations in them."""

    name: str
    rows: int
    segments: int

    @property
    def provenance(self) -> str:
        """Name of the file that says where each segment came from."""
        return f"{self.name}.provenance.parquet"

    def arrays(self, width: int, dtype: str) -> dict[str, ArrayForm]:
        """File names of X, Y, mask and segments, in this order, with the form of each."""
        matrix = (self.rows, width)
        return {
            f"{self.name}.X.npy": ArrayForm(matrix, (DTYPES[dtype],)),
            f"{self.name}.Y.npy": ArrayForm(matrix, (DTYPES[dtype],)),
            f"{self.name}.mask.npy": ArrayForm(matrix, ("|b1", "<f4")),
            f"{self.name}.segments.npy": ArrayForm((self.segments, 3), ("<i8",)),
        }


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a dataset holds and where it came from. `width` is in tokens; `dtype` is that of X and Y."""

    sftprep: str  # version of the program that wrote it
    fingerprint: str  # hex sha256 over all that decides the bytes
    config: Mapping[str, Any]  # the options that decide the bytes
    layout: str
    width: int
    dtype: str
    pad_id: int
    tokenizer: Mapping[str, Any]
    inputs: tuple[InputEntry, ...]
    totals: Mapping[str, int]  # at least TOTALS
    shards: tuple[ShardEntry, ...]
    files: Mapping[str, FileEntry]

    def to_bytes(self) -> bytes:
        """The file: ASCII JSON, sorted keys, indent 1, trailing newline, with the checksum as its first key."""
        stated = {"format": FORMAT, "version": VERSION, **asdict(self)}
        text = json.dumps(stated, sort_keys=True, indent=1, allow_nan=False) + "\n"
        body = text.encode("ascii")
        line = f' "checksum": "{hashlib.sha256(body).hexdigest()}",\n'.encode()
        return body[:2] + line + body[2:]

    def arrays(self, shard: ShardEntry) -> dict[str, ArrayForm]:
        """File names of a shard's X, Y, mask and segments, in this order, with the form of each."""
        return shard.arrays(self.width, self.dtype)


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
    top = _Object("", _parse_json(data))
    if top.text("format") != FORMAT:
        raise DatasetError(f"format {top.text('format')[:40]!r}; expected {FORMAT!r}")
    if top.count("version") != VERSION:
        raise DatasetError(f"format version {top.count('version')}; this sftprep reads version {VERSION}")
    _check_checksum(data)
    manifest = Manifest(
        sftprep=top.text("sftprep"),
        fingerprint=top.sha256("fingerprint"),
        config=top.object("config").fields,
        layout=top.choice("layout", tuple(LAYOUTS)),
        width=top.count("width", least=1),
        dtype=top.choice("dtype", tuple(DTYPES)),
        pad_id=top.count("pad_id"),
        tokenizer=top.object("tokenizer").fields,
        inputs=tuple(
            InputEntry(each.text("name"), each.count("bytes"), each.sha256("sha256"), each.count("records"))
            for each in top.objects("inputs")
        ),
        totals=top.object("totals").counts(TOTALS),
        shards=tuple(
            ShardEntry(each.text("name"), each.count("rows", least=1), each.count("segments", least=1))
            for each in top.objects("shards")
        ),
        files=_files(top.object("files")),
    )
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


def _files(entries: _Object) -> dict[str, FileEntry]:
    return {
        name: FileEntry(entry.count("bytes"), entry.sha256("sha256"))
        for name, entry in ((name, entries.object(name)) for name in entries.fields)
    }


def _check_shards(manifest: Manifest) -> None:
    """Shards, files and totals have to tell one story. After this every file name is one of the known forms."""
    if manifest.pad_id > LARGEST_ID[manifest.dtype]:
        raise DatasetError(f"'pad_id' {manifest.pad_id} does not fit into {manifest.dtype}")
    names = [shard.name for shard in manifest.shards]
    for name in names:
        if not _SHARD.fullmatch(name):
            raise DatasetError(f"shards: name {name[:40]!r}; expected shard-00000 to shard-99999")
    if names != sorted(set(names)):
        raise DatasetError("shards: not in order, or one is named twice")
    expected = {REJECTS}
    for shard in manifest.shards:
        if wrong := layout(manifest.layout).wrong_counts(shard.rows, shard.segments):
            raise DatasetError(f"shards: {shard.name} has {wrong}")
        for name, form in manifest.arrays(shard).items():
            if math.prod(form.shape) * 8 > _LARGEST_INT:
                raise DatasetError(f"shards: {name} would take 2**63 bytes or more")
        expected |= {*manifest.arrays(shard), shard.provenance}
    if strangers := sorted(expected ^ manifest.files.keys()):
        missing = strangers[0] in expected
        raise DatasetError(f"files: {strangers[0][:60]!r} {'is missing' if missing else 'belongs to no shard'}")
    if sum(shard.rows for shard in manifest.shards) != manifest.totals["rows"]:
        raise DatasetError("totals: rows are not the sum of the shards' rows")


class _Object:
    """A JSON object read key by key; whatever is missing or of the wrong kind is a DatasetError that names it."""

    def __init__(self, where: str, value: Any) -> None:
        if not isinstance(value, dict):
            raise DatasetError(f"{where or 'top level'}: expected an object")
        self._where = where
        self.fields: dict[str, Any] = value

    def _get(self, key: str, kind: type, called: str) -> Any:
        value = self.fields.get(key)
        if type(value) is not kind:  # not isinstance: True is no number
            found = "is missing" if key not in self.fields else "is something else"
            raise DatasetError(f"{self._at(key)} {found}; expected {called}")
        return value

    def _at(self, key: str) -> str:
        return f"{self._where}.{key[:60]!r}" if self._where else repr(key)

    def text(self, key: str) -> str:
        value: str = self._get(key, str, "a string")
        return value

    def count(self, key: str, least: int = 0) -> int:
        value: int = self._get(key, int, "a whole number")
        if not least <= value <= _LARGEST_INT:
            raise DatasetError(f"{self._at(key)} is out of range; expected {least} to 2**63 - 1")
        return value

    def counts(self, required: tuple[str, ...]) -> dict[str, int]:
        return {key: self.count(key) for key in dict.fromkeys((*required, *self.fields))}

    def sha256(self, key: str) -> str:
        value = self.text(key)
        if not _HASH.fullmatch(value):
            raise DatasetError(f"{self._at(key)} is no hash; expected 64 hex digits")
        return value

    def choice(self, key: str, choices: tuple[str, ...]) -> str:
        value = self.text(key)
        if value not in choices:
            raise DatasetError(f"{self._at(key)} is {value[:40]!r}; expected one of {', '.join(choices)}")
        return value

    def object(self, key: str) -> _Object:
        return _Object(self._at(key), self._get(key, dict, "an object"))

    def objects(self, key: str) -> list[_Object]:
        values: list[Any] = self._get(key, list, "a list")
        return [_Object(f"{self._at(key)}[{number}]", value) for number, value in enumerate(values)]
