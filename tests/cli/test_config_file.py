"""Options in a file: TOML, a manifest, and the commented file to begin with."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from small_builds import GOOD, TOKENIZER, sftprep, write

from sftprep.cli.commands import main
from sftprep.cli.options import build_config, build_options
from sftprep.config import BuildConfig
from sftprep.dataset.manifest import load_manifest
from sftprep.errors import ConfigError

REQUIRED = 'inputs = "a.jsonl"\ntokenizer = "t"\noutput = "out"\n'


@click.command()
@build_options
def configured(**options: object) -> None:
    """Stands in for a command that has a build's options: what they say becomes its result."""
    click.get_current_context().obj.append(build_config(options))


def config_of(path: Path, text: str | None, *arguments: str) -> BuildConfig:
    if text is not None:
        path.write_text(text, encoding="utf-8")
    found: list[BuildConfig] = []
    done = CliRunner().invoke(configured, ["--config", str(path), *arguments], obj=found)
    if done.exception:
        raise done.exception
    return found[0]


def test_every_option_has_its_own_name_in_the_file(tmp_path: Path) -> None:
    text = """
        inputs = ["a.jsonl", "b/*.jsonl"]
        tokenizer = "t"
        output = "out"
        format = "sharegpt"
        seq_length = 15
        train-end-of-turn = false
        max-rejects = 20
        date = 2026-02-03
        limit = 7
        [template-kwarg]
        enable_thinking = false
        tone = "dry"
        levels = [1, {a = "b"}]
    """
    config = config_of(tmp_path / "job.toml", text, "--limit", "9")
    assert config.inputs == ("a.jsonl", "b/*.jsonl")
    assert (config.record_format, config.max_length, config.limit) == ("sharegpt", 16, 9)
    assert (config.train_end_of_turn, config.max_rejects, config.date) == (False, "20", "2026-02-03")
    assert config.template_kwargs == {"enable_thinking": False, "tone": "dry", "levels": [1, {"a": "b"}]}
    again = config_of(tmp_path / "job.toml", REQUIRED + 'template-kwarg = ["tone=dry", "n=3"]\n')
    assert again.template_kwargs == {"tone": "dry", "n": 3}


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("max-lenth = 5", "unknown key 'max-lenth'; did you mean max-length?"),
        ("tokeniser = 'x'", "did you mean tokenizer?"),
        ("zzz = 5", "unknown key 'zzz'; keys are the options"),
        ("config = 'other.toml'", "unknown key 'config'"),
        ("overwrite = true", "unknown key 'overwrite'"),
        ("max-length = [1]", "key 'max-length': expected text or a number"),
        ("mask = true", "key 'mask': expected text or a number"),
        ("strict = 'yes'", "key 'strict': expected true or false"),
        ("template-kwarg = [['a=b']]", "key 'template-kwarg': expected text or a number, or a list of them"),
        ("max_length = 5\nmax-length = 6", "the same option is given under another name"),
        ("max-length = ", "Invalid value"),
    ],
)
def test_what_is_wrong_in_a_file_is_said(tmp_path: Path, line: str, said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)) as error:
        config_of(tmp_path / "job.toml", f"{REQUIRED}{line}\n")
    assert str(error.value).startswith(f"{tmp_path / 'job.toml'}: ")


def test_a_file_that_cannot_be_read_is_an_error_of_one_line(tmp_path: Path) -> None:
    for contents in (None, "\N{NUMBER SIGN}\xff".encode("latin-1"), b"{", b'{"format": "other"}'):
        if contents is not None:
            (tmp_path / "job.toml").write_bytes(contents)
        with pytest.raises(ConfigError, match=re.escape(str(tmp_path / "job.toml"))):
            config_of(tmp_path / "job.toml", None)


def test_the_commented_file_shows_every_option_with_its_default(tmp_path: Path) -> None:
    done = sftprep("init", str(tmp_path / "job.toml"))
    assert (done.returncode, done.stderr) == (0, "")
    text = (tmp_path / "job.toml").read_text()
    assert tomllib.loads(text) == {"inputs": ["chat.jsonl"], "tokenizer": "path/to/tokenizer", "output": "dataset"}
    plain = config_of(tmp_path / "job.toml", None)
    shown = re.sub(r"^# ([\w-]+ = (?:\".*[a-z].*\"|\d+|true|false|\[\]))$", r"\1", text, flags=re.MULTILINE)
    assert len(tomllib.loads(shown)) > 15
    assert config_of(tmp_path / "shown.toml", shown) == plain
    keys = {line.split(" =")[0].removeprefix("# ") for line in text.splitlines() if " = " in line}
    options = main.commands["build"].params
    flags = {
        next(flag[2:] for flag in each.opts if flag.startswith("--"))
        for each in options
        if isinstance(each, click.Option)
    }
    assert flags - keys == {"config", "overwrite", "quiet", "verbose", "log-json", "json", "dry-run", "explain"}
    again = sftprep("init", str(tmp_path / "job.toml"))
    assert (again.returncode, "is there already" in again.stderr) == (2, True)
    assert (tmp_path / "job.toml").read_text() == text


def test_a_manifest_builds_its_dataset_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = write(tmp_path / "a.jsonl", GOOD, GOOD, b"{")
    (tmp_path / "t.jinja").write_text(
        "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}{{ x }}"
    )
    options = [
        "--chat-template",
        str(tmp_path / "t.jinja"),
        "--template-kwarg",
        "x=[1]",
        "--max-length",
        "40",
        "--limit",
        "3",
    ]
    one, two = tmp_path / "one", tmp_path / "two"
    assert sftprep("build", source, "-t", TOKENIZER, "-o", str(one), *options).returncode == 0
    manifest = str(one / "manifest.json")
    done = sftprep("build", "--config", manifest, "-o", str(two), "--workers", "1")
    assert done.returncode == 0, done.stderr
    assert {path.name: path.read_bytes() for path in one.iterdir()} == {
        path.name: path.read_bytes() for path in two.iterdir()
    }

    other = sftprep("build", "--config", manifest, "-o", str(tmp_path / "other"), "--max-length", "30")  # a flag wins
    assert other.returncode == 0, other.stderr
    assert load_manifest(tmp_path / "other").width == 29
    moved = write(tmp_path / "b.jsonl", GOOD)
    assert sftprep("build", moved, "--config", manifest, "-o", str(tmp_path / "moved")).returncode == 0

    write(tmp_path / "a.jsonl", GOOD)
    changed = sftprep("build", "--config", manifest, "-o", str(tmp_path / "changed"))
    assert changed.returncode == 2
    assert "another dataset than the manifest's: another input a.jsonl" in changed.stderr
    assert not (tmp_path / "changed").exists()
    Path(source).unlink()
    gone = sftprep("build", "--config", manifest, "-o", str(tmp_path / "changed"))
    assert (gone.returncode, "no such file" in gone.stderr) == (1, True)
    monkeypatch.setenv("SFTPREP_CACHE", str(tmp_path / "empty"))
    cleared = sftprep("build", "--config", manifest, "-o", str(tmp_path / "changed"))
    assert (cleared.returncode, "Missing INPUT" in cleared.stderr) == (2, True)
