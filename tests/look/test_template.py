"""What `sftprep template` shows, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

from small_builds import TOKENIZER, sftprep

BARE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def test_text_and_advice(tmp_path: Path) -> None:
    (tmp_path / "t.jinja").write_text(BARE + "{{ '\x1b[31m' }}")
    done = sftprep("template", "-t", TOKENIZER, "--chat-template", str(tmp_path / "t.jinja"))
    assert (done.returncode, done.stderr) == (0, "")
    assert (
        "── one question ──\n<|im_start|>user\nQuestion one?<|im_end|>\n<|im_start|>assistant\n⟦Answer two.<|im_end|>⟧\n"
        in done.stdout
    )
    assert "! prints no reasoning (reasoning, reasoning in several turns)  --chat-template FILE" in done.stdout
    assert "\x1b" not in done.stdout  # what a stranger's template prints does not colour the terminal


def test_colours() -> None:
    done = sftprep("template", "-t", TOKENIZER, "--color")
    assert "\x1b[" in done.stdout
    assert "⟦" not in done.stdout


def test_json() -> None:
    done = sftprep("template", "-t", TOKENIZER, "--json")
    stated = json.loads(done.stdout)
    assert stated["ends"] == ["<|im_end|>"]
    talk = next(each for each in stated["conversations"] if each["name"] == "several turns")
    assert [talk["text"][start:stop] for start, stop in talk["trained"]][-1].startswith("Answer four.")


def test_wrong_calls(tmp_path: Path) -> None:
    assert sftprep("template").returncode == 2
    done = sftprep("template", "-t", str(tmp_path / "none"))
    assert done.returncode == 1
    assert str(tmp_path / "none") in done.stderr
    assert "internal error" not in done.stderr
