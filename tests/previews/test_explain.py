"""How the first records of a file are read, by kind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from small_builds import GOOD, TOKENIZER, build, write

from sftprep.config import BuildConfig
from sftprep.dataset.manifest import load_manifest
from sftprep.errors import InputError
from sftprep.previews import explain as room
from sftprep.previews.explain import Explanation, explain

CALL = '{"name": "f", "arguments": {}}'
TALK = [{"from": "human", "value": "a?"}, {"from": "gpt", "value": "Look."}, {"from": "function_call", "value": CALL}]


def explained(path: Path, *records: Any, **options: Any) -> Explanation:
    return explain(BuildConfig((write(path / "a.jsonl", *records),), TOKENIZER, **options))


def test_where_everything_comes_from_is_said(tmp_path: Path) -> None:
    record = {
        "conversations": TALK,
        "system_prompt": "Be brief.",
        "functions": [{"name": "f"}],
        "id": 1,
        "loss": [0, 1, 1],
    }
    found = explained(tmp_path, record)
    (kind,) = found.kinds
    assert (found.records, found.read, kind.first, kind.fault) == (1, 1, "a.jsonl:1", None)
    assert (kind.form, kind.system_from, kind.tools, kind.tools_from) == (
        "conversations",
        "system_prompt",
        1,
        ("functions",),
    )
    assert [(each.spelled, each.role, each.characters, each.calls, each.weight) for each in kind.messages] == [
        ("system", "system", 9, 0, 0),
        ("human", "user", 2, 0, 0),
        ("gpt + function_call", "assistant", 5, 1, 1),
    ]
    assert [each.why for each in kind.messages] == ["--train-on assistant", "loss[0]", "loss[1], loss[2]"]
    assert (kind.ignored, kind.passed_on) == (("id",), ())


def test_records_that_are_read_alike_are_one_kind(tmp_path: Path) -> None:
    said, answer = GOOD["messages"]
    others = [
        {"messages": [said, {**answer, "id": 1}]},
        {"messages": [said, {**answer, "weight": 0}]},
        {**GOOD, "id": 2},
    ]
    prompt = {"prompt": [said, answer, said], "completion": [answer]}
    broken = [b"{", b'{"x":', {"messages": [{"role": "robot", "content": "x"}]}, {"conversations": [said, 7]}]
    found = explained(tmp_path, GOOD, *others, {"messages": [said, answer, said]}, prompt, *broken, GOOD)
    assert [(kind.first[8:], kind.count, kind.fault is None) for kind in found.kinds] == [
        ("1", 3, True),
        *((str(line), 1, True) for line in (2, 3, 4, 6)),
        ("7", 2, False),
        ("9", 1, False),
        ("10", 1, False),
    ]
    assert [kind.keys for kind in found.kinds[5:]] == [(), ("messages",), ("conversations",)]
    assert [each.why for each in found.kinds[4].messages][1] == "part of the prompt"
    assert found.kinds[1].passed_on == ("id",)
    assert (found.records, found.read) == (11, 7)


def test_what_is_said_is_what_a_build_does(tmp_path: Path) -> None:
    records = [GOOD, {"chat": TALK, "x": 1}, {"messages": "[]"}, {"question": "a", "answer": "b", "y": 2}]
    found = explained(tmp_path, *records)
    build(tmp_path / "out", str(tmp_path / "a.jsonl"))
    manifest = load_manifest(tmp_path / "out")
    assert (found.records, found.read) == (manifest.totals["records"], manifest.totals["conversations"])
    assert {key for kind in found.kinds for key in kind.ignored} == manifest.ignored_keys.keys()


def test_only_so_much_is_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "MOST_RECORDS", 30)
    found = explained(tmp_path, *({**GOOD, f"key {number}": 1} for number in range(40)))
    assert (found.records, len(found.kinds), found.further_kinds) == (30, 20, 10)
    with pytest.raises(InputError, match="nowhere"):
        explain(BuildConfig((str(tmp_path / "nowhere"),), TOKENIZER))
