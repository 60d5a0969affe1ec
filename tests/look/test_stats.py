"""A dataset in numbers."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_builds import GOOD, build, sftprep, write

from sftprep.errors import DatasetError
from sftprep.look.stats import show_stats


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    thinks = {"messages": [GOOD["messages"][0], {**GOOD["messages"][1], "reasoning_content": "Hm, how to greet?"}]}
    template = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    template += "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
    source = write(tmp_path / "a.jsonl", {**GOOD, "source": "x", "[red]": 1}, thinks, {"messages": [], "id": 1})
    build(tmp_path / "out", source, chat_template=template)
    return tmp_path / "out"


def test_numbers_are_the_manifests(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_stats(folder, as_json=True)
    shown = json.loads(capsys.readouterr().out)
    assert shown["totals"] == json.loads((folder / "manifest.json").read_text())["totals"]
    assert (shown["ignored_keys"], shown["message_keys"]) == ({"source": 1, "[red]": 1}, {})
    (reject,) = shown["rejects"]
    assert (reject["kind"], reject["count"], "no messages" in reject["reason"]) == ("rejected", 1, True)
    show_stats(folder, as_json=False)
    out = capsys.readouterr().out
    assert "messages whose reasoning is not in the text" in out
    assert "no messages" in out
    assert "keys of records, ignored: [red] 1, source 1\n" in out


def test_the_command(folder: Path) -> None:
    done = sftprep("stats", str(folder), "--json")
    assert (done.returncode, json.loads(done.stdout)["totals"]["unprinted_reasoning"]) == (0, 1)
    done = sftprep("stats", str(folder.parent))
    assert (done.returncode, done.stdout, "Traceback" in done.stderr) == (1, "", False)


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError):
        show_stats(tmp_path, as_json=False)
