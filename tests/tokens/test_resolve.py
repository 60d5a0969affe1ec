"""What a tokenizer resolves to, against Transformers itself; the cache; what goes wrong and how it is said."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tokenizers import Tokenizer, models

from sftprep.errors import TokenizerError
from sftprep.tokens import resolve
from sftprep.tokens.ask_transformers import resolve_here
from sftprep.tokens.batch import dtype_for
from sftprep.tokens.cache import write_entry
from sftprep.tokens.resolve import ResolvedTokenizer, last_words, resolve_tokenizer
from tests.conftest import TOKENIZERS
from tests.small_tokenizer import CHATML, TEMPLATE, save, shared_tokenizer, train

pytestmark = pytest.mark.usefixtures("cache")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(train(), tmp_path / "tokenizer", {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})


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

    monkeypatch.setattr(subprocess, "run", refuse)


# -- what it resolves to --


def test_resolves_what_transformers_uses(folder: Path) -> None:
    from transformers import AutoTokenizer

    resolved = resolve_tokenizer(str(folder))
    theirs = AutoTokenizer.from_pretrained(folder)
    assert resolved.special_tokens == theirs.special_tokens_map
    assert resolved.chat_templates == {"default": TEMPLATE}
    assert (resolved.bos_id, resolved.eos_id, resolved.pad_id) == (None, 402, 400)
    assert resolved.size == len(theirs) == 403
    assert [(token.id, token.content) for token in resolved.added_tokens] == list(
        zip(range(400, 403), CHATML, strict=True)
    )
    assert resolved.control_tokens() == set(CHATML)
    assert set(resolved.versions) == {"tokenizers", "transformers"}
    assert resolved == resolve_here(str(folder))


@pytest.mark.parametrize("name", TOKENIZERS)
def test_ids_and_template_equal_auto_tokenizer(name: str, shared_data: Path) -> None:
    from transformers import AutoTokenizer

    path = shared_data / "tokenizers" / name
    resolved, theirs = shared_tokenizer(path), AutoTokenizer.from_pretrained(path)
    lines = (shared_data / "conversations" / "identity.json").read_text(encoding="utf-8").splitlines()[:200]
    texts = [*lines, "".join(resolved.control_tokens()), " <|im_end|> don't\r\n", "e\u0301", "x" * 3000]
    own = [
        encoding.ids for encoding in Tokenizer.from_str(resolved.backend).encode_batch(texts, add_special_tokens=False)
    ]
    assert own == theirs(texts, add_special_tokens=False).input_ids
    assert resolved.chat_template() == theirs.get_chat_template()
    assert resolved.special_tokens == theirs.special_tokens_map
    largest = max(theirs.get_vocab().values())
    assert resolved.size == largest + 1
    assert {token.content: token.id for token in resolved.added_tokens} == theirs.added_tokens_encoder
    assert resolved.pad_id == (theirs.eos_token_id if theirs.pad_token_id is None else theirs.pad_token_id)
    theirs.backend_tokenizer.no_truncation()
    theirs.backend_tokenizer.no_padding()
    assert Tokenizer.from_str(resolved.backend).to_str() == theirs.backend_tokenizer.to_str()
    assert {type(merge) for merge in json.loads(resolved.backend)["model"]["merges"]} == {str}


def test_truncation_and_padding_in_the_file_are_left_out(tmp_path: Path) -> None:
    tokenizer = train()
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=9, pad_token="<|endoftext|>", pad_id=400)  # noqa: S106
    stated = json.loads(resolve_here(str(save(tokenizer, tmp_path / "t"))).backend)
    assert stated["truncation"] is None
    assert stated["padding"] is None


@pytest.mark.parametrize(("parts", "short"), [(("b", "c"), True), (("b", " "), False), (("#version:", "c"), False)])
def test_merges_are_written_short_where_that_means_the_same(
    parts: tuple[str, str], short: bool, tmp_path: Path
) -> None:
    words = ["a", "b", "c", " ", "#version:", "ab", "".join(parts)]
    model = models.BPE({word: number for number, word in enumerate(words)}, [("a", "b"), parts])
    resolved = resolve_here(str(save(Tokenizer(model), tmp_path / "t")))
    merges = json.loads(resolved.backend)["model"]["merges"]
    assert merges == (["a b", " ".join(parts)] if short else [["a", "b"], list(parts)])
    stated = Tokenizer.from_str(resolved.backend).to_str()
    assert json.loads(stated)["model"] == json.loads(Tokenizer(model).to_str())["model"]
    assert resolved.sha256 == hashlib.sha256(stated.encode()).hexdigest()


@pytest.mark.parametrize(
    ("config", "pad_id"),
    [({}, 0), ({"eos_token": "<|im_end|>"}, 402), ({"eos_token": "<|im_end|>", "pad_token": "<|im_start|>"}, 401)],
)
def test_pads_with_pad_else_eos_else_zero(config: dict[str, str], pad_id: int, tmp_path: Path) -> None:
    assert resolve_here(str(save(train(), tmp_path / "t", config))).pad_id == pad_id


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
    ],
)
def test_an_entry_that_is_whole_and_says_something_else_is_replaced(
    change: Any, folder: Path, cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = resolve_here(str(folder))
    monkeypatch.setattr(resolve, "_ask_transformers", lambda *_, **__: resolve.to_json(resolved))
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
    def ask_and_change(*_: Any, **__: Any) -> bytes:
        answer = resolve.to_json(resolve_here(str(folder)))
        change(folder)
        return answer

    monkeypatch.setattr(resolve, "_ask_transformers", ask_and_change)
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


def test_a_name_that_the_hub_does_not_give(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    with pytest.raises(TokenizerError, match="nobody/nothing: Transformers cannot load it"):
        resolve_tokenizer("nobody/nothing")


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


def test_a_tokenizer_without_a_backend(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"<pad>": 0, "a": 1}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "CanineTokenizer"}')
    with pytest.raises(TokenizerError, match="not backed by the tokenizers library; expected"):
        resolve_here(str(tmp_path))


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


def test_code_that_changes_what_the_backend_gives_is_refused(folder: Path) -> None:
    (folder / "own.py").write_text(
        "from transformers import PreTrainedTokenizerFast\nclass Own(PreTrainedTokenizerFast):\n"
        "    def _encode_plus(self, text, **kwargs):\n"
        "        return super()._encode_plus([each.lower() for each in text], **kwargs)\n"
    )
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    with pytest.raises(TokenizerError, match=r"class Own changes what its tokenizer\.json gives"):
        resolve_here(str(folder), trust_remote_code=True)


def test_split_special_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="split_special_tokens"):
        resolve_here(str(save(train(), tmp_path / "t", {"split_special_tokens": True})))


def test_dropout_is_refused(tmp_path: Path) -> None:
    tokenizer = train()
    tokenizer.model.dropout = 0.5
    with pytest.raises(TokenizerError, match="dropout"):
        resolve_here(str(save(tokenizer, tmp_path / "t")))


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


@pytest.mark.parametrize("template", ["\ud800", {"default": 3}, [{"name": 3, "template": "x"}], {"\ud800": "x"}])
def test_a_chat_template_that_is_no_text(template: Any, tmp_path: Path) -> None:
    name = str(save(train(), tmp_path / "tokenizer", {"chat_template": template}))
    with pytest.raises(TokenizerError, match=r"its chat_template (has a part of type|is no text: UnicodeEncodeError)"):
        resolve_here(name)


def test_what_is_no_tokenizer_to_sftprep_is_a_typed_error(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stated = json.loads(resolve.to_json(resolve_here(str(folder)))) | {"special_tokens": {"bos_token": ["<s>"]}}
    monkeypatch.setattr(resolve, "_ask_transformers", lambda *_, **__: json.dumps(stated).encode())
    with pytest.raises(TokenizerError, match="something of it that is no tokenizer: ValidationError"):
        resolve_tokenizer(str(folder))


def test_an_error_that_survives_pickling() -> None:
    with pytest.raises(TokenizerError) as caught:
        resolve_tokenizer("/no/such")
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


# -- small things --


def test_sample_tokenizer_resolves() -> None:
    import sftprep

    resolved: ResolvedTokenizer = resolve_here(str(Path(sftprep.__file__).parent / "sample" / "tokenizer"))
    assert resolved.chat_template() is not None
    assert dtype_for(resolved.size) == np.uint16
