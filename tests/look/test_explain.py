"""What `sftprep build --explain` shows, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

from small_builds import GOOD, sftprep, write


def test_facts_and_faults(tmp_path: Path) -> None:
    calling = [{"from": "human", "value": "a?"}, {"from": "Agent\x1b", "value": "b", "weight": 0.5, "id": 1}]
    record = {"conversations": calling, "system": "Be brief.", "tools": [{"name": "f"}], "[red]": 1}
    source = write(
        tmp_path / "a.jsonl", GOOD, GOOD, record, {"messages": GOOD["messages"] * 9}, b"{", {"[x]": "Hi.", "id": 7}
    )
    done = sftprep("build", "--explain", source, "--role-map", "agent\x1b=assistant")
    assert (done.returncode, done.stderr) == (0, "")
    words = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert words[:4] == [
        "── a.jsonl:1, and 2 more like it ──",
        "form messages",
        "messages user, 6 characters not trained (--train-on assistant)",
        "assistant, 6 characters trained (--train-on assistant)",
    ]
    for said in (
        "roles human → user, Agent\\x1b → assistant",
        "system prompt from system",
        "tools 1, from tools",
        "assistant, 1 character trained with weight 0.5 (weight)",
        "ignored [red]",
        "passed on id",
        "not read: not JSON: unexpected end of data at byte 1 of the record",
        "it has [x], id",
        "4 of the first 6 records are read, 2 are not",
    ):
        assert said in words
    assert "\x1b" not in done.stdout
    assert list(tmp_path.iterdir()) == [tmp_path / "a.jsonl"]


def test_for_machines_and_the_exit_code(tmp_path: Path) -> None:
    done = sftprep("build", "--explain", write(tmp_path / "a.jsonl", b"{"), "--json")
    shown = json.loads(done.stdout)
    assert (done.returncode, shown["records"], shown["read"]) == (1, 1, 0)
    assert shown["kinds"][0]["fault"].startswith("not JSON")
