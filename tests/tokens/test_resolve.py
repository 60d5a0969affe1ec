"""Tokenizers, resolved in a process of their own; the cache; what goes wrong and how it is said."""

from __future__ import annotations

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import TOKENIZERS
from small_tokenizer import save, shared_tokenizer, train

from sftprep.cache import write_entry
from sftprep.errors import TokenizerError
from sftprep.tokens import resolve
from sftprep.tokens.ask_transformers import resolve_here
from sftprep.tokens.resolve import Resolving, last_words, resolve_tokenizer

pytestmark = pytest.mark.usefixtures("cache")


def _in_order(part: dict[str, Any] | None) -> list[dict[str, Any]]:
    if part is None:
        return []
    inner: list[dict[str, Any]] = part.get("normalizers", part.get("pretokenizers", [part]))
    return inner


@pytest.mark.parametrize("name", TOKENIZERS)
def test_steps_are_those_of_the_backend(shared_data: Path, name: str) -> None:
    resolved = shared_tokenizer(shared_data / "tokenizers" / name)
    stated = json.loads(resolved.backend)
    steps = {"normalizer": _in_order(stated["normalizer"]), "pre_tokenizer": _in_order(stated["pre_tokenizer"])}
    assert steps["pre_tokenizer"]
    other_order = json.dumps({"model": stated.pop("model"), **stated})

    assert resolved.steps() == steps
    assert replace(resolved, backend=other_order).steps() == steps


def entries(cache: Path) -> list[Path]:
    return sorted(cache.glob("tokenizer-*"))


def refuse_child(monkeypatch: pytest.MonkeyPatch) -> None:
    """From here on, whoever asks Transformers fails."""

    def refuse(*_: Any, **__: Any) -> None:
        pytest.fail("asked Transformers again")

    monkeypatch.setattr(subprocess, "Popen", refuse)


# -- what it resolves to --


def test_named_tokens_are_control_tokens_even_if_not_special(tmp_path: Path) -> None:
    from tokenizers import AddedToken

    added = [AddedToken(content, special=False, normalized=False) for content in ("<eos>", "<think>")]
    resolved = resolve_here(str(save(train(added=added), tmp_path / "t", {"eos_token": "<eos>"})))
    assert resolved.control_tokens() == {"<eos>"}


def test_several_chat_templates_are_chosen_as_transformers_does(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    path = save(train(), tmp_path / "t", {"chat_template": None})
    (path / "chat_template.jinja").write_text("plain")
    (path / "additional_chat_templates").mkdir()
    (path / "additional_chat_templates" / "tool_use.jinja").write_text("tools")
    resolved, theirs = resolve_here(str(path)), AutoTokenizer.from_pretrained(path)
    assert resolved.chat_template() == theirs.get_chat_template() == "plain"
    assert resolved.chat_template(tools=True) == theirs.get_chat_template(tools=[]) == "tools"


def test_templates_without_a_default_name_what_there_is(tmp_path: Path) -> None:
    templates = [{"name": "rag", "template": "x"}, {"name": "b", "template": "y"}]
    path = save(train(), tmp_path / "t", {"chat_template": templates})
    with pytest.raises(TokenizerError, match=r"several chat templates \(b, rag\)"):
        resolve_here(str(path)).chat_template()


def test_no_chat_template_is_none(tmp_path: Path) -> None:
    assert resolve_here(str(save(train(), tmp_path / "t", {"chat_template": None}))).chat_template() is None


def test_resolved_tokenizer_pickles(folder: Path) -> None:
    resolved = resolve_here(str(folder))
    assert pickle.loads(pickle.dumps(resolved)) == resolved


def test_resolving_imports_nothing_heavy(folder: Path) -> None:
    code = (
        "import sys; from sftprep.tokens.resolve import resolve_tokenizer; resolve_tokenizer(sys.argv[1]);"
        "heavy = {'transformers', 'torch', 'tokenizers', 'fastokens', 'pyarrow', 'numpy', 'jinja2'};"
        "print(sorted(heavy & sys.modules.keys()))"
    )
    done = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_working_folder_is_not_searched_for_modules(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("json", "transformers", "tokenizers"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken for a module')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    assert resolve_tokenizer(str(folder)).size == 403


# -- meanwhile --


def test_other_things_may_be_done_while_transformers_is_asked(folder: Path) -> None:
    asked = Resolving(str(folder))
    assert asked.known is None
    assert asked.result() == asked.known == resolve_here(str(folder))
    assert Resolving(str(folder)).known == asked.known


def test_nobody_is_asked_any_more_where_nobody_wants_to_know(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    processes: list[Any] = []
    start = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda *each, **how: processes.append(start(*each, **how)) or processes[0])
    asked = Resolving(str(folder))
    assert processes[0].poll() is None
    del asked
    assert processes[0].poll() == -signal.SIGKILL


# -- the cache --


def test_second_time_comes_from_the_cache(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = resolve_tokenizer(str(folder))
    assert len(entries(cache)) == 1
    refuse_child(monkeypatch)
    assert resolve_tokenizer(str(folder)) == first
    monkeypatch.chdir(folder.parent)
    assert resolve_tokenizer("tokenizer") == first


def test_changed_files_are_resolved_again(folder: Path, cache: Path) -> None:
    resolve_tokenizer(str(folder))
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "tool_use.jinja").write_text("other")
    assert resolve_tokenizer(str(folder)).chat_template(tools=True) == "other"
    (folder / "tokenizer_config.json").write_text("{}")
    assert resolve_tokenizer(str(folder)).special_tokens == {}
    assert len(entries(cache)) == 3


def test_files_that_no_tokenizer_reads_do_not_matter(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_tokenizer(str(folder))
    (folder / "model.safetensors").write_bytes(b"0" * 100)
    (folder / "README.md").write_text("")
    refuse_child(monkeypatch)
    resolve_tokenizer(str(folder))


def test_a_damaged_entry_is_replaced(folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = resolve_tokenizer(str(folder))
    (entry,) = entries(cache)
    whole = entry.read_bytes()
    damaged = bytearray(whole)
    damaged[len(whole) // 2] ^= 1
    entry.write_bytes(damaged)
    assert resolve_tokenizer(str(folder)) == first
    assert entry.read_bytes() == whole
    refuse_child(monkeypatch)
    assert resolve_tokenizer(str(folder)) == first


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: b"",
        lambda fields: b"[]",
        lambda fields: b"[" * 100_000,
        lambda fields: {name: value for name, value in fields.items() if name != "pad_id"},
        lambda fields: {**fields, "size": "403"},
        lambda fields: {**fields, "eos_id": True},
        lambda fields: {**fields, "sha256": None},
        lambda fields: {**fields, "backend": "{"},
        lambda fields: {**fields, "backend": "{}"},
        lambda fields: {**fields, "chat_templates": {"default": 1}},
        lambda fields: {**fields, "special_tokens": []},
        lambda fields: {**fields, "added_tokens": [{**fields["added_tokens"][0], "special": 1}]},
        lambda fields: {**fields, "added_tokens": [{**fields["added_tokens"][0], "content": ["<|im_end|>"]}]},
        lambda fields: {**fields, "added_tokens": 7},
        lambda fields: {**fields, "hostile_texts": "0" * 64},  # by an sftprep that tried other texts
    ],
)
def test_an_entry_that_is_whole_and_says_something_else_is_replaced(
    change: Any, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = resolve_here(str(folder))
    monkeypatch.setattr(resolve, "_ask_transformers", lambda *_, **__: lambda: resolve.to_json(resolved))
    resolve_tokenizer(str(folder))
    (entry,) = entries(cache)
    whole = entry.read_bytes()
    changed = change(json.loads(resolve.to_json(resolved)))
    contents = changed if isinstance(changed, bytes) else json.dumps(changed).encode()
    write_entry("tokenizer", entry.name.removeprefix("tokenizer-"), contents)
    assert entry.read_bytes() != whole
    assert resolve_tokenizer(str(folder)) == resolved
    assert entry.read_bytes() == whole


def swap(path: Path) -> None:
    """Be another file for a moment."""
    before, status = path.read_bytes(), path.stat()
    path.write_text("{}")
    path.write_bytes(before)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "tokenizer_config.json").write_text("{}"),
        lambda folder: (folder / "chat_template.jinja").write_text("other"),
        lambda folder: (folder / "tokenizer_config.json").unlink(),
        lambda folder: shutil.rmtree(folder),
        lambda folder: swap(folder / "tokenizer_config.json"),
    ],
    ids=["changed", "added", "removed", "gone", "changed back"],
)
def test_a_tokenizer_that_changes_while_it_is_read_is_not_kept(
    change: Any, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def ask_and_change() -> bytes:
        answer = resolve.to_json(resolve_here(str(folder)))
        change(folder)
        return answer

    monkeypatch.setattr(resolve, "_ask_transformers", lambda *_, **__: ask_and_change)
    assert resolve_tokenizer(str(folder)).size == 403
    assert entries(cache) == []
    assert "changed while it was read" in caplog.text


def test_trusted_code_is_never_cached(folder: Path, cache: Path) -> None:
    resolve_tokenizer(str(folder), trust_remote_code=True)
    assert not entries(cache)


def test_a_cache_that_cannot_be_written_is_done_without(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SFTPREP_CACHE", str(tmp_path / "file" / "cache"))
    assert resolve_tokenizer(str(folder)).size == 403


# -- what goes wrong --


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("./no/such/folder", "does not exist; expected a folder with a tokenizer"),
        ("/no/such", "does not exist"),
        ("a/b/c", "does not exist"),
        ("x" * 5000, "expected a folder with a tokenizer"),
        ("a\0b", "expected a folder with a tokenizer"),
        ("", "does not exist"),
    ],
)
def test_missing_folders(name: str, message: str) -> None:
    with pytest.raises(TokenizerError, match=message):
        resolve_tokenizer(name)


def test_a_file_is_not_a_folder(folder: Path) -> None:
    with pytest.raises(TokenizerError, match="is a file; expected a folder"):
        resolve_tokenizer(str(folder / "tokenizer.json"))


@pytest.mark.parametrize("files", [{}, {"config.json": "{}"}, {"README.md": "x"}])
def test_a_folder_without_a_tokenizer(files: dict[str, str], tmp_path: Path) -> None:
    for name, contents in files.items():
        (tmp_path / name).write_text(contents)
    with pytest.raises(TokenizerError, match=r"holds no tokenizer; expected tokenizer\.json"):
        resolve_tokenizer(str(tmp_path))


@pytest.mark.parametrize("contents", ["{", "[]"])
def test_a_broken_tokenizer_file(contents: str, folder: Path, cache: Path) -> None:
    (folder / "tokenizer.json").write_text(contents)
    with pytest.raises(TokenizerError, match="tokenizer: Transformers cannot load it"):
        resolve_tokenizer(str(folder))
    assert not entries(cache)


def test_remote_code_is_not_run_unless_trusted(folder: Path, tmp_path: Path) -> None:
    mark = tmp_path / "ran"
    (folder / "own.py").write_text(
        "from pathlib import Path\nfrom transformers import PreTrainedTokenizerFast\n"
        f"Path({str(mark)!r}).write_text('')\nclass Own(PreTrainedTokenizerFast):\n    pass\n"
    )
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(TokenizerError, match="trust_remote_code"):
        resolve_tokenizer(str(folder))
    assert not mark.exists()
    assert resolve_tokenizer(str(folder), trust_remote_code=True).size == 403
    assert mark.exists()


def test_a_tokenizer_that_takes_too_long(folder: Path, cache: Path) -> None:
    with pytest.raises(TokenizerError, match=r"took more than 0\.05 seconds"):
        resolve_tokenizer(str(folder), time_limit=0.05)
    assert not entries(cache)


def test_a_tokenizer_that_explodes_costs_a_process(tmp_path: Path) -> None:
    from tokenizers import normalizers

    bomb = train()
    bomb.normalizer = normalizers.Sequence([normalizers.Replace(" ", " " * 999) for _ in range(9)])
    with pytest.raises(
        TokenizerError, match="t: the process that loads it was killed by SIGABRT: memory allocation of"
    ):
        resolve_tokenizer(str(save(bomb, tmp_path / "t")), memory_limit=512 << 20)


def with_json(folder: Path, **parts: Any) -> str:
    """The folder, with other parts in its tokenizer.json."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(path.read_text(encoding="utf-8")) | parts), encoding="utf-8")
    return str(folder)


def test_a_panic_is_told_by_what_it_says(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUST_BACKTRACE", "1")
    name = with_json(folder, pre_tokenizer={"type": "FixedLength", "length": 0})
    with pytest.raises(TokenizerError) as caught:
        resolve_tokenizer(name)
    assert str(caught.value) == f"{name}: it cannot encode a text: PanicException: chunk size must be non-zero"
    name = with_json(folder, normalizer={"type": "Precompiled", "precompiled_charsmap": "AAAA"})
    with pytest.raises(TokenizerError) as caught:
        resolve_tokenizer(name)
    assert str(caught.value).startswith(f"{name}: the process that loads it ended with exit code 1: Precompiled: Error")


def test_memory_that_rust_does_not_get_is_told(folder: Path) -> None:
    """It ends the process without an exception, and its last line is how to see more."""
    vocabulary = {**json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))["model"], "vocab": {"a": 2**31}}
    name = with_json(folder, model={**vocabulary, "merges": []}, added_tokens=[])
    with pytest.raises(TokenizerError, match=r"was killed by SIGABRT: memory allocation of \d+ bytes failed$"):
        resolve_tokenizer(name)


@pytest.mark.parametrize(
    ("stderr", "words"),
    [
        ("", "it said nothing"),
        ("one\ntwo\n\n", "two"),
        ("thread 'main' panicked at a.rs:1:2:\nboom \x1b[31m\nnote: run with `RUST_BACKTRACE=1`", "boom \\x1b[31m"),
        (
            "thread '<unnamed>' (7) panicked at a.rs:1:2:\nfirst\nthread '<unnamed>' (7) panicked at b.rs:1:2:\nsecond\n"
            "thread caused non-unwinding panic. aborting.\n",
            "first",
        ),
    ],
)
def test_last_words(stderr: str, words: str) -> None:
    assert last_words(stderr.encode()) == words


def test_what_is_no_tokenizer_to_sftprep_is_a_typed_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stated = json.loads(resolve.to_json(resolve_here(str(folder)))) | {"special_tokens": {"bos_token": ["<s>"]}}
    monkeypatch.setattr(resolve, "_ask_transformers", lambda *_, **__: json.dumps(stated).encode)
    with pytest.raises(TokenizerError, match="something of it that is no tokenizer: ValidationError"):
        resolve_tokenizer(str(folder))


def test_an_error_that_survives_pickling() -> None:
    with pytest.raises(TokenizerError) as caught:
        resolve_tokenizer("/no/such")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)
