"""A file that is not what its name says: told by how it begins, with what helps."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from sftprep.containers.compressed import CODECS, codec_of
from sftprep.containers.kinds import COLUMNAR, JSON, head_of, suffix_of
from sftprep.errors import InputError
from sftprep.stores.kinds import store_of

_MAGIC = {  # how a file begins -> what it is
    b"\x1f\x8b": "gzip",
    b"BZh": "bz2",
    b"\x28\xb5\x2f\xfd": "zstd",
    b"\xfd7zXZ\0": "xz",
    b"PAR1": "Parquet",
    b"PARE": "encrypted Parquet",
    b"ARROW1": "Arrow",
    b"\xff\xff\xff\xff": "Arrow",
    b"PK\x03\x04": "zip",
    b"version https://git-lfs": "a pointer of Git LFS",
}
_ZSTD_SKIPPED = b"\x2a\x4d\x18"  # behind one byte: a frame that is passed over, which may stand first
_SUFFIXES = {**{codec: suffix for suffix, codec in CODECS.items()}, "Parquet": ".parquet", "Arrow": ".arrow"}
_REMEDIES = {
    "encrypted Parquet": "decrypt it",
    "zip": "unpack it (`unzip`)",
    "a pointer of Git LFS": "fetch the file (`git lfs pull`)",
}
_UNICODE = {  # how a text begins that is not UTF-8 -> its encoding, as iconv names it; the longer ones first
    b"\xff\xfe\0\0": "UTF-32",
    b"\0\0\xfe\xff": "UTF-32",
    b"{\0\0\0": "UTF-32LE",
    b"[\0\0\0": "UTF-32LE",
    b"\0\0\0{": "UTF-32BE",
    b"\0\0\0[": "UTF-32BE",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"{\0": "UTF-16LE",
    b"[\0": "UTF-16LE",
    b"\0{": "UTF-16BE",
    b"\0[": "UTF-16BE",
}
_MOST_MAGIC = max(map(len, _MAGIC))
_LINES = 10  # of which one has to begin as JSON does
_FROM_CSV = "import csv, json, sys; [print(json.dumps(row)) for row in csv.DictReader(sys.stdin)]"


def check_file(path: str) -> None:
    """Raise InputError where a file is none of the kind that its name says, or a text holds no JSON in UTF-8."""
    suffix, codec = suffix_of(path), codec_of(path)
    columnar = suffix in COLUMNAR
    found, end = _what_is(path)
    if columnar:
        _check_columnar(path, "Parquet" if suffix == ".parquet" else "Arrow", found, end)
    elif codec != found and found is not None:
        right = _SUFFIXES.get(found)
        name = path.removesuffix(Path(path).suffix) if codec else path
        remedy = f"rename it to {Path(name if right in CODECS else Path(name).with_suffix('')).name}{right}"
        raise InputError(f"{path}: is {found}, not {codec or 'JSON'}; {_REMEDIES.get(found, remedy)}")
    elif codec and found is None and end:
        raise InputError(
            f"{path}: does not begin as {codec} does; if it is not compressed, take {Path(path).suffix} away"
        )
    if suffix in JSON:
        _check_text(path)


def _what_is(path: str) -> tuple[str | None, bytes]:
    """What a file is by its first bytes, and its last four."""
    try:
        with closing(store_of(path).open_file(path)) as file:
            head = file.read(_MOST_MAGIC)
            file.seek(max(0, store_of(path).size(path) - 4))
            end = file.read(4)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    if head[1:4] == _ZSTD_SKIPPED and head[0] >> 4 == 5:
        return "zstd", end
    return next((what for magic, what in _MAGIC.items() if head.startswith(magic)), None), end


def _check_columnar(path: str, expected: str, found: str | None, end: bytes) -> None:
    if not end:
        raise InputError(f"{path}: has no bytes; expected {expected}")
    if found == "Parquet" and end == b"PARE":
        found = "encrypted Parquet"
    if found != expected and (found or expected == "Parquet"):
        remedy = _REMEDIES.get(found or "", "give it its right name, or write it again")
        raise InputError(f"{path}: is {found or 'something else'}; expected {expected}; {remedy}")
    if found == "Parquet" and end != b"PAR1":
        raise InputError(f"{path}: is cut off: a Parquet file ends with PAR1; fetch it again")


def _check_text(path: str) -> None:
    head = head_of(path)[0]
    for start, encoding in _UNICODE.items():
        if head.startswith(start) and b"\0" in head[:64]:
            name = Path(path).name
            raise InputError(
                f"{path}: is {encoding[:6]}; expected UTF-8; convert it: iconv -f {encoding} -t UTF-8 {name} > utf8-{name}"
            )
    lines = [line for line in head.split(b"\n", 100 * _LINES) if line.strip()][:_LINES]
    if len(lines) > 1 and not any(line.lstrip().startswith((b"{", b"[")) for line in lines):
        raise InputError(
            f"{path}: none of its first {len(lines)} lines begins with {{ or [; expected JSON. A CSV file becomes lines of JSON "
            f'by python -c "{_FROM_CSV}" < FILE.csv > FILE.jsonl'
        )
