"""What Transformers makes of a tokenizer, against Transformers itself; what it is refused for."""

from __future__ import annotations

import functools
import gc
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import TOKENIZERS
from small_tokenizer import CHATML, TEMPLATE, save, shared_tokenizer, train
from tokenizers import Tokenizer, models

from sftprep.errors import TokenizerError
from sftprep.tokens.ask_transformers import _hurry, resolve_here
from sftprep.tokens.batch import dtype_for
from sftprep.tokens.resolve import ResolvedTokenizer, resolve_tokenizer

pytestmark = pytest.mark.usefixtures("cache")


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


def test_what_is_remembered_in_a_hurry_is_the_same_and_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(functools, "lru_cache", functools.lru_cache)
    _hurry()
    gc.enable()
    calls: list[int] = []

    @functools.lru_cache
    def bare(number: int) -> int:
        calls.append(number)
        return -number

    @functools.lru_cache(maxsize=1)
    def short(number: int) -> int:
        return bare(number)

    for _ in range(2):
        assert [bare(number) for number in range(1000)] == [-number for number in range(1000)]
    assert calls == list(range(1000))
    assert (short(1), short(2), short.cache_info().currsize) == (-1, -2, 1)


@pytest.mark.parametrize(
    ("config", "pad_id"),
    [({}, 0), ({"eos_token": "<|im_end|>"}, 402), ({"eos_token": "<|im_end|>", "pad_token": "<|im_start|>"}, 401)],
)
def test_pads_with_pad_else_eos_else_zero(config: dict[str, str], pad_id: int, tmp_path: Path) -> None:
    assert resolve_here(str(save(train(), tmp_path / "t", config))).pad_id == pad_id


def test_a_tokenizer_without_a_backend(tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_text('{"<pad>": 0, "a": 1}')
    (tmp_path / "tokenizer_config.json").write_text('{"tokenizer_class": "CanineTokenizer"}')
    with pytest.raises(TokenizerError, match="not backed by the tokenizers library; expected"):
        resolve_here(str(tmp_path))


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


def test_what_code_prints_is_no_answer(folder: Path) -> None:
    (folder / "own.py").write_text(
        "import os\nfrom transformers import PreTrainedTokenizerFast\nprint('{}')\nos.system('echo x')\n"
        "class Own(PreTrainedTokenizerFast):\n    pass\n"
    )
    config = json.loads((folder / "tokenizer_config.json").read_text())
    config |= {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": [None, "own.Own"]}}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    assert resolve_tokenizer(str(folder), trust_remote_code=True).size == 403


def test_split_special_tokens_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TokenizerError, match="split_special_tokens"):
        resolve_here(str(save(train(), tmp_path / "t", {"split_special_tokens": True})))


def test_dropout_is_refused(tmp_path: Path) -> None:
    tokenizer = train()
    tokenizer.model.dropout = 0.5
    with pytest.raises(TokenizerError, match="dropout"):
        resolve_here(str(save(tokenizer, tmp_path / "t")))


@pytest.mark.parametrize("template", ["\ud800", {"default": 3}, [{"name": 3, "template": "x"}], {"\ud800": "x"}])
def test_a_chat_template_that_is_no_text(template: Any, tmp_path: Path) -> None:
    name = str(save(train(), tmp_path / "tokenizer", {"chat_template": template}))
    with pytest.raises(TokenizerError, match=r"its chat_template (has a part of type|is no text: UnicodeEncodeError)"):
        resolve_here(name)


def test_sample_tokenizer_resolves() -> None:
    import sftprep

    resolved: ResolvedTokenizer = resolve_here(str(Path(sftprep.__file__).parent / "sample" / "tokenizer"))
    assert resolved.chat_template() is not None
    assert dtype_for(resolved.size) == np.uint16
