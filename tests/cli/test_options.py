"""Options of a call: what is refused before anything is done, and what is no part of a dataset."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

from sftprep.cli.commands import main
from sftprep.cli.options import _bytes
from sftprep.config import BuildConfig
from sftprep.dataset.manifest import load_manifest

SAMPLE = Path(str(files("sftprep") / "sample"))
INPUT, TOKENIZER = str(SAMPLE / "conversations.jsonl"), str(SAMPLE / "tokenizer")


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["build", INPUT, "-t", TOKENIZER, "-o", "s3://bucket/out"], "s3://bucket/out: datasets behind s3://"),
        (["plan", INPUT, "-t", TOKENIZER, "-o", "GS://bucket/out"], "GS://bucket/out: datasets behind gs://"),
        (["build", "--config", "job.toml"], "hf://datasets/x: datasets behind hf://"),
        (["demo", "-o", "s3://demo"], "s3://demo: datasets behind s3://"),
        (["work", "s3://bucket/out", "--task", "0"], "s3://bucket/out: datasets behind s3://"),
        (["commit", "s3://bucket/out"], "s3://bucket/out: datasets behind s3://"),
        (["inspect", "file:///out"], "file:///out: datasets behind file://"),
        (["verify", "s3://bucket/out"], "s3://bucket/out: datasets behind s3://"),
        (["build", INPUT, "s3://b/*.jsonl", "-t", "no/tokenizer", "-o", "out"], "s3://b/*.jsonl: inputs behind s3://"),
        (
            ["plan", "https://host/x.jsonl", "-t", TOKENIZER, "-o", "out"],
            "https://host/x.jsonl: inputs behind https://",
        ),
    ],
)
def test_addresses_are_refused_before_anything_is_done(
    arguments: list[str], what: str, tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "job.toml").write_text(f"inputs = ['{INPUT}']\ntokenizer = '{TOKENIZER}'\noutput = 'hf://datasets/x'\n")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    arguments = [str(tmp_path / each) if each == "job.toml" else each for each in arguments]
    ended = CliRunner().invoke(main, arguments)
    assert (ended.exit_code, ended.output.startswith(f"Error: {what}")) == (2, True), ended.output
    assert list(Path().iterdir()) == []
    assert not cache.exists()


@pytest.mark.parametrize(
    ("text", "expected"),
    [("1000", 1000), ("64MiB", 64 << 20), ("1GB", 10**9), ("2 k", 2000), ("3kib", 3072), ("7B", 7)],
)
def test_sizes_may_have_a_unit(text: str, expected: int) -> None:
    assert _bytes(text) == _bytes(expected) == expected


@pytest.mark.parametrize("text", ["", "MiB", "-5", "1.5GB", "5 apples", "0"])
def test_what_is_no_size_is_refused(text: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    ended = CliRunner().invoke(main, ["build", INPUT, "-t", TOKENIZER, "-o", str(out), "--max-record-bytes", text])
    assert (ended.exit_code, "--max-record-bytes" in ended.output, out.exists()) == (2, True, False)


def test_a_size_and_the_name_of_standard_input_are_options_as_others(tmp_path: Path) -> None:
    """The first decides what is in the dataset, the second is of the call."""
    config = BuildConfig(("-",), TOKENIZER, max_record_bytes=5000, input_name="x.parquet")
    assert config.selection.most == config.content_options()["max_record_bytes"] == 5000
    assert "input_name" not in config.planned_options()
    (tmp_path / "job.toml").write_text("max-record-bytes = '5 kB'\nmax-length = 16\n")
    build = ["build", INPUT, "-t", TOKENIZER, "-o", str(tmp_path / "out"), "--config", str(tmp_path / "job.toml")]
    assert CliRunner().invoke(main, [*build, "--max-record-bytes", "300"]).exit_code == 0
    manifest = load_manifest(tmp_path / "out")
    assert manifest.config["max_record_bytes"] == 300
    assert 0 < manifest.totals["rejected"] < manifest.totals["records"]
    refused = CliRunner().invoke(main, build)
    assert "another option max-record-bytes (300, now 5000)" in refused.output


def test_strict_is_of_the_call(tmp_path: Path, cache: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "chat.jsonl").write_bytes(Path(INPUT).read_bytes())
    (folder / "chat.tsv").write_bytes(b"")
    (folder / ".notes").write_bytes(b"")
    build = ["build", str(folder), "-t", TOKENIZER, "-o", str(out), "--workers", "1"]
    refused = CliRunner().invoke(main, [*build, "--strict"])
    assert refused.exit_code == 1
    assert f"1 .tsv (such as {folder}/chat.tsv)" in refused.output
    assert not out.exists()
    planned = CliRunner().invoke(main, ["plan", *build[1:-2]])
    assert planned.exit_code == 0, planned.output
    assert CliRunner().invoke(main, [*build, "--strict"]).exit_code == 1  # whatever the plan was made with
    (folder / "chat.tsv").unlink()
    assert CliRunner().invoke(main, [*build, "--strict"]).exit_code == 0
    assert "strict" not in BuildConfig((INPUT,), TOKENIZER, strict=True).content_options()
