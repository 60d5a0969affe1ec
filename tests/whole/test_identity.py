"""The same inputs and options give the same bytes, whoever does the work, where, in which order and how often.

Every file of a dataset is compared by its sha256, the manifest with the rest.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from random import Random

import pytest
from faults.builds import ALONE, OLD, Builds, Lab, hashes, laboratory

SPLITS = 8


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Its expected dataset is the work of two processes, of the engine `hf`, and of a random PYTHONHASHSEED."""
    with laboratory(tmp_path_factory.mktemp("identity"), SPLITS) as lab:
        yield lab


def run(builds: Builds, arguments: list[str], folder: Path | None = None) -> str:
    ended = builds.run(*arguments, folder=folder)
    assert ended.code == 0, ended.output
    return ended.output


@pytest.mark.parametrize("workers", ["1", "3", "7"])
def test_number_of_workers(lab: Lab, tmp_path: Path, workers: str) -> None:
    run(lab.builds, lab.command(tmp_path, "--workers", workers))
    assert hashes(tmp_path) == lab.expected


@pytest.mark.parametrize("seed", ["0", "1"])
def test_hash_seed(lab: Lab, tmp_path: Path, seed: str) -> None:
    builds = Builds(tmp_path, lab.folder / "cache", PYTHONHASHSEED=seed)
    run(builds, lab.command(tmp_path / "out"))
    builds.close()
    assert hashes(tmp_path / "out") == lab.expected


def test_tokenizer_engine(lab: Lab, tmp_path: Path) -> None:
    assert "tokenizer engine fast" in run(lab.builds, lab.command(tmp_path, "--tokenizer-engine", "fast"))
    assert hashes(tmp_path) == lab.expected


def test_resumed(lab: Lab, tmp_path: Path) -> None:
    running = lab.builds.start(*lab.command(tmp_path, *ALONE), stop="receipt")
    running.worker()  # it dies with its parent
    os.kill(running.pid, signal.SIGKILL)
    assert lab.builds.end(running).code == -signal.SIGKILL
    receipts = [path.stem for path in tmp_path.glob("receipts/[0-9]*")]
    assert len(receipts) == 3
    done = {path: path.stat().st_ino for each in receipts for path in tmp_path.glob(f"shard-{each}*")}
    assert done
    run(lab.builds, lab.command(tmp_path))
    assert hashes(tmp_path) == lab.expected
    assert {path: path.stat().st_ino for path in done} == done


def test_places(lab: Lab, tmp_path: Path) -> None:
    """From another working folder, by relative paths, through a link, as a folder, as a glob."""
    data = tmp_path / "data"
    data.mkdir()
    for path in lab.inputs:
        shutil.copy(path, data)
    link = tmp_path / "elsewhere" / "link"
    link.parent.mkdir()
    link.symlink_to(data)
    options = lab.command("out")[1 + SPLITS :]
    names = [Path(path).name for path in lab.inputs]
    for number, (folder, inputs) in enumerate(
        {
            data: names,
            tmp_path: [f"./data/../data/{name}" for name in names],
            link.parent: ["link"],
            lab.folder: [f"{link}/chat-*.jsonl"],
            link: [os.path.relpath(lab.folder / name, data) for name in names],
        }.items()
    ):
        out = tmp_path / f"out-{number}"
        run(lab.builds, ["build", *inputs, *options, "-o", str(out)], folder)
        assert hashes(out) == lab.expected, inputs


def test_steps_in_any_order(lab: Lab, tmp_path: Path) -> None:
    """plan, then each split by a process of its own, some twice, some side by side; then commit."""
    out = tmp_path / "out"
    command = lab.command(out)
    said = run(lab.builds, ["plan", *command[1:]])
    assert said.startswith(f"{SPLITS} splits: run `sftprep work {out} --task I` for I from 0 to {SPLITS - 1}")
    tasks = [*range(SPLITS), 3, 5]
    Random(0).shuffle(tasks)
    for first, second in zip(tasks[::2], tasks[1::2], strict=True):
        pair = [lab.builds.start("work", str(out), "--task", str(task)) for task in (first, second)]
        assert [lab.builds.end(each).code for each in pair] == [0, 0]
    assert run(lab.builds, ["work", str(out), "--task", "3"]) == "split 3: done before\n"
    assert not (out / "manifest.json").exists()
    run(lab.builds, ["commit", str(out)])
    assert hashes(out) == lab.expected
    assert lab.builds.run("commit", str(out)).code == 0
    assert lab.builds.run("work", str(out), "--task", "3").output == "split 3: the dataset is complete\n"
    assert hashes(out) == lab.expected


def test_over_another_dataset(lab: Lab, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(lab.folder / "old", out)
    run(lab.builds, lab.command(out, "--overwrite"))
    assert hashes(out) == lab.expected
    run(lab.builds, lab.command(out, *OLD, "--overwrite"))
    assert hashes(out) == lab.old


@pytest.fixture(scope="module")
def part(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Every 48th conversation of the corpus: 1.5 MB in two splits."""
    path = tmp_path_factory.mktemp("part") / "part.jsonl"
    with corpus.open("rb") as lines, path.open("wb") as file:
        file.writelines(islice(lines, 0, None, 48))
    return path


@pytest.mark.parametrize("tokenizer", ["qwen3"])
def test_real_conversations(lab: Lab, shared_data: Path, part: Path, tmp_path: Path, tokenizer: str) -> None:
    command = ["build", str(part), "-t", str(shared_data / "tokenizers" / tokenizer), "--max-length", "512"]
    runs = {"hf": 1, "fast": 3, "auto": 2}
    for engine, workers in runs.items():
        out = tmp_path / engine
        run(lab.builds, [*command, "-o", str(out), "--tokenizer-engine", engine, "--workers", str(workers)])
    assert hashes(tmp_path / "hf") == hashes(tmp_path / "fast") == hashes(tmp_path / "auto")
