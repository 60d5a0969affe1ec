"""The commands as a user types them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from small_builds import GOOD, TOKENIZER, sftprep, write

from sftprep.dataset.manifest import load_manifest


@pytest.mark.parametrize(
    ("arguments", "code", "word"),
    [
        (["build"], 2, "INPUT"),
        (["build", "x.jsonl", "-o", "out"], 2, "--tokenizer"),
        (["build", "x.jsonl", "-o", "out", "-t", TOKENIZER], 1, "x.jsonl"),
        (["build", "x.jsonl", "-o", "out", "-t", TOKENIZER, "--mask", "guess"], 2, "guess"),
        (["build", "x.jsonl", "-o", "out", "-t", TOKENIZER, "--max-length", "1"], 2, "at least 2"),
        (["build", "x.jsonl", "-o", "out", "-t", TOKENIZER, "--max-length", "9", "--seq-length", "9"], 2, "not both"),
        (["build", "x.jsonl", "-o", "out", "-t", TOKENIZER, "--template-kwarg", "x"], 2, "NAME=VALUE"),
        (["build", "x.jsonl", "-o", "out", "-t", TOKENIZER, "--role-map", "x"], 2, "NAME=ROLE"),
        (["build", "x.jsonl", "-o", "out", "-t", TOKENIZER, "--role-map", "x=y"], 2, "NAME=ROLE"),
        (["build", "--explain", "x.jsonl"], 1, "x.jsonl"),
        (["commit", "nowhere"], 1, "no such folder"),
        (["nonsense"], 2, "nonsense"),
    ],
)
def test_errors_are_one_line_with_the_right_code(tmp_path: Path, arguments: list[str], code: int, word: str) -> None:
    done = sftprep(*arguments, cwd=tmp_path)
    assert done.returncode == code
    assert word in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_toml_file_gives_defaults_and_a_flag_wins(tmp_path: Path) -> None:
    chat = [{"from": who, "value": "Hello!"} for who in ("guest", "=host=")]
    source = write(tmp_path / "a.jsonl", {"chat": chat})
    config = tmp_path / "build.toml"
    config.write_text(
        f'inputs = ["{source}"]\ntokenizer = "{TOKENIZER}"\nmax-length = 64\nkeep_untrained = true\n'
        f'output = "{tmp_path}/out"\nmessages-key = "chat"\n[template_kwargs]\nenable_thinking = false\n'
        '[role_map]\nguest = "user"\n"=host=" = "assistant"\n'
    )
    done = sftprep("build", "--config", str(config), "--max-length", "32")
    assert done.returncode == 0, done.stderr
    manifest = load_manifest(tmp_path / "out")
    assert (manifest.width, manifest.config["keep_untrained"]) == (31, True)
    assert manifest.config["template_kwargs"] == {"enable_thinking": False}
    assert manifest.config["role_map"] == {"guest": "user", "=host=": "assistant"}
    assert manifest.totals["conversations"] == 1
    config.write_text("max_lenght = 3\n")
    done = sftprep("build", "--config", str(config))
    assert (done.returncode, "max_lenght" in done.stderr) == (2, True)


def test_plan_work_commit_are_the_build(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", GOOD)
    options = [source, "-t", TOKENIZER, "-o"]
    assert sftprep("build", *options, str(tmp_path / "a")).returncode == 0
    planned = sftprep("plan", *options, str(tmp_path / "b"), "--json")
    assert (planned.returncode, json.loads(planned.stdout)["splits"]) == (0, 1)
    early = sftprep("commit", str(tmp_path / "b"))
    assert (early.returncode, "1 of 1 splits are not done: 0" in early.stderr) == (1, True)
    assert "no such folder" in sftprep("work", str(tmp_path / "nowhere"), "--task", "0").stderr
    assert "no plan" in sftprep("work", str(tmp_path), "--task", "0").stderr
    assert sftprep("work", str(tmp_path / "b"), "--task", "1").returncode == 2
    assert "1 rows" in sftprep("work", str(tmp_path / "b"), "--task", "0").stdout
    assert "done before" in sftprep("work", str(tmp_path / "b"), "--task", "0").stdout
    assert sftprep("commit", str(tmp_path / "b")).returncode == 0
    same = [sorted((path.name, path.read_bytes()) for path in (tmp_path / name).iterdir()) for name in ("a", "b")]
    assert same[0] == same[1]


def test_what_takes_long_is_said_the_first_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SFTPREP_CACHE", str(tmp_path / "cache"))
    command = ["build", write(tmp_path / "a.jsonl", GOOD), "-t", TOKENIZER]
    assert sftprep(*command, "-o", str(tmp_path / "quiet"), "--quiet").stderr == ""
    shutil.rmtree(tmp_path / "cache")
    first, second = (sftprep(*command, "-o", str(tmp_path / name)).stderr for name in ("first", "second"))
    said = ["asking Transformers about the tokenizer", "comparing fastokens with tokenizers"]
    assert [line.partition(",")[0].partition(";")[0] for line in first.splitlines()[:2]] == said
    assert not any(words in second for words in said)


def test_help_imports_nothing_heavy() -> None:
    code = "import sys; sys.argv = ['sftprep', '--help']\nfrom sftprep.cli.commands import main\n"
    code += "try: main()\nexcept SystemExit: pass\n"
    heavy = "{'numpy', 'transformers', 'tokenizers', 'fastokens', 'pyarrow', 'torch', 'jinja2', 'rich'}"
    code += f"assert not {heavy} & sys.modules.keys(), {heavy} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_a_build_imports_neither_transformers_nor_torch(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", GOOD)
    code = "import sys\nfrom sftprep.cli.commands import main\n"
    code += f"sys.argv = ['sftprep', 'build', {source!r}, '-o', {str(tmp_path / 'out')!r}, '-t', {TOKENIZER!r}]\n"
    code += "try: main()\nexcept SystemExit as end: assert not end.code\n"
    code += "assert not {'transformers', 'torch', 'huggingface_hub'} & sys.modules.keys()"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
