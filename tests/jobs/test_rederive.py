"""Rows are derived anew from what they were made of."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from small_builds import GOOD, TOKENIZER, build, sftprep, write
from small_dataset import parquet, rewrite

from sftprep.dataset.verify import Problem, verify_dataset
from sftprep.jobs.rederive import verify_source


def test_rows_are_derived_anew_by_the_command(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", GOOD, GOOD)
    build(tmp_path / "out", source)
    options = ["--source", source, "-t", TOKENIZER]
    sound = sftprep("verify", str(tmp_path / "out"), *options)
    assert (sound.returncode, "derived anew" in " ".join(sound.stderr.split())) == (0, True), sound.stderr
    write(tmp_path / "a.jsonl", GOOD, GOOD, GOOD)
    changed = sftprep("verify", str(tmp_path / "out"), *options)
    assert (changed.returncode, "internal error" in changed.stderr) == (1, False), changed.stderr


def test_what_a_dataset_says_of_its_records_is_derived_anew(tmp_path: Path) -> None:
    source, out, name = write(tmp_path / "a.jsonl", GOOD, GOOD), tmp_path / "out", "shard-00000.provenance.parquet"
    manifest = build(out, source)
    table = pq.read_table(out / name)
    for column, values in (("tools", [False, True]), ("turns", pa.array([1, 2], pa.int32()))):
        table = table.set_column(table.column_names.index(column), column, pa.array(values))
    rewrite(out, manifest, name, parquet(table))
    assert verify_dataset(out) == []
    assert verify_source(out, [source], TOKENIZER) == [
        Problem(name, "segment 1: turns, tools: not what its record gives now")
    ]
