"""What is in the folder of an unfinished build may have been changed by anybody."""

from __future__ import annotations

import copy
import json
import shutil
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from faults.builds import Lab, hashes, laboratory

from sftprep.checksum import with_checksum, without_checksum
from sftprep.config import fingerprint
from sftprep.dataset.receipt import ShardReceipt, read_receipt
from sftprep.errors import DatasetError
from sftprep.jobs.folder import read_plan
from sftprep.jobs.plan import Plan


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with laboratory(tmp_path_factory.mktemp("folders")) as lab:
        yield lab


def flipped(data: bytes, random: Random) -> bytes:
    changed = bytearray(data)
    changed[random.randrange(len(data))] ^= 1 << random.randrange(8)
    return bytes(changed)


@pytest.fixture(scope="module")
def done(lab: Lab) -> Path:
    """All splits done, nothing committed."""
    folder = lab.folder / "done"
    assert lab.builds.run("plan", *lab.command(folder)[1:]).code == 0
    for task in "012":
        assert lab.builds.run("work", str(folder), "--task", task).code == 0
    return folder


@pytest.mark.parametrize("name", ["plan.json", "receipts/00001.json"])
def test_a_changed_bit_is_refused_or_changes_nothing(lab: Lab, done: Path, out: Path, name: str) -> None:
    """By what reads them, 200 times; by the commands, some of these times."""
    shutil.copytree(done, out)
    random, whole = Random(name), (out / name).read_bytes()
    plan = read_plan(done)
    receipt = read_receipt(done, 1, plan.fingerprint)
    accepted = 0
    for number in range(200):
        (out / name).write_bytes(flipped(whole, random))
        if name == "plan.json":
            try:
                assert Plan.from_bytes((out / name).read_bytes(), out / name) == plan
                accepted += 1
            except DatasetError:
                pass
        else:
            found = read_receipt(out, 1, plan.fingerprint)
            assert found in (receipt, None)
            accepted += found is not None
        if number % 40 == 0:
            ended = lab.builds.run("commit", str(out))
            if ended.code == 0:
                assert hashes(out) == lab.expected
                shutil.rmtree(out)
                shutil.copytree(done, out)
            else:
                assert ended.code == 1
                assert "Traceback" not in ended.output
                assert not (out / "manifest.json").exists()
    assert accepted < 40  # a bit of white space, at most
    (out / name).write_bytes(flipped(whole, Random(1)))
    ended = lab.builds.run(*lab.command(out, *["--overwrite"] * (name == "plan.json")))
    assert ended.code == 0, ended.output
    assert hashes(out) == lab.expected


def _places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a JSON value."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        yield (*path, key)
        yield from _places(value[key], (*path, key))


def _changed(stated: dict[str, Any], path: tuple[Any, ...], odd: Any) -> bytes:
    """The object with another value at a place, under the checksum and the fingerprint that fit it."""
    changed = copy.deepcopy(stated)
    parent = changed
    for key in path[:-1]:
        parent = parent[key]
    if odd is GONE:
        del parent[path[-1]]
    else:
        parent[path[-1]] = odd
    if path[0] not in ("fingerprint", "format", "version", "sftprep") and "sources" in changed:
        with suppress(Exception):
            names = ("name", "bytes", "sha256", "records")
            content = {name: value for name, value in changed["config"].items() if name not in NOT_CONTENT}
            inputs = [{name: each[name] for name in names} for each in changed["sources"]]
            changed["fingerprint"] = fingerprint(
                {"config": content, "inputs": inputs, "tokenizer": changed["tokenizer"]}
            )
    return json.dumps(with_checksum(changed)).encode()


GONE = object()
NOT_CONTENT = {"inputs", "tokenizer", "tokenizer_engine"}
ODD = [GONE, None, True, -1, 7, 2**63, 1.5, "a", "", [], {}, [[]], {"a": {}}, "../../etc/passwd"]


def test_a_plan_of_odd_values_is_refused_or_followed(done: Path) -> None:
    """Every value of plan.json replaced by odd ones, under a checksum and a fingerprint that fit."""
    path = done / "plan.json"
    stated = without_checksum(path.read_bytes())
    assert Plan.from_bytes(_changed(stated, ("passed_over",), []), path) == read_plan(done)
    refused = followed = 0
    for place in _places(stated):
        for odd in ODD:
            try:
                plan = Plan.from_bytes(_changed(stated, place, odd), path)
            except DatasetError:
                refused += 1
                continue
            followed += 1
            assert plan.facts()
            assert plan.describe((0, 1, 0))
            assert plan.to_bytes()
            assert all(isinstance(each.start, int) for split in plan.splits for each in split.ranges)
    assert refused > followed > 20


@pytest.mark.parametrize(
    ("place", "odd"),
    [
        (("splits", 0, "ranges", 0, "source"), 7),
        (("splits", 0, "ranges", 0, "start"), "a"),
        (("splits", 0, "ranges", 0, "start"), 2**62),
        (("splits",), []),
        (("splits", 0), GONE),
        (("tokenizer",), 5),
        (("tokenizer", "vocab_size"), -1),
        (("tokenizer", "vocab_size"), 0),
        (("tokenizer", "pad_id"), "a"),
        (("config", "tokenizer"), 5),
        (("config", "chat_template"), 5),
        (("config", "max_length"), 1),
        (("config", "mask"), "all"),
        (("config", "inputs"), "chat.jsonl"),
        (("config", "template_kwargs"), []),
        (("config", "date"), "yesterday"),
        (("sources", 0, "name"), 5),
        (("sources", 0, "sha256"), "0"),
        (("sources",), []),
    ],
)
def test_no_command_stumbles_over_an_odd_plan(
    lab: Lab, done: Path, out: Path, place: tuple[Any, ...], odd: Any
) -> None:
    shutil.copytree(done, out)
    (out / "receipts" / "00001.json").unlink()
    (out / "plan.json").write_bytes(_changed(without_checksum((out / "plan.json").read_bytes()), place, odd))
    for command in (["work", str(out), "--task", "1"], ["commit", str(out)], lab.command(out)):
        ended = lab.builds.run(*command)
        assert ended.code == 1, ended.output
        assert "Traceback" not in ended.output
        assert "internal error" not in ended.output
    assert lab.builds.run(*lab.command(out, "--overwrite")).code == 0
    assert hashes(out) == lab.expected


@pytest.mark.parametrize("odd", ODD)
def test_a_receipt_of_odd_values_is_none(done: Path, odd: Any) -> None:
    """So its split is done again."""
    data = (done / "receipts" / "00001.json").read_bytes()
    whole, stated = ShardReceipt.from_bytes(data), without_checksum(data)
    refused = 0
    for place in _places(stated):
        try:
            receipt = ShardReceipt.from_bytes(_changed(stated, place, odd))
        except (ValueError, TypeError):
            refused += 1
            continue
        assert all(path.parent in (done, done / "rejects") for path in receipt.paths(done).values())
        assert receipt.fingerprint == whole.fingerprint
    assert refused > 8
    with pytest.raises((ValueError, TypeError)):
        ShardReceipt.from_bytes(_changed(stated, ("files", "../../X"), [1, "0" * 64]))
