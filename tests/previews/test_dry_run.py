"""A build that writes nothing counts what a build counts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from small_builds import GOOD, TOKENIZER, build, write

from sftprep.batches.lengths import COUNTED, LENGTHS
from sftprep.config import BuildConfig
from sftprep.dataset.rejects import count_reasons
from sftprep.jobs.build import build_dataset
from sftprep.previews.dry_run import count_dataset


@pytest.fixture(scope="module")
def real(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Some 80 conversations and a record that is none."""
    path = tmp_path_factory.mktemp("real") / "some.jsonl"
    lines = corpus.read_bytes().splitlines(keepends=True)[::300]
    path.write_bytes(b"".join([*lines[:50], b"{\n", *lines[50:]]))
    return path


@pytest.mark.parametrize("more", [{"contexts": "served"}, {"mask": "minimind-v5"}], ids=str)
def test_it_counts_what_builds_of_every_length_hold(
    shared_data: Path, real: Path, tmp_path: Path, more: dict[str, str]
) -> None:
    tokenizer = str(shared_data / "tokenizers" / ("qwen3" if "contexts" in more else "minimind-3"))
    config = BuildConfig((str(real),), tokenizer, workers=2, max_length=2048, **more)  # type: ignore[arg-type]
    manifest, counts = count_dataset(config)
    whole = build_dataset(config, tmp_path / "whole")
    assert manifest.totals == whole.totals
    assert (manifest.inputs, manifest.fingerprint) == (whole.inputs, whole.fingerprint)
    assert counts.reasons == count_reasons(tmp_path / "whole" / "rejects.jsonl")
    if "mask" in more:
        return  # that project's loop trains padding, too
    examples: set[int] = set()
    for length, found in list(zip(LENGTHS, counts.lengths.tolist(), strict=True))[:4:3]:
        totals = build_dataset(replace(config, max_length=length), tmp_path / str(length)).totals
        named = dict(zip(COUNTED, found, strict=True))
        examples.add(named.pop("dropped") + totals["examples"])
        assert named == {name: totals[name] for name in named}
    assert len(examples) == 1


def test_it_is_the_same_for_any_number_of_workers_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = write(tmp_path / "in" / "a.jsonl", *[GOOD, b"{", GOOD] * 3000)
    found = [count_dataset(BuildConfig((source,), TOKENIZER, workers=workers)) for workers in (1, 3)]
    (manifest, counts), (other, others) = found
    assert manifest == other
    assert (counts.totals, counts.reasons, counts.lengths.tolist()) == (
        others.totals,
        others.reasons,
        others.lengths.tolist(),
    )
    assert [each.name for each in tmp_path.iterdir()] == ["in"]


def test_a_limit_reads_the_first_records_of_all_inputs(tmp_path: Path) -> None:
    files = [write(tmp_path / name, GOOD, b"{", GOOD) for name in ("a.jsonl", "b.jsonl")]
    records = [count_dataset(BuildConfig(tuple(files), TOKENIZER, limit=n))[0].totals for n in range(1, 8)]
    assert [(each["records"], each["rejected"]) for each in records] == [
        (1, 0),
        (2, 1),
        (3, 1),
        (4, 1),
        (5, 2),
        (6, 2),
        (6, 2),
    ]
    manifest = build(tmp_path / "out", *files, limit=4)
    assert manifest.totals["conversations"] == 3


@pytest.mark.parametrize("sets", [{"validation": "30%"}, {"validation_input": "v.jsonl", "limit": 4}], ids=str)
def test_sets_and_repeats_are_those_of_a_build(tmp_path: Path, sets: dict[str, Any]) -> None:
    def says(text: str) -> dict[str, Any]:
        return {"messages": [{"role": "user", "content": text}, GOOD["messages"][1]]}

    source = write(tmp_path / "a.jsonl", *(says(text) for text in ("a", "b", "a", "B", "c", "d", "A ", "e")))
    held_out = write(tmp_path / "v.jsonl", says("b"), says("a  "), b"{", says("c"), says("d"))
    if "validation_input" in sets:
        sets = {**sets, "validation_input": (held_out,)}
    config = BuildConfig((source,), TOKENIZER, deduplicate=True, max_length=64, **sets)
    manifest, _ = count_dataset(config)
    built = build_dataset(config, tmp_path / "out")
    assert (manifest.totals, manifest.sets) == (built.totals, built.sets)
    assert built.totals["near_copies"] > 0
    if "limit" in sets:  # of each set
        assert (built.totals["records"], built.sets["validation"]["rows"]) == (8, 3)
