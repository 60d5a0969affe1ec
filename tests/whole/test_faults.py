"""Whatever happens to a build, its folder holds a whole dataset or none, and the same command again makes it whole.

Faults are injected by strace at the N-th call of a kind, in the command's main process or in its first worker process:
death, a full disk, a broken one, signals. A worker that is to meet a fault is the only one: then it meets it, however
the machine shares out its time. By default at a few N spread over the build; SFTPREP_FAULTS=full (`make
faults`) takes every N until the build completes untouched.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest
from faults.builds import ALONE, Ended, Lab, hashes, laboratory, needs_strace, traced

from sftprep.errors import DatasetError
from sftprep.reader.dataset import ShardDataset

FULL = os.environ.get("SFTPREP_FAULTS") == "full"

# one kind of call has several names; "?": not on every architecture
CALLS = {
    "openat": "openat",
    "write": "write,pwrite64",
    "fallocate": "fallocate",
    "ftruncate": "ftruncate",
    "fsync": "fsync",
    "close": "close",
    "rename": "?rename,?renameat,?renameat2",
    "mkdir": "?mkdir,?mkdirat",
    "unlink": "?unlink,?unlinkat,?rmdir",
}
DEATH, FULL_DISK, BROKEN_DISK = "signal=KILL", "error=ENOSPC", "error=EIO"
DEADLY = [call for call in CALLS if call != "close"]  # a close changes nothing on the disk
FAILING = ["write", "fallocate", "fsync", "close", "rename"]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with laboratory(tmp_path_factory.mktemp("faults")) as lab:
        yield lab


@pytest.fixture(scope="module")
def sets_lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Builds with a validation set that first look for repeats: that is what the first worker does."""
    with laboratory(tmp_path_factory.mktemp("sets"), options=("--validation", "20%", "--deduplicate")) as lab:
        assert any(name.startswith("validation-") for name in lab.expected)
        yield lab


@dataclass(frozen=True)
class Case:
    """A build with strace at one of its processes: "main" or the first "worker". `more` are further options; with
    --overwrite the folder holds an older dataset."""

    lab: Lab
    name: str
    target: str
    more: tuple[str, ...] = ()

    @property
    def out(self) -> Path:
        return self.lab.folder / self.name / "out"

    @property
    def log(self) -> Path:
        return self.lab.folder / f"{self.name}.log"

    def build(self, *strace: str) -> Ended:
        self.out.parent.mkdir()
        if "--overwrite" in self.more:
            shutil.copytree(self.lab.folder / "old", self.out)
        alone = ALONE if self.target == "worker" else ()
        running = self.lab.builds.start(*self.lab.command(self.out, *self.more, *alone), stop=self.target)
        pid = running.pid if self.target == "main" else running.worker()
        threads = ["-f"] if self.target == "worker" else []
        with traced(pid, self.log, *threads, *strace):
            return self.lab.builds.end(running)

    def inject(self, call: str, fault: str, number: int) -> Ended | None:
        """Let the `number`-th call of a kind meet a fault. None if the build completed before it came to that."""
        shown = f"{CALLS[call]},{CALLS['rename']}"
        ended = self.build("-e", f"trace={shown}", "-e", f"inject={CALLS[call]}:{fault}:when={number}")
        if re.search(r"\(INJECTED\)|killed by SIG|--- SIG(INT|TERM)", self.log.read_text()):
            return ended
        assert ended.code == 0, ended.output
        return None

    def check_whole_or_none(self) -> bool:
        """Whether the reader sees a dataset; if it does, all its files are there and right."""
        try:
            names = {*ShardDataset(self.out).manifest.files, "manifest.json"}
        except DatasetError:
            assert not (self.out / "manifest.json").exists()
            return False
        files = {name: digest for name, digest in hashes(self.out).items() if name in names}
        assert files in ([self.lab.expected, self.lab.old] if "--overwrite" in self.more else [self.lab.expected])
        return True

    def check_rerun(self) -> None:
        """The same command again gives the same bytes, and leaves nothing else."""
        ended = self.lab.builds.run(*self.lab.command(self.out, *self.more))
        assert ended.code == 0, ended.output
        self.check_done()

    def check_done(self) -> None:
        assert hashes(self.out) == self.lab.expected
        assert [each.name for each in self.out.parent.iterdir()] == ["out"]
        shutil.rmtree(self.out.parent)


def sweep(check: Callable[[Case, Ended], None], lab: Lab, call: str, fault: str, target: str, *more: str) -> None:
    """Check builds with a fault at one call each: at every call until a build completes untouched, or at a few."""
    wrong, met, untouched = [], 0, 0
    for number in count(1) if FULL else few_points(lab, call, target, *more):
        case = Case(lab, f"{target}{''.join(more)}-{call}-{fault}-{number}", target, more)
        ended = case.inject(call, fault, number)
        try:
            if ended is None:
                case.check_done()
            else:
                check(case, ended)
        except AssertionError as error:
            wrong.append(f"{case.name}: {error}")
        met, untouched = (met, untouched + 1) if ended is None else (met + 1, 0)
        if untouched == 2:  # which thread does what is not always the same: one is not yet the end
            break
    print(f"{target} {' '.join(more)}: {met} times {fault} at {call}")
    assert met
    assert not wrong, "\n\n".join(wrong)


def few_points(lab: Lab, call: str, target: str, *more: str) -> list[int]:
    name = f"{target}{''.join(more)}-counted"
    if name not in lab.calls:
        case = Case(lab, name, target, more)
        assert case.build("-e", "trace=" + ",".join(CALLS.values())).code == 0
        case.check_done()
        calls = re.findall(r"^(\d+ +)?(\w+)\(", case.log.read_text(), re.MULTILINE)
        lab.calls[name] = Counter()
        for (_, each), times in Counter(calls).items():  # strace counts by thread and name
            lab.calls[name][each] = max(lab.calls[name][each], times)
    most = max(lab.calls[name][each] for each in CALLS[call].replace("?", "").split(","))
    points = {most // 2, most} if target == "main" and not more else {most // 2 or most}
    return sorted(points - {0})


def check_killed(case: Case, ended: Ended) -> None:
    assert ended.code == -9
    case.check_whole_or_none()
    case.check_rerun()


def check_killed_overwriting(case: Case, ended: Ended) -> None:
    assert ended.code == -9
    assert case.check_whole_or_none()
    case.check_rerun()


def check_retried(case: Case, ended: Ended) -> None:
    assert ended.code == 0, ended.output
    receipts = set(re.findall(r'/receipts/\d[^"/]*"', case.log.read_text()))
    assert "killed by SIGKILL" in ended.output or len(receipts) == len(case.lab.inputs)  # or all was done
    case.check_done()


def check_failed(case: Case, ended: Ended) -> None:
    """An error that names a path, and no dataset; or, where the call did not matter, no error and a whole one."""
    assert "Traceback" not in ended.output, ended.output
    if ended.code == 0:
        case.check_done()
        return
    assert ended.code == 1, ended.output
    place = "" if "-close-" in case.name else r"\S*/\S*: "  # it may be a pipe that is closed, which has no name
    mute = re.search(r"write\(2, .*INJECTED", case.log.read_text())  # strace counts write and pwrite64 by themselves
    assert mute or re.search(rf"^Error: {place}\S", ended.output, re.MULTILINE), ended.output
    whole = case.check_whole_or_none()
    assert whole == ("--overwrite" in case.more) or (whole and "-close-" in case.name)
    case.check_rerun()


def check_stopped(case: Case, ended: Ended) -> None:
    assert "Traceback" not in ended.output, ended.output
    if ended.code == 0:  # all was done
        case.check_done()
        return
    assert ended.code in (130, 143)
    case.check_whole_or_none()
    assert not list(case.out.rglob(".tmp-*"))
    case.check_rerun()


@needs_strace
@pytest.mark.parametrize("call", DEADLY)
def test_killed(lab: Lab, call: str) -> None:
    sweep(check_killed, lab, call, DEATH, "main")


@needs_strace
@pytest.mark.parametrize("call", DEADLY if FULL else ["write", "rename", "unlink"])
def test_killed_while_it_overwrites(lab: Lab, call: str) -> None:
    sweep(check_killed_overwriting, lab, call, DEATH, "main", "--overwrite")


@needs_strace
@pytest.mark.parametrize("call", [call for call in DEADLY if call != "mkdir"] if FULL else ["write", "fsync", "rename"])
def test_a_killed_worker_costs_a_retry(lab: Lab, call: str) -> None:
    sweep(check_retried, lab, call, DEATH, "worker")


@needs_strace
@pytest.mark.parametrize("call", DEADLY if FULL else ["fsync", "unlink"])
def test_killed_with_sets_and_repeats(sets_lab: Lab, call: str) -> None:
    sweep(check_killed, sets_lab, call, DEATH, "main")


@needs_strace
@pytest.mark.parametrize("call", ["write", "fsync", "rename"] if FULL else ["rename"])
def test_a_killed_reader_costs_a_retry(sets_lab: Lab, call: str) -> None:
    sweep(check_retried, sets_lab, call, DEATH, "worker")


def test_killed_between_looking_for_repeats_and_the_work(sets_lab: Lab) -> None:
    case = Case(sets_lab, "between", "worker")
    case.out.parent.mkdir()
    command = sets_lab.command(case.out)
    planned = sets_lab.builds.run("plan", *command[1:])
    assert planned.code == 0, planned.output
    found = {path.name: path.read_bytes() for path in (case.out / "keys").iterdir()}
    assert found.keys() == {f"{task:05d}.{what}" for task in range(3) for what in ("contents", "repeats")}
    running = sets_lab.builds.start(*command, *ALONE, stop="worker")  # nothing is read again: it is at the work
    worker = running.worker()
    os.kill(running.pid, signal.SIGKILL)
    os.kill(worker, signal.SIGCONT)
    assert sets_lab.builds.end(running).code == -9
    (case.out / "keys" / "00001.repeats").write_bytes(found["00001.repeats"][:-1])
    (case.out / "keys" / "00002.contents").unlink()
    case.check_rerun()


@needs_strace
@pytest.mark.parametrize("target", ["main", "worker"])
@pytest.mark.parametrize("fault", [FULL_DISK, BROKEN_DISK])
@pytest.mark.parametrize("call", FAILING)
def test_failed(lab: Lab, call: str, fault: str, target: str) -> None:
    sweep(check_failed, lab, call, fault, target)


@needs_strace
@pytest.mark.parametrize("call", FAILING if FULL else ["write", "rename"])
def test_failed_while_it_overwrites(lab: Lab, call: str) -> None:
    sweep(check_failed, lab, call, FULL_DISK, "main", "--overwrite")


@needs_strace
@pytest.mark.parametrize("name", ["INT", "TERM"])
@pytest.mark.parametrize("call", ["openat", "fsync", "close"])
def test_stopped_by_a_signal(lab: Lab, call: str, name: str) -> None:
    sweep(check_stopped, lab, call, f"signal={name}", "main")


@dataclass(frozen=True)
class Event:
    """A call in a log of strace: from line `begin` to line `end`."""

    call: str
    arguments: str
    begin: int
    end: int

    @property
    def paths(self) -> list[str]:
        return re.findall(r'[<"]([^<>"]+)[>"]', self.arguments)


def events(log: str) -> list[Event]:
    found, begun = [], {}
    for number, line in enumerate(log.splitlines()):
        if match := re.match(r"(\d+) +(\w+)\((.*) <unfinished \.\.\.>", line):
            begun[match[1]] = (match[2], match[3], number)
        elif match := re.match(r"(\d+) +<\.\.\. (\w+) resumed>(.*)\) += 0", line):
            call, arguments, begin = begun.pop(match[1])
            found.append(Event(call, arguments + match[3], begin, number))
        elif match := re.match(r"(\d+) +(\w+)\((.*)\) += 0", line):
            found.append(Event(match[2], match[3], number, number))
    return found


@needs_strace
@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_named_is_on_the_disk(lab: Lab, out: Path, overwrite: bool) -> None:
    """A file is fsynced before it gets its name, its folder after, and all that before the manifest gets its name."""
    if overwrite:
        shutil.copytree(lab.folder / "old", out)
    running = lab.builds.start(*lab.command(out, *["--overwrite"] * overwrite), stop="main")
    log = lab.folder / "order.log"
    with traced(running.pid, log, "-f", "-y", "-s", "4096", "-e", "trace=fsync,fdatasync,?rename,?renameat,?renameat2"):
        assert lab.builds.end(running).code == 0
    assert hashes(out) == lab.expected
    found = events(log.read_text())
    syncs = [(each.paths[0], each.begin, each.end) for each in found if "sync" in each.call]
    place = out.parent / ".out.new" if overwrite else out
    renames = [each for each in found if "rename" in each.call and "RENAME_EXCHANGE" not in each.arguments]
    names = {each.paths[-1]: each for each in renames if Path(each.paths[-1]).is_relative_to(place)}  # the cache aside
    manifest = names[str(place / "manifest.json")]
    assert {Path(name).relative_to(place).as_posix() for name in names} >= set(lab.expected)
    for name, rename in names.items():
        assert any(path == rename.paths[0] and end < rename.begin for path, _, end in syncs), name
        folder = [(begin, end) for path, begin, end in syncs if path == str(Path(name).parent) and begin > rename.end]
        assert folder, name
        assert rename is manifest or folder[0][1] < manifest.begin, name
    if overwrite:
        exchange = next(each for each in found if "RENAME_EXCHANGE" in each.arguments)
        assert any(path == str(place) and manifest.end < begin and end < exchange.begin for path, begin, end in syncs)
        assert any(path == str(out.parent) and begin > exchange.end for path, begin, _ in syncs)
