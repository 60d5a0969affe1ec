"""Limits, and leave to run code, are of the call that states them. There are 6 rejects among 151 records."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from faults.builds import SAMPLE, Lab, hashes, laboratory


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with laboratory(tmp_path_factory.mktemp("calls")) as lab:
        yield lab


def test_limits_are_of_the_call(lab: Lab, out: Path) -> None:
    ended = lab.builds.run(*lab.command(out, "--max-rejects", "0"))
    assert ended.code == 1
    assert "6 of 151 records rejected, more than 0" in ended.output
    assert not (out / "manifest.json").exists()
    ended = lab.builds.run(*lab.command(out, "--max-rejects", "5"))
    assert (ended.code, "more than 5" in ended.output) == (1, True)
    assert lab.builds.run(*lab.command(out, "--max-rejects", "6")).code == 0
    assert hashes(out) == lab.expected
    for stricter in (["--max-rejects", "5"], ["--max-rejects", "1%"], ["--on-error", "stop"]):
        ended = lab.builds.run(*lab.command(out, *stricter))
        assert (ended.code, "records rejected" in ended.output) == (1, True), ended.output
        assert hashes(out) == lab.expected
    assert lab.builds.run(*lab.command(out)).code == 0


def test_a_limit_that_failed_is_got_past_by_overwriting_too(lab: Lab, out: Path) -> None:
    assert lab.builds.run(*lab.command(out, "--max-rejects", "0", "--overwrite")).code == 1
    assert lab.builds.run(*lab.command(out, "--overwrite")).code == 0
    assert hashes(out) == lab.expected


def test_steps_have_limits_of_their_own(lab: Lab, out: Path) -> None:
    """Whatever the plan was given: it keeps none of them."""
    strict = ["--max-rejects", "0", "--on-error", "stop", "--workers", "7", "--trust-remote-code"]
    assert lab.builds.run("plan", *lab.command(out, *strict)[1:]).code == 0
    planned = json.loads((out / "plan.json").read_text())["config"]
    assert not planned.keys() & {"max_rejects", "on_error", "workers", "trust_remote_code", "strict"}
    ended = lab.builds.run("work", str(out), "--task", "0", "--on-error", "stop")
    assert ended.code == 1
    assert "chat-0.jsonl:11: not JSON" in ended.output
    assert not list(out.rglob(".tmp-*"))
    for task in "012":
        assert lab.builds.run("work", str(out), "--task", task).code == 0
    for refused in (["--max-rejects", "5"], ["--on-error", "stop"]):
        ended = lab.builds.run("commit", str(out), *refused)
        assert (ended.code, "records rejected" in ended.output) == (1, True)
    for task, code in (("0", 1), ("2", 1)):
        ended = lab.builds.run("work", str(out), "--task", task, "--on-error", "stop")
        assert (ended.code, "2 of 50 records rejected, and --on-error is stop" in ended.output) == (code, True)
    assert lab.builds.run("commit", str(out), "--max-rejects", "4%").code == 0
    assert lab.builds.run("work", str(out), "--task", "0", "--on-error", "stop").code == 1
    assert lab.builds.run("work", str(out), "--task", "0").code == 0
    assert hashes(out) == lab.expected
    assert lab.builds.run("commit", str(out), "--max-rejects", "0").code == 1
    assert lab.builds.run("commit", str(out)).code == 0


CODE = """
from transformers import PreTrainedTokenizerFast
from pathlib import Path
Path({marker!r}).touch()
class Custom(PreTrainedTokenizerFast):
    pass
"""


def test_nobodys_code_is_run_unless_this_call_says_so(lab: Lab, out: Path) -> None:
    """Whatever plan.json says: it is a file that anybody may have written."""
    tokenizer, marker = out.parent / "tokenizer", out.parent / "ran"
    shutil.copytree(SAMPLE / "tokenizer", tokenizer)
    config = json.loads((tokenizer / "tokenizer_config.json").read_text())
    config["auto_map"] = {"AutoTokenizer": [None, "custom.Custom"]}
    config["tokenizer_class"] = "Custom"
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(config))
    (tokenizer / "custom.py").write_text(CODE.format(marker=str(marker)))
    arguments = lab.command(out, "-t", str(tokenizer), "--trust-remote-code")
    assert lab.builds.run("plan", *arguments[1:]).code == 0
    assert marker.exists()
    marker.unlink()
    ended = lab.builds.run("work", str(out), "--task", "0")
    assert ended.code == 1, ended.output
    assert "trust" in ended.output
    assert not marker.exists()
    assert lab.builds.run("work", str(out), "--task", "0", "--trust-remote-code").code == 0
    assert marker.exists()
