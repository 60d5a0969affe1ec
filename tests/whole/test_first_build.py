"""The first build with a tokenizer: Transformers is asked, engines are compared, and whatever happens meanwhile, the bytes are
those of any other build."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from faults.builds import Builds, Lab, Running, hashes, laboratory, wait_for


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """Its expected dataset is made by the reference."""
    with laboratory(tmp_path_factory.mktemp("first")) as lab:
        yield lab


@pytest.fixture
def builds(cache: Path, tmp_path: Path) -> Iterator[Builds]:
    """Builds that know of no tokenizer."""
    builds = Builds(tmp_path, cache)
    yield builds
    builds.close()


def is_asked(running: Running, cache: Path) -> bool:
    """Whether a process is there that asks Transformers."""
    return len(running.processes()) == 2 and not cache.exists()


def has_answered(running: Running, cache: Path) -> bool:
    return bool(list(cache.glob("tokenizer-*")))


def compares(running: Running, cache: Path) -> bool:
    return has_answered(running, cache) and len(running.processes()) == 2


@pytest.mark.parametrize("moment", [is_asked, has_answered, compares])
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_it_is_ended_and_begun_again(
    moment: Callable[[Running, Path], bool], number: signal.Signals, builds: Builds, lab: Lab, out: Path, cache: Path
) -> None:
    command = lab.command(out, "--tokenizer-engine", "fast")
    running = builds.start(*command)
    wait_for(lambda: moment(running, cache), "its moment")
    if number == signal.SIGINT:  # as a terminal does
        os.killpg(running.pid, number)
    else:
        os.kill(running.pid, number)
    ended = builds.end(running)  # with all its processes
    assert (ended.code, "Traceback" in ended.output) == ({2: 130, 15: 143, 9: -9}[number], False), ended.output
    assert not list(out.parent.rglob("shard-*"))
    ended = builds.run(*command)
    assert ended.code == 0, ended.output
    assert "tokenizer engine fast" in ended.output
    assert hashes(out) == lab.expected


def test_two_at_once(builds: Builds, lab: Lab, out: Path, cache: Path) -> None:
    places = [out.with_name(name) for name in ("one", "two")]
    both = [builds.start(*lab.command(place, "--tokenizer-engine", "fast")) for place in places]
    for running, place in zip(both, places, strict=True):
        ended = builds.end(running)
        assert ended.code == 0, ended.output
        assert hashes(place) == lab.expected
    assert sorted(path.name.partition("-")[0] for path in cache.iterdir()) == ["engines", "places", "tokenizer"]


def test_a_cache_that_keeps_nothing(lab: Lab, out: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    builds = Builds(tmp_path, tmp_path / "file")
    for engine in ("fast", "hf"):
        ended = builds.run(*lab.command(out, "--tokenizer-engine", engine, "--overwrite"))
        assert ended.code == 0, ended.output
        assert "asking Transformers about the tokenizer" in ended.output
        assert "comparing" in ended.output
        assert hashes(out) == lab.expected
    builds.close()
