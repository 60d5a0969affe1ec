"""The same conversations give the same arrays, whatever they come in."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import FULL
from small_builds import CONVERSATIONS, GOOD, TOKENIZER, build, load, sftprep, write

from sftprep.errors import InputError
from sftprep.jobs.rederive import verify_source

Rows = list[dict[str, Any]]
SAMPLED = 80  # conversations of the corpus, of 24,196
ROWS_AT_ONCE = 100


def write_ipc(path: Path, rows: Rows, form: Any) -> None:
    table = pa.Table.from_pylist(rows)
    with pa.OSFile(str(path), "wb") as file, form(file, table.schema) as writer:
        writer.write_table(table, max_chunksize=ROWS_AT_ONCE)


def dumped(rows: Rows, **options: Any) -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False, **options) + "\n" for row in rows).encode()


CONTAINERS: dict[str, Callable[[Path, Rows], object]] = {
    "lines.jsonl": lambda path, rows: path.write_bytes(dumped(rows)),
    "packed.jsonl.gz": lambda path, rows: path.write_bytes(gzip.compress(dumped(rows), 1)),
    "array.json": lambda path, rows: path.write_text(json.dumps(rows)),
    "array.jsonl": lambda path, rows: path.write_text(json.dumps(rows, indent=1)),
    "indented.jsonl": lambda path, rows: path.write_bytes(dumped(rows, indent=2)),
    "wrapped.json": lambda path, rows: path.write_text(json.dumps({"version": 1, "data": rows})),
    "rows.parquet": lambda path, rows: pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=ROWS_AT_ONCE),
    "file.arrow": lambda path, rows: write_ipc(path, rows, pa.ipc.new_file),
    "stream.arrow": lambda path, rows: write_ipc(path, rows, pa.ipc.new_stream),
    "saved": lambda path, rows: datasets.Dataset.from_list(rows).save_to_disk(path, num_shards=2),
}


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    datasets.disable_progress_bars()
    yield
    datasets.enable_progress_bars()


@pytest.fixture
def rows(request: pytest.FixtureRequest) -> Rows:
    """Conversations of the corpus, where it is there; else of the sample."""
    if not os.environ.get("SFTPREP_DATA") and not (Path(__file__).parents[3] / "shared" / "data").is_dir():
        return [json.loads(line) for line in CONVERSATIONS.read_text().splitlines()]
    lines = request.getfixturevalue("corpus").read_text().splitlines()
    return [json.loads(line) for line in (lines if FULL else lines[:: len(lines) // SAMPLED])]


def test_equal_conversations_give_equal_arrays(tmp_path: Path, rows: Rows) -> None:
    expected: dict[str, np.ndarray] = {}
    for name, container in CONTAINERS.items():
        container(tmp_path / name, rows)
        out = tmp_path / f"out-{name}"
        build(out, str(tmp_path / name), max_length=256)
        found = {kind: load(out, kind) for kind in ("X", "Y", "mask")}
        expected = expected or found
        for kind in expected:
            assert np.array_equal(found[kind], expected[kind]), (name, kind)
    assert len(expected["X"]) > len(rows) // 2


def test_keys_of_other_rows_are_not_said(tmp_path: Path) -> None:
    """Tools, arguments of calls and parts of content, each with keys of its own."""

    def row(tool: dict[str, Any], arguments: dict[str, Any], **part: Any) -> dict[str, Any]:
        call = {"type": "function", "function": {"name": "f", "arguments": arguments}}
        asked = {"role": "user", "content": [{"type": "text", "text": "Now?"}, {"type": "text", "text": "?", **part}]}
        return {
            "messages": [
                asked,
                {"role": "assistant", "content": [{"type": "text", "text": "Yes"}], "tool_calls": [call]},
            ],
            "tools": [tool],
        }

    rows = [
        row({"name": "f", "parameters": {"a": {"type": "x"}}}, {"a": 1, "b": "c"}),
        row({"name": "g"}, {"d": [{"e": 1}, {"f": 2}]}, note={"a": 1}),
    ]
    template = tmp_path / "template.jinja"
    template.write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ (tools | tojson) if m.role == 'user' }}{{ m.content | tojson }}"
        "{{ m.tool_calls | tojson if m.tool_calls }}<|im_end|>\n{% endfor %}"
        "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    )
    arrays = []
    for name in ("lines.jsonl", "rows.parquet", "file.arrow", "saved"):
        CONTAINERS[name](tmp_path / name, rows)
        options = {"chat_template": template.read_text(), "max_length": 512}
        manifest = build(tmp_path / f"out-{name}", str(tmp_path / name), **options)
        assert manifest.totals["rows"] == 2
        arrays.append(load(tmp_path / f"out-{name}", "X"))
    for found in arrays[1:]:
        assert np.array_equal(found, arrays[0])


def test_rows_of_columnar_files_are_found_again(tmp_path: Path) -> None:
    CONTAINERS["rows.parquet"](tmp_path / "x.parquet", [GOOD, {"messages": []}, GOOD])
    manifest = build(tmp_path / "out", str(tmp_path / "x.parquet"), max_length=32)
    assert (manifest.totals["rows"], manifest.inputs[0].records) == (2, 3)
    assert json.loads((tmp_path / "out" / "rejects.jsonl").read_text())["line"] == 2
    assert verify_source(tmp_path / "out", [str(tmp_path / "x.parquet")], TOKENIZER) == []
    assert "x.parquet:3 " in sftprep("inspect", str(tmp_path / "out"), "1").stdout


@pytest.mark.parametrize("name", ["packed.jsonl.gz", "rows.parquet"])
def test_standard_input_is_as_a_file(tmp_path: Path, name: str) -> None:
    CONTAINERS[name](tmp_path / name, [GOOD] * 3)
    build(tmp_path / "expected", str(tmp_path / name), max_length=32)
    command = [sys.executable, "-m", "sftprep", "build", "-", "--input-name", name, "-o", str(tmp_path / "out")]
    with (tmp_path / name).open("rb") as file:
        subprocess.run([*command, "-t", TOKENIZER, "--max-length", "32", "-q"], stdin=file, check=True)
    for path in (tmp_path / "expected").iterdir():
        assert (tmp_path / "out" / path.name).read_bytes() == path.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["plan", "-"], "standard input can be read once only, by `sftprep build`; here, give a file"),
        (["build", "-", "-"], "given twice; standard input can be read once only"),
        (["build", "-", "--input-name", "x.csv"], "--input-name x.csv: expected the name of a file of a known kind"),
        (["build", "-", "--input-name", "a/x.jsonl"], "expected the name of a file"),
        (["build", "-", "x.jsonl", "--input-name", "x.jsonl"], "the name of a file and of standard input"),
        (["build", "-"], "no record in it"),
    ],
)
def test_standard_input_is_refused(tmp_path: Path, arguments: list[str], said: str) -> None:
    write(tmp_path / "x.jsonl", GOOD)
    command = [sys.executable, "-m", "sftprep", *arguments, "-o", "out", "-t", TOKENIZER]
    done = subprocess.run(command, cwd=tmp_path, input=b"", capture_output=True, check=False)
    assert done.returncode == 1
    assert said in done.stderr.decode()
    assert not (tmp_path / "out").exists()


def test_a_closed_standard_input_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="there is no standard input"):
        build(tmp_path / "out", "-")
