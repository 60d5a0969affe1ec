"""Options of a call: what is refused before anything is done, and what is no part of a dataset."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import pytest
from click.testing import CliRunner

from sftprep.cli.commands import main
from sftprep.config import BuildConfig

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


def test_strict_is_of_the_call(tmp_path: Path, cache: Path) -> None:
    folder, out = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    (folder / "chat.jsonl").write_bytes(Path(INPUT).read_bytes())
    (folder / "chat.parquet").write_bytes(b"")
    (folder / ".notes").write_bytes(b"")
    build = ["build", str(folder), "-t", TOKENIZER, "-o", str(out), "--workers", "1"]
    refused = CliRunner().invoke(main, [*build, "--strict"])
    assert refused.exit_code == 1
    assert f"1 .parquet (such as {folder}/chat.parquet)" in refused.output
    assert not out.exists()
    planned = CliRunner().invoke(main, ["plan", *build[1:-2]])
    assert planned.exit_code == 0, planned.output
    assert CliRunner().invoke(main, [*build, "--strict"]).exit_code == 1  # whatever the plan was made with
    (folder / "chat.parquet").unlink()
    assert CliRunner().invoke(main, [*build, "--strict"]).exit_code == 0
    assert "strict" not in BuildConfig((INPUT,), TOKENIZER, strict=True).content_options()
