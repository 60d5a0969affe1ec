"""Builds that are watched: started, stopped, injected with faults by strace, killed, and looked at afterwards."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from importlib.resources import files
from pathlib import Path
from random import Random
from typing import Any

import pytest

SECONDS = 120.0  # after which a command counts as hanging; alone on a machine it takes less than one
WORDS = [
    "the",
    "quick",
    "brown",
    "fox",
    "writes",
    "eleven",
    "tests",
    "before",
    "breakfast",
    "and",
    "数据",
    "émigré",
    "🎉",
]
_DEAD = ("Z", "X", "")
SAMPLE = Path(str(files("sftprep") / "sample"))


def write_inputs(folder: Path, splits: int = 3, seed: int = 0) -> list[str]:
    """Files that make a split each, with little to tokenize, some rejects, and weights at the end of the second."""
    random = Random(seed)
    paths = [folder / f"chat-{number}.jsonl" for number in range(splits)]
    for number, path in enumerate(paths):
        records = [_record(random, {}) for _ in range(50)]
        records[10] = records[30] = b"{broken"
        if number == 1:
            records.append(_record(random, {"weight": 0.5}))
        path.write_bytes(b"".join(record + b"\n" for record in records))
    return [str(path) for path in paths]


def _record(random: Random, more: dict[str, Any]) -> bytes:
    question, answer = (" ".join(random.choices(WORDS, k=random.randint(3, 12))) for _ in range(2))
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer, **more}]
    # a split is 1 MiB or more of input: the rest of it is a key that nobody reads
    return json.dumps({"messages": messages, "filling": "x" * 20_000}).encode()


@dataclass(frozen=True)
class Ended:
    """How a command ended: exit code (negative: the signal that killed it), and all that it printed."""

    code: int
    output: str


@dataclass(frozen=True)
class Running:
    """A command that was started. `pid` is its session too, and that of every process it starts."""

    pid: int
    output: Path

    def ended(self) -> bool:
        return has_ended(self.pid)

    def worker(self) -> int:
        """Wait for a worker that is stopped."""
        return self.workers(1)[0]

    def workers(self, count: int) -> list[int]:
        """Wait for so many workers that are stopped."""
        wait_for(lambda: len(self.stopped()) >= count, f"{count} stopped workers")
        return self.stopped()

    def stopped(self) -> list[int]:
        """The pids of workers that are stopped."""
        return [pid for pid in self.processes() if pid != self.pid and _state(pid) == "T"]

    def processes(self) -> list[int]:
        """Every process of the session that is still alive."""
        return [pid for pid in _pids() if _session(pid) == self.pid and not has_ended(pid)]


class Builds:
    """Runs commands in forks of one process, see build_server.py."""

    def __init__(self, folder: Path, cache: Path, **environment: str) -> None:
        self._folder, self._count = folder, 0
        self._server = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("build_server.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, "SFTPREP_CACHE": str(cache), "COLUMNS": "1000", **environment},
        )

    def close(self) -> None:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.close()
        self._server.stdout.close()
        assert self._server.wait(SECONDS) == 0

    def start(self, *arguments: str, stop: str | None = None, folder: Path | None = None) -> Running:
        self._count += 1
        output = self._folder / f"output-{self._count}"
        pid = self._ask(arguments=arguments, folder=str(folder or self._folder), output=str(output), stop=stop)
        return Running(pid, output)

    def end(self, running: Running) -> Ended:
        """Wait for a command, and for all its processes."""
        code = self._ask(wait=running.pid, seconds=SECONDS)
        output = running.output.read_text(errors="replace") if running.output.exists() else ""
        try:
            assert code is not None, f"hangs; so far it said:\n{output}"
            wait_for(lambda: not running.processes(), "the command's processes to end")
        finally:
            for pid in running.processes():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        return Ended(code, output)

    def run(self, *arguments: str, folder: Path | None = None) -> Ended:
        return self.end(self.start(*arguments, folder=folder))

    def _ask(self, **request: Any) -> Any:
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        self._server.stdin.write(json.dumps(request).encode() + b"\n")
        self._server.stdin.flush()
        return json.loads(self._server.stdout.readline())


@dataclass(frozen=True)
class Lab:
    """Where builds run, what they are asked for, and what they have to give."""

    builds: Builds
    folder: Path
    inputs: list[str]
    options: tuple[str, ...] = ()
    expected: dict[str, str] = field(default_factory=dict)  # sha256 of every file of the folder "expected"
    old: dict[str, str] = field(default_factory=dict)  # of "old", a dataset made with other options
    calls: dict[str, Counter[str]] = field(default_factory=dict)  # how often each name is called, by name of the case

    def command(self, out: Path | str, *more: str) -> list[str]:
        tokenizer = str(SAMPLE / "tokenizer")
        options = ["--max-length", "64", "--workers", "2", "--tokenizer-engine", "hf", *self.options, *more]
        return ["build", *self.inputs, "-o", str(out), "-t", tokenizer, *options]


OLD = ("--max-length", "32")
ALONE = ("--workers", "1")  # while its only worker is stopped a build stands still; and every split falls to that one


@contextmanager
def laboratory(folder: Path, splits: int = 3, options: tuple[str, ...] = ()) -> Iterator[Lab]:
    """Inputs, and two datasets made from them: "expected", and "old" with OLD for options. options: of all builds; with some,
    each input repeats five records of the first."""
    builds = Builds(folder, folder / "cache")
    lab = Lab(builds, folder, write_inputs(folder, splits), options)
    for path in lab.inputs if options else ():
        first = [json.loads(line)["messages"] for line in Path(lab.inputs[0]).read_bytes().splitlines()[:5]]
        with Path(path).open("ab") as file:
            file.writelines(json.dumps({"messages": messages}).encode() + b"\n" for messages in first)
    for name, whole, more in (("expected", lab.expected, ()), ("old", lab.old, OLD)):
        ended = builds.run(*lab.command(folder / name, *more))
        assert ended.code == 0, ended.output
        whole.update(hashes(folder / name))
        assert sum(each.startswith("shard") and each.endswith(".X.npy") for each in whole) == splits
    yield lab
    builds.close()


@contextmanager
def traced(pid: int, log: Path, *options: str) -> Iterator[None]:
    """Attach strace to a stopped process, and let that go on; at the end wait until strace has written all."""
    tracer = subprocess.Popen(["strace", "-qq", "-o", str(log), *options, "-p", str(pid)], stderr=subprocess.PIPE)
    try:
        wait_for(lambda: _status(pid, "TracerPid") != "0" or tracer.poll() is not None, "strace to attach")
        os.kill(pid, signal.SIGCONT)
        yield
        tracer.wait(SECONDS)
    finally:
        tracer.kill()
        _, said = tracer.communicate()
    assert tracer.returncode <= 0 or not said, said.decode()


def _no_strace() -> str | None:
    """Why strace cannot be used here, or None."""
    if shutil.which("strace") is None:
        return "strace is not installed"
    done = subprocess.run(["strace", "-o", "/dev/null", "true"], capture_output=True, text=True, check=False)
    return f"ptrace is not allowed here: {done.stderr.strip()}" if done.returncode else None


needs_strace = pytest.mark.skipif(bool(_no_strace()), reason=str(_no_strace()))


def hashes(folder: Path) -> dict[str, str]:
    """Every file below a folder and its sha256; folders as "", so that empty ones are seen too."""
    paths = sorted(folder.rglob("*"))
    return {
        path.relative_to(folder).as_posix(): "" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in paths
    }


def wait_for(condition: Callable[[], object], what: str, seconds: float = SECONDS) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {what}"
        time.sleep(0.002)


def _pids() -> list[int]:
    return [int(each.name) for each in Path("/proc").iterdir() if each.name.isdigit()]


def _stat(pid: int) -> list[str]:
    """Fields of /proc/PID/stat from the third on; empty if the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def has_ended(pid: int) -> bool:
    return _state(pid) in _DEAD


def _state(pid: int) -> str:
    return "".join(_stat(pid)[:1])


def _session(pid: int) -> int:
    return int("".join(_stat(pid)[3:4]) or 0)


def _status(pid: int, key: str) -> str:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return ""
    return next(line.split()[1] for line in lines if line.startswith(key + ":"))
