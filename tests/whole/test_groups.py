"""What a record has under the key of --by goes with it, wherever records are read from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_builds import GOOD, TOKENIZER, build, rejects, write

from sftprep.containers.record import MOST_GROUP
from sftprep.dataset.origins import Origins, read_origins
from sftprep.dataset.verify import verify_dataset
from sftprep.jobs.rederive import verify_source

MUTE = {"messages": GOOD["messages"][:1]}
OTHER = {"messages": [GOOD["messages"][0], {**GOOD["messages"][1], "content": "Hi!"}]}
ROWS = [
    {**GOOD, "source": "web"},
    {**OTHER, "source": "book é"},
    {**GOOD, "source": "web"},
    {**MUTE, "source": "muted"},
    {"messages": [], "source": "broken"},
    {**OTHER},
    {**OTHER, "source": None},
    {**OTHER, "source": "x" * 150},
]
KEPT = ["web", "book é", "web", "", "", "x" * MOST_GROUP]


def as_jsonl(path: Path, rows: list[dict[str, Any]]) -> str:
    return write(path.with_suffix(".jsonl"), *rows)


def as_array(path: Path, rows: list[dict[str, Any]]) -> str:
    path.with_suffix(".json").write_text(json.dumps(rows, ensure_ascii=False, indent=1))
    return str(path.with_suffix(".json"))


def as_parquet(path: Path, rows: list[dict[str, Any]]) -> str:
    pq.write_table(pa.Table.from_pylist(rows), path.with_suffix(".parquet"))
    return str(path.with_suffix(".parquet"))


def as_arrow(path: Path, rows: list[dict[str, Any]]) -> str:
    table = pa.Table.from_pylist(rows)
    table = table.set_column(table.column_names.index("source"), "source", table["source"].dictionary_encode())
    with pa.ipc.new_file(str(path.with_suffix(".arrow")), table.schema) as file:
        file.write_table(table)
    return str(path.with_suffix(".arrow"))


def origins(folder: Path) -> Origins:
    path = folder / "shard-00000.provenance.parquet"
    return read_origins(path, path.stat().st_size, pq.ParquetFile(path).metadata.num_rows)


@pytest.mark.parametrize("save", [as_jsonl, as_array, as_parquet, as_arrow])
def test_groups_are_kept(tmp_path: Path, save: Any) -> None:
    source, out = save(tmp_path / "a", ROWS), tmp_path / "out"
    manifest = build(out, source, by="source")
    assert origins(out)["group"].tolist() == KEPT
    assert [each["group"] for each in rejects(out)] == ["muted", "broken"]
    assert (manifest.config["by"], dict(manifest.ignored_keys)) == ("source", {})
    assert verify_dataset(out) == []
    assert verify_source(out, [source], TOKENIZER) == []
    plain = tmp_path / "plain"
    build(plain, source)
    assert set(origins(plain)["group"]) == {""}
    assert all("group" not in each for each in rejects(plain))
    assert origins(plain)["record_key"].tolist() == origins(out)["record_key"].tolist()


def test_a_repeat_has_its_group(tmp_path: Path) -> None:
    source = as_jsonl(tmp_path / "a", [{**ROWS[0], "n": 1}, {**ROWS[0], "source": "copy"}])
    build(tmp_path / "out", source, by="source", deduplicate=True)
    assert [(each["kind"], each["group"]) for each in rejects(tmp_path / "out")] == [("duplicate", "copy")]


@pytest.mark.parametrize(
    ("value", "name"),
    [(3, "3"), (2.5, "2.5"), (True, "true"), ([1], ""), ({"a": "b"}, ""), ("", ""), ("\x1b[2J\n", "\x1b[2J\n")],
)
def test_what_names_a_group(tmp_path: Path, value: Any, name: str) -> None:
    build(tmp_path / "out", as_jsonl(tmp_path / "a", [{**GOOD, "k": value}]), by="k")
    assert origins(tmp_path / "out")["group"].tolist() == [name]


def test_a_lone_surrogate_is_none_that_a_file_can_hold(tmp_path: Path) -> None:
    line = json.dumps({**GOOD, "k": "a\ud800b"}).encode()
    build(tmp_path / "out", write(tmp_path / "a.jsonl", line), by="k")
    assert origins(tmp_path / "out")["group"].tolist() == ["a?b"]


def test_columns_that_name_nothing(tmp_path: Path) -> None:
    """Of a type that no group has, or not there at all."""
    rows = [{**GOOD, "k": b"\xff", "n": 7}]
    source = as_parquet(tmp_path / "a", rows)
    for key, name in (("k", ""), ("gone", ""), ("n", "7")):
        build(tmp_path / key, source, by=key)
        assert origins(tmp_path / key)["group"].tolist() == [name]
