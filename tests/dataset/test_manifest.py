"""The manifest: what is written is read back, and nothing else is."""

from __future__ import annotations

import copy
import hashlib
import json
import os
import pickle
import random
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FULL
from hypothesis import given, settings
from small_dataset import random_rows, signed, write_dataset
from strategies import json_values

from sftprep.dataset import manifest as manifest_room
from sftprep.dataset.manifest import Manifest, load_manifest, parse_manifest
from sftprep.errors import DatasetError
from sftprep.reader.dataset import ShardDataset

FUZZED = 10_000 if FULL else 2_000
_opened: list[str] = []
_watching = False


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if _watching and event == "open" and not isinstance(arguments[0], int):  # a descriptor was opened by path before
        _opened.append(os.fsdecode(arguments[0]))


sys.addaudithook(_watch)  # stays until the process ends; silent outside of `opened_files`


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """Every path that the interpreter opens in the body."""
    global _watching
    _opened.clear()
    _watching = True
    try:
        yield _opened
    finally:
        _watching = False


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Manifest]:
    rng = np.random.default_rng(0)
    shards = [random_rows(rng, 3, 12), random_rows(rng, 2, 12)]
    return tmp_path / "data", write_dataset(tmp_path / "data", shards, max_length=9)


def test_round_trip(written: tuple[Path, Manifest]) -> None:
    folder, manifest = written
    assert load_manifest(folder) == manifest
    assert parse_manifest(load_manifest(folder).to_bytes()) == manifest
    assert pickle.loads(pickle.dumps(manifest)) == manifest


def test_bytes_do_not_depend_on_the_order_of_keys(written: tuple[Path, Manifest]) -> None:
    _, manifest = written
    fields = {name: getattr(manifest, name) for name in Manifest.__slots__}
    fields["files"] = dict(reversed(manifest.files.items()))
    fields["config"] = dict(reversed(manifest.config.items()))
    assert Manifest(**fields).to_bytes() == manifest.to_bytes()


def test_file_is_readable_json(written: tuple[Path, Manifest]) -> None:
    folder, manifest = written
    text = (folder / "manifest.json").read_text()
    stated = json.loads(text)
    assert (stated["format"], stated["version"], stated["width"]) == ("sftprep", 2, 8)
    assert stated["shards"][1] == {"name": "shard-00001", "rows": 2, "segments": 2, "set": "train", "tokens": 18}
    assert text.endswith("}\n")
    assert list(stated) == sorted(stated)
    assert signed(stated) == manifest.to_bytes()


def test_checksum_is_that_of_the_other_lines(written: tuple[Path, Manifest]) -> None:
    folder, _ = written
    path = folder / "manifest.json"
    others = subprocess.run(["grep", "-v", '^ "checksum"', path], capture_output=True, check=True).stdout
    assert json.loads(path.read_text())["checksum"] == hashlib.sha256(others).hexdigest()


def test_every_flipped_bit_is_found(written: tuple[Path, Manifest]) -> None:
    _, manifest = written
    data = manifest.to_bytes()
    for position in range(len(data)):
        for bit in range(8):
            flipped = bytearray(data)
            flipped[position] ^= 1 << bit
            with pytest.raises(DatasetError):
                parse_manifest(bytes(flipped))


def test_every_truncation_and_any_appended_byte_is_found(written: tuple[Path, Manifest]) -> None:
    _, manifest = written
    data = manifest.to_bytes()
    for changed in [*(data[:length] for length in range(len(data))), data + b"\n", data + b"{}", b"\n" + data]:
        with pytest.raises(DatasetError):
            parse_manifest(changed)


def test_unknown_top_level_keys_are_passed_over(written: tuple[Path, Manifest]) -> None:
    _, manifest = written
    stated = json.loads(manifest.to_bytes()) | {"a_new_key": {"deep": [1, 2.5, None]}, "zz": 1}
    assert parse_manifest(signed(stated)) == manifest


def test_unknown_totals_are_kept(written: tuple[Path, Manifest]) -> None:
    _, manifest = written
    stated = json.loads(manifest.to_bytes())
    stated["totals"]["control_text"] = 3
    assert parse_manifest(signed(stated)).totals["control_text"] == 3
    stated["ignored_keys"] = {"source": 7}
    assert parse_manifest(signed(stated)).ignored_keys == {"source": 7}
    del stated["ignored_keys"], stated["message_keys"]
    assert parse_manifest(signed(stated)).ignored_keys == {}


def test_dataset_without_rows(tmp_path: Path) -> None:
    manifest = write_dataset(tmp_path, [], max_length=9)
    assert load_manifest(tmp_path) == manifest
    assert manifest.shards == ()


def _set(*path: Any) -> Callable[[dict[str, Any]], None]:
    """A change that puts the last argument at the place that the others name."""
    *keys, last, value = path

    def change(stated: Any) -> None:
        for key in keys:
            stated = stated[key]
        stated[last] = value

    return change


def _rename_file(old: str, new: str) -> Callable[[dict[str, Any]], None]:
    def change(stated: dict[str, Any]) -> None:
        stated["files"][new] = stated["files"].pop(old)

    return change


def _drop(*path: Any) -> Callable[[dict[str, Any]], None]:
    *keys, last = path

    def change(stated: Any) -> None:
        for key in keys:
            stated = stated[key]
        del stated[last]

    return change


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_set("version", 1), "format version 1; this sftprep reads version 2"),
        (_set("version", True), "'version' is something else; expected a whole number"),
        (_set("format", "other"), "format 'other'; expected 'sftprep'"),
        (_drop("format"), "'format' is missing; expected a string"),
        (_set("layout", "rugged"), "'layout' is 'rugged'; expected one of padded"),
        (_set("dtype", "object"), "'dtype' is 'object'; expected one of uint16, uint32"),
        (_set("dtype", "|O"), "'dtype' is '|O'"),
        (_set("width", 0), "'width' is 0, which rows of the layout padded cannot be"),
        (_set("width", -1), "'width' is out of range"),
        (_set("width", True), "'width' is something else"),
        (_set("width", 8.0), "'width' is something else"),
        (_set("width", 2**62), "shards: shard-00000.X.npy would take 2**63 bytes or more"),
        (_set("width", 2**64), "'width' is out of range"),
        (_set("pad_id", 65_536), "'pad_id' 65536 does not fit into uint16"),
        (_set("fingerprint", "0" * 63), "'fingerprint' is no hash; expected 64 hex digits"),
        (_set("fingerprint", "A" * 64), "'fingerprint' is no hash"),
        (_set("fingerprint", "٣" * 64), "'fingerprint' is no hash"),
        (_set("config", []), "'config' is something else; expected an object"),
        (_set("tokenizer", None), "'tokenizer' is something else"),
        (_set("inputs", {}), "'inputs' is something else; expected a list"),
        (_set("inputs", 0, "records", -1), "'inputs'[0].'records' is out of range"),
        (_set("inputs", 0, 7), "'inputs'[0] is something else; expected an object"),
        (_set("totals", "rows", 6), "totals: rows are not the sum of the shards' rows"),
        (_drop("totals", "tokens"), "'totals'.'tokens' is missing"),
        (_set("totals", "new", "many"), "'totals'.'new' is something else"),
        (_set("shards", 0, "name", "../shard-00000"), "name '../shard-00000'; expected shard-00000"),
        (_set("shards", 0, "name", "shard-٠٠٠٠٠"), "expected shard-00000"),
        (_set("shards", 0, "name", "shard-00000\n"), "expected shard-00000"),
        (_set("shards", 0, "name", "shard-000000"), "expected shard-00000"),
        (_set("shards", 0, "name", "shard-00001"), "shards: not in order, or one is named twice"),
        (_set("shards", 0, "name", "shard-00002"), "shards: not in order"),
        (_set("shards", 0, "rows", 2**62), "segments in 4611686018427387904 padded rows"),
        (_set("shards", 0, "segments", 4), "4 segments in 3 padded rows"),
        (_set("shards", 0, "rows", 0), "'shards'[0].'rows' is out of range"),
        (_set("shards", 1, "name", "shard-00002"), "files: 'shard-00001.X.npy' belongs to no shard"),
        (_drop("shards", 1), "files: 'shard-00001.X.npy' belongs to no shard"),
        (_drop("files", "shard-00001.provenance.parquet"), "files: 'shard-00001.provenance.parquet' is missing"),
        (_drop("files", "rejects.jsonl"), "files: 'rejects.jsonl' is missing"),
        (_rename_file("rejects.jsonl", "../rejects.jsonl"), "files: '../rejects.jsonl' belongs to no shard"),
        (_rename_file("rejects.jsonl", "/etc/passwd"), "files: '/etc/passwd' belongs to no shard"),
        (_rename_file("shard-00000.X.npy", "shard-00000.X.npy\0"), "belongs to no shard|is missing"),
        (_set("files", "shard-00000.W.npy", {"bytes": 1, "sha256": "0" * 64}), "'shard-00000.W.npy' belongs to no"),
        (_set("files", "rejects.jsonl", "bytes", -1), "'files'.'rejects.jsonl'.'bytes' is out of range"),
        (_set("files", "rejects.jsonl", "bytes", False), "'files'.'rejects.jsonl'.'bytes' is something else"),
    ],
)
def test_a_wrong_value_is_named(
    written: tuple[Path, Manifest], change: Callable[[dict[str, Any]], None], message: str
) -> None:
    folder, manifest = written
    stated = json.loads(manifest.to_bytes())
    change(stated)
    (folder / "manifest.json").write_bytes(signed(stated))
    with pytest.raises(DatasetError, match=f"manifest.json: .*{message if '|' in message else re.escape(message)}"):
        load_manifest(folder)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "not JSON"),
        (b"\xff\xfe{}", "not ASCII"),
        (b"[]", "top level is something else; expected an object"),
        (b"null", "top level is something else; expected an object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"version": NaN}', "NaN"),
        (b'{"version": -Infinity}', "Infinity"),
        (b'{"version": ' + b"9" * 10_000 + b"}", "not JSON"),
        (b'{"format": "sftprep", "format": "sftprep"}', "a key twice"),
        (b'{"format": "sftprep", "version": 2}', "no line with its checksum"),
        (b'{"format": "sftprep",\n "checksum": "' + b"0" * 64 + b'",\n "version": 2}', "checksum does not fit"),
    ],
)
def test_other_bytes(data: bytes, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        parse_manifest(data)


def test_a_manifest_without_end_is_not_read_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "manifest.json").open("wb") as file:
        file.truncate(1 << 40)  # a sparse file
    monkeypatch.setattr(manifest_room, "LARGEST_MANIFEST", 1 << 20)
    with pytest.raises(DatasetError, match="larger than 1,048,576 bytes"):
        load_manifest(tmp_path)


def test_manifest_that_is_no_file(tmp_path: Path, written: tuple[Path, Manifest]) -> None:
    good, _ = written
    path = tmp_path / "manifest.json"
    with pytest.raises(DatasetError, match=r"manifest\.json: missing"):
        load_manifest(tmp_path)
    with pytest.raises(DatasetError, match=r"manifest\.json: missing"):
        load_manifest(good / "rejects.jsonl")
    path.symlink_to(good / "manifest.json")
    with pytest.raises(DatasetError, match="symbolic link"):
        load_manifest(tmp_path)
    path.unlink()
    path.mkdir()
    with pytest.raises(DatasetError, match="not a regular file"):
        load_manifest(tmp_path)
    path.rmdir()
    os.mkfifo(path)
    with pytest.raises(DatasetError, match="not a regular file"):  # and it does not wait for a writer
        load_manifest(tmp_path)


@settings(max_examples=100)
@given(json_values())
def test_no_json_value_is_taken_for_a_manifest(value: Any) -> None:
    with pytest.raises(DatasetError):
        parse_manifest(json.dumps(value).encode())


ODD_NAMES = ("..", "../../etc/passwd", "/etc/passwd", "shard-00000.X.npy/", "./rejects.jsonl", "a/b", "\0", "", "x" * 5000,
             "shard-99999.X.npy", "shard-00000.X.npy", "manifest.json", "C:\\x", "~", "shard-0000a", "link.npy")  # fmt: skip
ODD_VALUES: tuple[Any, ...] = (None, True, False, -1, 0, 1, 2, 3, 7, 8, 2**31, 2**62, 2**63, 10**30, 1.0, 1e308, "", "1", "uint32",
              "object", "|O", "padded", [], {}, [[]], {"": {}}, *ODD_NAMES)  # fmt: skip


def _places(value: Any) -> list[tuple[Any, Any]]:
    """Every (container, key) of a JSON value."""
    found = []
    for container in (stack := [value]):
        for key in list(container) if isinstance(container, dict) else range(len(container)):
            found.append((container, key))
            if isinstance(container[key], dict | list):
                stack.append(container[key])
    return found


def _mutate(rng: random.Random, stated: Any) -> None:
    container, key = rng.choice(_places(stated))
    action = rng.randrange(6)
    if action == 0:
        del container[key]
    elif action == 1:
        container[key] = copy.deepcopy(rng.choice(ODD_VALUES))
    elif action == 2 and isinstance(container, dict):
        container[rng.choice(ODD_NAMES)] = container.pop(key)
    elif action == 3 and type(container[key]) is int:
        container[key] += rng.choice((-1, 1, 128, 2**40))
    elif action == 4 and isinstance(container, list):
        container.append(copy.deepcopy(container[key]))
    else:
        other, other_key = rng.choice(_places(stated))
        container[key] = copy.deepcopy(other[other_key])


def _rename_shard(rng: random.Random, stated: Any) -> Any:
    """Call a shard something else wherever it is named, so that only the name itself is wrong."""
    odd = rng.choice([*ODD_NAMES, "../data/shard-00001", "../secret", "/srv/shard-00001", "shard-00001/../x"])
    return json.loads(json.dumps(stated).replace("shard-00001", json.dumps(odd)[1:-1]))


def _damage_folder(rng: random.Random, folder: Path, secret: Path, name: str) -> Callable[[], None]:
    """Put something else in a file's place; returns what puts the file back."""
    path = folder / name
    original = path.read_bytes()
    path.unlink()
    kind = rng.randrange(5)
    if kind == 0:
        path.symlink_to(secret)
    elif kind == 1:
        path.symlink_to(folder / "gone")
    elif kind == 2:
        os.mkfifo(path)
    elif kind == 3:
        path.write_bytes(b"\x93NUMPY" + rng.randbytes(len(original) - 6))
    else:
        path.write_bytes(
            original.replace(rng.choice((b"'<u2'", b"'|b1'", b"'<i8'")), rng.choice((b"'|O' ", b"'>u2'", b"'<f2'")))
        )

    def restore() -> None:
        path.unlink()
        path.write_bytes(original)

    return restore


def test_fuzzed_manifests_give_typed_errors_and_open_nothing_outside(tmp_path: Path) -> None:
    tmp_path = tmp_path.resolve()
    folder, secret = tmp_path / "data", tmp_path / "secret.npy"
    rows = random_rows(np.random.default_rng(1), 4, 12)
    manifest = write_dataset(folder, [rows[:3], rows[3:]], max_length=9)
    secret.write_bytes((folder / "shard-00000.X.npy").read_bytes())
    path = folder / "manifest.json"
    true = manifest.to_bytes()
    names = sorted(manifest.files)
    assert len(ShardDataset(folder)) == 4  # imports and opens whatever only the first use does
    refused = 0
    rng = random.Random(2)
    for number in range(FUZZED):
        restore = None
        if number % 4 == 3:
            restore = _damage_folder(rng, folder, secret, rng.choice(names))
            data = true
        elif number % 4 == 2:
            raw = bytearray(true)
            for _ in range(rng.randrange(1, 9)):
                at = rng.randrange(len(raw))
                raw[at : at + rng.randrange(3)] = rng.randbytes(rng.randrange(3))
            data = bytes(raw)
        else:
            stated = json.loads(true)
            for _ in range(rng.randrange(1, 4)):
                _mutate(rng, stated)
            if number % 8 == 0:
                stated = _rename_shard(rng, json.loads(true))
            data = signed(stated)
        path.write_bytes(data)
        with opened_files() as opened:
            try:
                dataset = ShardDataset(folder)
                for index in range(len(dataset)):
                    dataset[index]
            except DatasetError:
                refused += 1
        outside = [each for each in opened if Path(each).parent != folder or os.path.realpath(each) != each]
        assert not outside, data
        if restore:
            restore()
    assert refused > FUZZED * 0.8  # the others changed nothing that a reader relies on
