"""A build before the user's eyes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_builds import GOOD, TOKENIZER, sftprep, write

from sftprep.config import BuildConfig
from sftprep.dataset.verify import verify_dataset
from sftprep.watch.build import watched_build, watched_commit, watched_plan, watched_work
from sftprep.watch.log import show_log


def test_a_build_ends_with_the_table_or_says_that_nothing_was_to_do(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    odd = {"messages": [{**message, "id": 1} for message in GOOD["messages"]], "source": "x"}
    show_log(as_json=False)
    config = BuildConfig((write(tmp_path / "a.jsonl", odd, b"{"),), TOKENIZER)
    watched_build(config, tmp_path / "out", verbose=True)
    out, shown = capsys.readouterr()
    unread = "keys of records, ignored: source 1\nkeys of messages, passed on to the template: id 2\n"
    assert shown.endswith(f"{unread}next: sftprep inspect {tmp_path}/out\n")
    words = " ".join(shown.split())
    assert (out, "conversations 1 of 2 records" in words, "1 × not JSON" in words) == ("", True, True), shown
    assert verify_dataset(tmp_path / "out") == []
    watched_build(config, tmp_path / "out", verbose=True)
    assert capsys.readouterr().err.endswith(f"{tmp_path}/out: complete already; nothing to do\n")
    watched_commit(tmp_path / "out", config.tolerance, quiet=False, verbose=False, as_json=True)
    out, shown = capsys.readouterr()
    assert (json.loads(out)["totals"]["rejected"], "conversations 1 of 2 records" in " ".join(shown.split())) == (
        1,
        True,
    )


def test_a_quiet_build_says_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = BuildConfig((write(tmp_path / "a.jsonl", GOOD),), TOKENIZER)
    for _ in range(2):
        watched_build(config, tmp_path / "out", quiet=True)
        assert capsys.readouterr() == ("", "")


def test_a_dry_run_shows_what_would_come_of_it_and_writes_nothing(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    source = write(tmp_path / "in" / "a.jsonl", *[GOOD] * 40, b"{")
    done = sftprep("build", source, "-t", TOKENIZER, "--dry-run", "-o", str(tmp_path / "out"))
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    words = " ".join(done.stderr.split())
    assert "dry run: nothing was written conversations 40 of 41 records" in words
    assert "1 × not JSON" in words
    assert "what --max-length would cut" in words
    assert "512 0 0 0.0% " in words
    assert "rejects.jsonl" not in words
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_dry_run_for_machines(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", *[GOOD] * 4, b"{")
    done = sftprep("build", source, "-t", TOKENIZER, "--dry-run", "--json", "--quiet")
    assert (done.returncode, done.stderr) == (0, "")
    stated = json.loads(done.stdout)
    assert (stated["totals"]["conversations"], stated["rejects"][0]["count"]) == (4, 1)
    assert [each["max_length"] for each in stated["lengths"]] == [512, 1024, 2048, 4096, 8192, 16384, 32768]
    assert stated["lengths"][0]["tokens"] == stated["totals"]["tokens"]
    strict = sftprep("build", source, "-t", TOKENIZER, "--dry-run", "--json", "-q", "--max-rejects", "0")
    assert (strict.returncode, json.loads(strict.stdout)["totals"]) == (1, stated["totals"])
    assert "1 of 5 records rejected, more than 0" in strict.stderr


def test_a_build_for_machines(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", GOOD)
    for _ in range(2):  # the second has nothing to do
        done = sftprep("build", source, "-t", TOKENIZER, "-o", str(tmp_path / "out"), "--json", "-q")
        assert (done.returncode, json.loads(done.stdout)["totals"]["rows"]) == (0, 1)
    shown = json.loads(sftprep("stats", str(tmp_path / "out"), "--json").stdout)
    stated = json.loads(done.stdout)
    for name in ("totals", "rejects", "ignored_keys", "message_keys"):
        assert shown[name] == stated[name]
    assert shown["sets"]["train"].items() >= stated["sets"]["train"].items()


def test_steps_for_machines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every line of standard error is an object: what begins, what ends, and what came of it."""
    show_log(as_json=True)
    config, out = BuildConfig((write(tmp_path / "a.jsonl", GOOD, b"{"),), TOKENIZER), tmp_path / "out"
    planned, is_left = watched_plan(config, out, overwrite=False, quiet=False, tokenizer=None)
    assert (len(planned.splits), is_left) == (1, True)
    assert watched_work(out, 0, None, quiet=False) == "1 rows, 18 tokens"
    watched_commit(out, config.tolerance, quiet=False, verbose=False, as_json=False)
    said = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    steps = [(each["event"], each["step"]) for each in said if "step" in each]
    assert steps == [(event, step) for step in ("hashing the inputs", "split 0") for event in ("begin", "end")]
    assert (said[-1]["event"], said[-1]["totals"]["conversations"], said[-1]["rejects"][0]["count"]) == (
        "summary",
        1,
        1,
    )
    size = (tmp_path / "a.jsonl").stat().st_size
    assert [(each["done"], each["total"]) for each in said if each["event"] == "end"] == [(size, size)] * 2
