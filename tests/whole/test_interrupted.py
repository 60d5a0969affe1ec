"""Builds that are killed, stopped, or run out of disk from outside: the same command again goes on from there."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from faults.builds import ALONE, Lab, hashes, laboratory, needs_strace, traced, wait_for


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with laboratory(tmp_path_factory.mktemp("interrupted")) as lab:
        yield lab


def check_goes_on(lab: Lab, out: Path) -> None:
    """The command again gives the same bytes and leaves nothing else."""
    assert not (out / "manifest.json").exists()
    ended = lab.builds.run(*lab.command(out))
    assert ended.code == 0, ended.output
    assert hashes(out) == lab.expected
    assert [each.name for each in out.parent.iterdir()] == ["out"]


def test_a_worker_killed_from_outside(lab: Lab, out: Path) -> None:
    running = lab.builds.start(*lab.command(out, *ALONE), stop="worker")
    os.kill(running.worker(), signal.SIGKILL)
    ended = lab.builds.end(running)
    assert ended.code == 0
    assert "a worker process was killed by SIGKILL; its splits are done again" in ended.output
    assert hashes(out) == lab.expected


@needs_strace
def test_workers_killed_again_and_again(lab: Lab, out: Path) -> None:
    running = lab.builds.start(*lab.command(out), stop="workers")
    with ExitStack() as tracers:
        while not running.ended():
            for worker in running.stopped():  # killed when it reserves room for its first array
                options = ["-f", "-e", "trace=fallocate", "-e", "inject=fallocate:signal=KILL"]
                tracers.enter_context(traced(worker, lab.folder / f"killed-{worker}.log", *options))
        ended = lab.builds.end(running)
    assert ended.code == 1
    assert re.search(r"^Error: split \d: its worker process was killed by SIGKILL, twice", ended.output, re.MULTILINE)
    assert not list(out.rglob(".*"))
    check_goes_on(lab, out)


@needs_strace
def test_an_error_of_one_worker_ends_another_at_its_work(lab: Lab, out: Path) -> None:
    running = lab.builds.start(*lab.command(out), stop="workers")
    at_work, failing = running.workers(2)
    log = lab.folder / "at-work.log"
    syncs = ["-f", "-e", "trace=fsync", "-e"]
    with traced(at_work, log, *syncs, "inject=fsync:signal=STOP:when=2"):
        wait_for(lambda: "stopped by SIGSTOP" in log.read_text(), "its second file")
        with traced(failing, lab.folder / "failing.log", *syncs, "inject=fsync:error=ENOSPC"):
            wait_for(lambda: failing not in running.processes(), "the error")
            with suppress(ProcessLookupError):  # who does not end for some seconds is killed
                os.kill(at_work, signal.SIGCONT)
            ended = lab.builds.end(running)
    assert ended.code == 1
    assert re.search(rf"^Error: {out}/\S+: No space left on device$", ended.output, re.MULTILINE), ended.output
    assert not list(out.rglob(".*"))
    check_goes_on(lab, out)


def test_interrupted_from_the_keyboard(lab: Lab, out: Path) -> None:
    running = lab.builds.start(*lab.command(out, *ALONE), stop="worker")
    worker = running.worker()
    os.killpg(running.pid, signal.SIGINT)
    os.kill(worker, signal.SIGCONT)
    ended = lab.builds.end(running)
    assert ended.code == 130
    assert ended.output.rstrip().endswith("Interrupted; run the same command again to go on from here.")
    assert "Traceback" not in ended.output
    assert not list(out.rglob(".*"))
    check_goes_on(lab, out)


def test_terminated(lab: Lab, out: Path) -> None:
    running = lab.builds.start(*lab.command(out, *ALONE), stop="worker")
    running.worker()
    os.kill(running.pid, signal.SIGTERM)
    ended = lab.builds.end(running)
    assert ended.code == 143
    assert "Traceback" not in ended.output
    assert not list(out.rglob(".*"))
    check_goes_on(lab, out)


def test_one_of_two_builds_goes_on(lab: Lab, out: Path) -> None:
    running = lab.builds.start(*lab.command(out, *ALONE), stop="worker")
    worker = running.worker()
    second = lab.builds.run(*lab.command(out))
    assert second.code == 1
    assert f"Error: {out}: in use by process {running.pid} on {socket.gethostname()}" in second.output
    os.kill(worker, signal.SIGCONT)
    assert lab.builds.end(running).code == 0
    assert hashes(out) == lab.expected


def test_a_killed_build_holds_nothing(lab: Lab, out: Path) -> None:
    running = lab.builds.start(*lab.command(out, *ALONE), stop="worker")
    worker = running.worker()
    os.kill(running.pid, signal.SIGKILL)
    os.kill(worker, signal.SIGCONT)
    assert lab.builds.end(running).code == -9
    check_goes_on(lab, out)


def test_a_limit_on_file_sizes(lab: Lab, out: Path) -> None:
    running = lab.builds.start(*lab.command(out), stop="main")
    resource.prlimit(running.pid, resource.RLIMIT_FSIZE, (5000, 5000))
    os.kill(running.pid, signal.SIGCONT)
    ended = lab.builds.end(running)
    assert ended.code == 1
    assert re.search(rf"^Error: {out}/\S+: File too large$", ended.output, re.MULTILINE), ended.output
    assert not list(out.rglob(".*"))
    check_goes_on(lab, out)


def test_a_full_disk(lab: Lab, out: Path) -> None:
    disk = out.parent / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=4m", "sftprep", disk], capture_output=True, text=True, check=False
    )
    if mounted.returncode:
        pytest.skip(f"a file system cannot be mounted here: {mounted.stderr.strip()}")
    try:
        wide = "--max-length", "8192"  # 7 MB
        assert lab.builds.run(*lab.command(out, *wide)).code == 0
        ended = lab.builds.run(*lab.command(disk / "out", *wide))
        assert ended.code == 1, ended.output
        assert re.search(rf"^Error: {disk}/out/\S+: No space left on device$", ended.output, re.MULTILINE), ended.output
        assert "Traceback" not in ended.output
        assert not (disk / "out" / "manifest.json").exists()
        assert not list(disk.rglob(".*"))
        subprocess.run(["mount", "-o", "remount,size=16m", disk], check=True)
        assert lab.builds.run(*lab.command(disk / "out", *wide)).code == 0
        assert hashes(disk / "out") == hashes(out)
    finally:
        subprocess.run(["umount", disk], check=True)
