"""What is in the folder of an unfinished build may have been changed by anybody."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from faults.builds import Lab, hashes, laboratory
from odd_values import GONE, changed

from sftprep.checksum import without_checksum
from sftprep.dataset.receipt import read_receipt
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
    (out / "plan.json").write_bytes(changed(without_checksum((out / "plan.json").read_bytes()), place, odd))
    for command in (["work", str(out), "--task", "1"], ["commit", str(out)], lab.command(out)):
        ended = lab.builds.run(*command)
        assert ended.code == 1, ended.output
        assert "Traceback" not in ended.output
        assert "internal error" not in ended.output
    assert lab.builds.run(*lab.command(out, "--overwrite")).code == 0
    assert hashes(out) == lab.expected
