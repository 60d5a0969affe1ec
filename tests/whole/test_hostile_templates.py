"""A job with a stranger's template: what one conversation costs it, and when it stops."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from conftest import FULL
from small_builds import GOOD, SAMPLE, TOKENIZER, build, rejects, sftprep, write
from small_dataset import signed

from sftprep.batches import templates
from sftprep.errors import ConfigError, SftprepError, TemplateError, TokenizerError
from sftprep.jinja import compiled as compiled_template
from sftprep.watch.verify import verify_command
from sftprep.workers import limits

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
NESTED = "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l, ns.l] %}{% endfor %}"
ENDLESS = NESTED + "{% set a = ns.l %}" + NESTED + "{{ a == ns.l }}"
TOO_LONG = "{% for i in range(17) %}{{ 'a' * 10 ** 6 }}{% endfor %}"
HOARD = "{{ ('a' * 10 ** 9) | length }}{% set s = 'a' * 10 ** 10 %}"
BOOM = {"messages": [{"role": "user", "content": "boom"}, GOOD["messages"][1]]}


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Limits that are reached soon: of processor time, so that no machine is too slow."""
    monkeypatch.setattr(limits, "SECONDS", 0.3)
    monkeypatch.setattr(limits, "MEMORY", 300 << 20)


def at_boom(bomb: str) -> str:
    return "{% if messages[0].content == 'boom' %}" + bomb + "{% endif %}" + CHATML


@pytest.mark.parametrize(
    ("bomb", "said"),
    [
        (ENDLESS, "the chat template or the tokenizer does not come to an end on it"),
        (HOARD, "needs more than 300 MB"),
        (TOO_LONG, "prints more than 16,777,216 characters"),
    ],
)
def test_a_bomb_costs_one_record_each(tmp_path: Path, bomb: str, said: str) -> None:
    source = write(tmp_path / "a.jsonl", GOOD, BOOM, GOOD, GOOD, BOOM, GOOD)
    manifest = build(tmp_path / "out", source, chat_template=at_boom(bomb))
    assert (manifest.totals["conversations"], manifest.totals["rejected"]) == (4, 2)
    assert [reject["line"] for reject in rejects(tmp_path / "out")] == [2, 5]
    assert all(said in reject["reason"] for reject in rejects(tmp_path / "out"))


def test_the_same_bytes_from_any_number_of_workers(tmp_path: Path) -> None:
    sources = [write(tmp_path / f"{name}.jsonl", GOOD, BOOM, {"filling": "x" * (2 << 20), **GOOD}) for name in "abc"]
    for workers in (1, 3):
        build(tmp_path / f"{workers}", *sources, chat_template=at_boom(ENDLESS), workers=workers)
    one, three = ({p.name: p.read_bytes() for p in (tmp_path / name).iterdir()} for name in "13")
    assert one == three


@pytest.mark.parametrize("bomb", [ENDLESS, HOARD, TOO_LONG] if FULL else [ENDLESS])
def test_bomb_after_bomb_stops_the_job(tmp_path: Path, bomb: str) -> None:
    few = write(tmp_path / "few.jsonl", *[BOOM] * (limits.MOST_LOST - 1), GOOD)
    assert build(tmp_path / "few", few, chat_template=at_boom(bomb)).totals["rejected"] == limits.MOST_LOST - 1
    many = write(tmp_path / "many.jsonl", *[BOOM] * (limits.MOST_LOST + 5), GOOD)
    with pytest.raises(TemplateError, match="the job stops"):
        build(tmp_path / "many", many, chat_template=at_boom(bomb))
    assert not (tmp_path / "many" / "manifest.json").exists()


SLICES = (
    "{% set s = 'a' * 16000000 %}{% set ns = namespace(x=[]) %}"
    "{% for i in range(100000) %}{% set ns.x = ns.x + [s[i:]] %}{% endfor %}"
)
WIDTH = "{{ '{0[0]:{0[1]}}'.format(['a', 2000000000]) | length }}"


@pytest.mark.parametrize(
    "bomb", [SLICES, WIDTH, ENDLESS, HOARD, TOO_LONG, "{{ 'a' * 10 ** 11 }}", "{{ 10 ** (10 ** 10) }}"]
)
def test_a_template_that_explodes_on_plain_talk_is_refused_before_anything_is_made(tmp_path: Path, bomb: str) -> None:
    source = write(tmp_path / "a.jsonl", GOOD)
    with pytest.raises(TemplateError, match="plain talk"):
        build(tmp_path / "out", source, chat_template=bomb + CHATML)
    assert not (tmp_path / "out").exists()


def with_settings(folder: Path, **settings: Any) -> str:
    shutil.copytree(SAMPLE / "tokenizer", folder)
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **settings}))
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    return str(folder)


@pytest.mark.parametrize("name", ["bos_token", "eos_token", "pad_token", "unk_token"])
@pytest.mark.parametrize("mask", ["turns", "scan", "minimind"])
def test_a_special_token_without_text(tmp_path: Path, cache: Path, name: str, mask: str) -> None:
    """A typed error, or no effect."""
    tokenizer = with_settings(tmp_path / "tokenizer", **{name: "", "chat_template": CHATML})
    source = write(tmp_path / "a.jsonl", GOOD)
    try:
        manifest = build(tmp_path / "out", source, tokenizer=tokenizer, mask=mask, keep_untrained=True)
    except (TokenizerError, ConfigError, TemplateError):
        return  # and no WorkerError, which an internal error is
    assert manifest.totals["conversations"] == 1
    assert (manifest.totals["trained_tokens"] > 0) or mask == "minimind"


@pytest.mark.parametrize("template", [7, 0.5, True, ["a"], {"default": 3}, [{"name": "default", "template": 3}]])
def test_a_template_that_is_no_text(tmp_path: Path, cache: Path, template: Any) -> None:
    tokenizer = with_settings(tmp_path / "tokenizer", chat_template=template)
    source = write(tmp_path / "a.jsonl", GOOD)
    with pytest.raises((TokenizerError, TemplateError)) as caught:
        build(tmp_path / "out", source, tokenizer=tokenizer)
    assert "internal error" not in str(caught.value)
    assert "died" not in str(caught.value)


def test_the_sample_is_within_narrow_limits(tmp_path: Path) -> None:
    assert build(tmp_path / "out", str(SAMPLE / "conversations.jsonl"), tokenizer=TOKENIZER).totals["rejected"] == 0


def at_greeting(bomb: str) -> str:
    return "{% if messages[0].content == 'Hello' %}" + bomb + "{% endif %}" + CHATML


@pytest.mark.parametrize("bomb", [ENDLESS, HOARD, TOO_LONG] if FULL else [HOARD])
def test_a_template_that_explodes_where_a_scan_looks_is_refused_before_anything_is_made(
    tmp_path: Path, bomb: str
) -> None:
    source = write(tmp_path / "a.jsonl", GOOD)
    with pytest.raises(TemplateError, match="plain talk"):
        build(tmp_path / "out", source, chat_template=at_greeting(bomb), mask="scan")
    assert not (tmp_path / "out").exists()


def test_losses_with_replayed_conversations_between_them_are_not_in_a_row(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", *[GOOD] * 20, *[BOOM, GOOD] * (limits.MOST_LOST + 5))
    manifest = build(tmp_path / "out", source, chat_template=at_boom(HOARD))
    assert manifest.totals["rejected"] == limits.MOST_LOST + 5


def test_records_that_no_template_could_print_do_not_stop_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled_template, "MOST_CHARS", 10_000)
    monkeypatch.setattr(templates, "MOST_CHARS", 10_000)
    long = {"messages": [{"role": "user", "content": "x" * 10_001}, GOOD["messages"][1]]}
    source = write(tmp_path / "a.jsonl", *[long] * (limits.MOST_LOST + 5), GOOD)
    assert build(tmp_path / "out", source, chat_template=CHATML).totals["rejected"] == limits.MOST_LOST + 5


@pytest.mark.parametrize("bomb", [ENDLESS, HOARD, TOO_LONG] if FULL else [TOO_LONG])
def test_rows_are_derived_anew_within_limits(tmp_path: Path, bomb: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The options of a dataset from a stranger, its template among them, are a stranger's."""
    source = write(tmp_path / "a.jsonl", GOOD, GOOD)
    build(tmp_path / "out", source, chat_template=CHATML)
    path = tmp_path / "out" / "manifest.json"
    stated = json.loads(path.read_bytes())
    stated["config"]["chat_template"] = bomb + CHATML
    path.write_bytes(signed(stated))
    with pytest.raises(SftprepError, match="chat template"):
        verify_command(tmp_path / "out", fast=False, sources=[source], tokenizer=TOKENIZER, quiet=True)


def test_a_template_file_that_is_none(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "empty").write_text("")
    (tmp_path / "binary").write_bytes(bytes(range(256)))
    source = write(tmp_path / "a.jsonl", GOOD)
    for name in ("pipe", "empty", "binary", "nowhere", "."):
        ended = sftprep(
            "build", source, "-o", str(tmp_path / "out"), "-t", TOKENIZER, "--chat-template", str(tmp_path / name)
        )
        assert (ended.returncode in (1, 2), "Traceback" in ended.stderr, "internal" in ended.stderr) == (
            True,
            False,
            False,
        )
        assert name in ended.stderr
        assert not (tmp_path / "out").exists()
