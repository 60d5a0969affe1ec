"""Fixtures shared by all rooms' tests."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from faults.builds import Lab

    from sftprep.tokens.resolve import ResolvedTokenizer

FULL = bool(os.environ.get("SFTPREP_FULL"))  # the whole corpus, and other random examples each time; takes an hour
# How fast a machine is must not decide whether a test passes.
settings.register_profile(
    "patient", deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
settings.register_profile("steady", settings.get_profile("patient"), derandomize=True, database=None, max_examples=50)
FUZZ = int(
    os.environ.get("SFTPREP_FUZZ") or 0
)  # so many random examples of each test, and others each time: `make fuzz`
settings.register_profile("fuzz", settings.get_profile("patient"), max_examples=FUZZ or 100)
settings.load_profile("fuzz" if FUZZ else "patient" if FULL else "steady")

TOKENIZERS = ("minimind-2", "minimind-3", "qwen3", "llama3_1", "deepseek_v3")


def shared_data_folder() -> Path | None:
    """Real tokenizers and conversations: $SFTPREP_DATA, else ../shared/data beside the checkout."""
    folder = Path(os.environ.get("SFTPREP_DATA", Path(__file__).parents[2] / "shared" / "data"))
    return folder if folder.is_dir() else None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    folder = shared_data_folder()
    if folder is None:
        pytest.skip("needs the shared data folder (set SFTPREP_DATA)")
    return folder


@pytest.fixture(scope="session")
def corpus(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The mixed corpus, unpacked: 24,196 conversations in MiniMind's form."""
    zstandard = pytest.importorskip("zstandard")
    target = tmp_path_factory.mktemp("corpus") / "mixed-24k.jsonl"
    with (shared_data / "conversations" / "mixed-24k.jsonl.zst").open("rb") as packed, target.open("wb") as out:
        zstandard.ZstdDecompressor().copy_stream(packed, out)
    return target


@pytest.fixture(autouse=True)
def log_as_it_was() -> Iterator[None]:
    """A test may say where the log goes."""
    log = logging.getLogger("sftprep")
    before = log.handlers[:], log.level
    yield
    log.handlers[:], log.level = before


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own, instead of the user's."""
    monkeypatch.setenv("SFTPREP_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def resolved(tmp_path: Path) -> ResolvedTokenizer:
    """A small byte-level tokenizer."""
    from small_tokenizer import resolve, train

    return resolve(train(), tmp_path)


@pytest.fixture
def out(lab: Lab, request: pytest.FixtureRequest) -> Iterator[Path]:
    """A place for a dataset, in a folder of its own on the disk of the module's laboratory (`faults.builds`)."""
    folder = lab.folder / request.node.name.replace("/", "-")
    folder.mkdir()
    yield folder / "out"
    shutil.rmtree(folder)
