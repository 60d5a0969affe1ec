"""A folder that holds a dataset: done again, refused with a word on what changed, or overwritten in one step."""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from faults.builds import ALONE, OLD, SAMPLE, Lab, hashes, laboratory, needs_strace, traced, wait_for

from sftprep import __version__
from sftprep.checksum import with_checksum, without_checksum
from sftprep.dataset.manifest import load_manifest
from sftprep.errors import DatasetError
from sftprep.reader.dataset import ShardDataset


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with laboratory(tmp_path_factory.mktemp("overwrite")) as lab:
        yield lab


def test_the_old_dataset_is_read_until_the_new_one_is_there(lab: Lab, out: Path) -> None:
    shutil.copytree(lab.folder / "old", out)
    running = lab.builds.start(*lab.command(out, "--overwrite", *ALONE), stop="worker")
    widths, refused = [], []
    assert ShardDataset(out).manifest.width == 31
    os.kill(running.worker(), signal.SIGCONT)
    while not running.ended():
        dataset = ShardDataset(out)
        widths.append(dataset.manifest.width)
        try:
            assert {dataset[0][0].shape[0], dataset[-1][0].shape[0]} == {widths[-1]}
        except DatasetError as error:  # replaced after it was opened
            refused.append(str(error))
    assert lab.builds.end(running).code == 0
    assert widths == sorted(widths)
    assert all("another dataset has taken its place" in each for each in refused)
    assert ShardDataset(out).manifest.width == 63
    assert hashes(out) == lab.expected


def test_a_finished_build_does_nothing(lab: Lab, out: Path) -> None:
    shutil.copytree(lab.folder / "expected", out)
    before = {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.iterdir()}
    running = lab.builds.start(*lab.command(out), stop="workers")
    wait_for(lambda: running.stopped() or running.ended(), "the end, or a worker")
    assert not running.stopped()
    ended = lab.builds.end(running)
    assert ended.code == 0
    assert ended.output == f"{out}: complete already; nothing to do\n"
    assert {path: (path.stat().st_ino, path.stat().st_mtime_ns) for path in out.iterdir()} == before


def test_an_open_dataset_does_not_mix_with_its_successor(lab: Lab, out: Path) -> None:
    shutil.copytree(lab.folder / "expected", out)
    mapped, not_mapped = ShardDataset(out), ShardDataset(out)
    before = mapped[0]
    assert lab.builds.run(*lab.command(out, "--train-on", "all", "--overwrite")).code == 0
    assert ShardDataset(out).manifest.files.keys() == mapped.manifest.files.keys()
    assert all(torch.equal(old, new) for old, new in zip(mapped[0], before, strict=True))
    assert not torch.equal(ShardDataset(out)[0][2], before[2])
    with pytest.raises(DatasetError, match="another dataset has taken its place"):
        not_mapped[0]


@pytest.fixture(scope="module")
def folders(lab: Lab) -> list[Path]:
    """A finished build and one that was killed."""
    running = lab.builds.start(*lab.command(lab.folder / "unfinished", *ALONE), stop="worker")
    worker = running.worker()
    os.kill(running.pid, signal.SIGKILL)
    os.kill(worker, signal.SIGCONT)
    assert lab.builds.end(running).code == -9
    return [lab.folder / "expected", lab.folder / "unfinished"]


def check_refused(lab: Lab, folder: Path, command: list[str], what: str) -> None:
    before = hashes(folder)
    ended = lab.builds.run(*[str(folder) if each == "OUT" else each for each in command])
    assert ended.code == 1
    kind = "holds a dataset made from" if "manifest.json" in before else "holds an unfinished build with"
    remedy = "use --overwrite, or another folder"
    first = ("asking Transformers", "comparing tokenizers")  # only once
    said = [line for line in ended.output.splitlines() if not line.startswith(first)]
    assert said == [f"Error: {folder}: {kind} another {what}; {remedy}"]
    kept = {name: sha256 for name, sha256 in before.items() if name != ".lock" and not name.startswith(".tmp-")}
    assert hashes(folder) == kept  # the others were the killed build's


@pytest.mark.parametrize("which", [0, 1])
def test_what_changed_is_named(lab: Lab, folders: list[Path], out: Path, which: int) -> None:
    command = lab.command("OUT")
    template = out.parent / "template.jinja"
    template.write_text((SAMPLE / "chat_template.jinja").read_text() + "{# #}")
    tokenizer = out.parent / "tokenizer"
    shutil.copytree(SAMPLE / "tokenizer", tokenizer)
    text = (tokenizer / "tokenizer.json").read_text()
    (tokenizer / "tokenizer.json").write_text(text.replace("<|endoftext|>", "<|end-of-text|>"))
    moved = [str(shutil.copy(path, out.parent)) for path in lab.inputs]
    with Path(moved[1]).open("a") as file:
        file.write("{broken\n")
    others = {
        "option max-length (64, now 65)": [*command, "--max-length", "65"],
        "option train-on ('assistant', now 'last'), option keep-untrained (False, now True)": [
            *command,
            *("--train-on", "last", "--keep-untrained"),
        ],
        "option chat-template, tokenizer or its template": [*command, "--chat-template", str(template)],
        "tokenizer or its template": [*command, "--tokenizer", str(tokenizer)],
        "input chat-1.jsonl": ["build", *moved, *command[4:]],
        "input chat-2.jsonl": ["build", *lab.inputs[:2], *command[4:]],
        "order of the inputs": ["build", *lab.inputs[::-1], *command[4:]],
    }
    for what, other in others.items():
        check_refused(lab, folders[which], other, what)


def test_another_version_is_named(lab: Lab, folders: list[Path], out: Path) -> None:
    shutil.copytree(folders[0], out)
    manifest = replace(load_manifest(out), sftprep="0.0.9", fingerprint="0" * 64)
    (out / "manifest.json").write_bytes(manifest.to_bytes())
    check_refused(lab, out, lab.command("OUT"), f"sftprep version (0.0.9, now {__version__})")
    shutil.rmtree(out)
    shutil.copytree(folders[1], out)
    plan = without_checksum((out / "plan.json").read_bytes())
    (out / "plan.json").write_text(json.dumps(with_checksum({**plan, "sftprep": "0.0.9"})))
    ended = lab.builds.run(*lab.command(out))
    assert ended.code == 1
    said = f"made by sftprep 0.0.9, this is {__version__}; use that version, or --overwrite"
    assert ended.output == f"Error: {out}/plan.json: {said}\n"


@pytest.mark.parametrize("which", [0, 1])
def test_what_changed_may_be_overwritten(lab: Lab, folders: list[Path], out: Path, which: int) -> None:
    shutil.copytree(folders[which], out)
    assert lab.builds.run(*lab.command(out, *OLD, "--overwrite")).code == 0
    assert hashes(out) == lab.old


def test_a_folder_with_other_files_is_not_touched(lab: Lab, out: Path) -> None:
    out.mkdir()
    (out / "thesis.tex").write_text("not yours")
    for more in [], ["--overwrite"]:
        ended = lab.builds.run(*lab.command(out, *more))
        assert ended.code == 1
        said = "not empty and no dataset of sftprep (it holds thesis.tex); choose another folder"
        assert ended.output == f"Error: {out}: {said}\n"
        assert hashes(out).keys() == {"thesis.tex"}


@needs_strace
def test_the_lock_goes_with_the_folder_that_changes_place(lab: Lab, out: Path) -> None:
    shutil.copytree(lab.folder / "old", out)
    running = lab.builds.start(*lab.command(out, "--overwrite"), stop="main")
    log = lab.folder / "exchange.log"
    with traced(running.pid, log, "-e", "trace=renameat2", "-e", "inject=renameat2:signal=STOP"):
        wait_for(lambda: ") = 0" in log.read_text(), "the exchange")
        assert ShardDataset(out).manifest.width == 63
        second = lab.builds.run(*lab.command(out))
        assert f"in use by process {running.pid} on" in second.output
        os.kill(running.pid, signal.SIGCONT)
        assert lab.builds.end(running).code == 0
    assert hashes(out) == lab.expected
    assert [each.name for each in out.parent.iterdir()] == ["out"]
