"""Tokenizers small enough to train in a test, in folders that Transformers loads."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, trainers

from sftprep.tokens.ask_transformers import resolve_here
from sftprep.tokens.choose_engine import choose_engine
from sftprep.tokens.engines import TokenEngine
from sftprep.tokens.resolve import ResolvedTokenizer

TEXT = [
    "The quick brown fox jumps over the lazy dog, doesn't it? It's 12345 times; 3.14!\n\n  return x\n",
    "Größe, Straße, naïve café, Ελλάδα, Москва, 漢字かな交じり文, 한국어, 🙂🙃, don't, we'll, they've",
    "<|im_start|>user\nHello there<|im_end|>\n<|im_start|>assistant\nHi<|im_end|>\n" * 3,
]
CHATML = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"


def special(*contents: str, **flags: bool) -> list[AddedToken]:
    return [AddedToken(content, special=True, **{"normalized": False, **flags}) for content in contents]


def train(
    pattern: str | None = None, added: list[AddedToken] | None = None, normalizer: Any = None, size: int = 400
) -> Tokenizer:
    """A byte-level BPE tokenizer; pattern: a regular expression instead of GPT-2's."""
    tokenizer = Tokenizer(models.BPE())
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    if pattern is not None:
        split = pre_tokenizers.Split(Regex(pattern), "isolated")
        byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=size, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(TEXT, trainer)
    tokenizer.add_tokens(special(*CHATML) if added is None else added)
    return tokenizer


def save(tokenizer: Tokenizer, folder: Path, config: dict[str, Any] | None = None) -> Path:
    """A folder with tokenizer.json and tokenizer_config.json, with a chat template unless `config` says otherwise."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.json").write_text(tokenizer.to_str(), encoding="utf-8")
    stated = {"tokenizer_class": "PreTrainedTokenizerFast", "chat_template": TEMPLATE, "model_max_length": 10**9}
    (folder / "tokenizer_config.json").write_text(json.dumps({**stated, **(config or {})}), encoding="utf-8")
    return folder


def resolve(tokenizer: Tokenizer, folder: Path) -> ResolvedTokenizer:
    """What Transformers makes of it, saved under `folder`."""
    return resolve_here(str(save(tokenizer, folder / "tokenizer")))


@cache
def shared_tokenizer(folder: Path) -> ResolvedTokenizer:
    """A tokenizer of the shared data, resolved once for all tests of a process."""
    return resolve_here(str(folder))


@cache
def shared_engine(folder: Path) -> TokenEngine:
    """The fast engine of such a tokenizer, compared and with its reference, loaded once: that takes seconds."""
    return choose_engine(shared_tokenizer(folder), "fast")[0]


def cut_shower(pattern: str) -> Tokenizer:
    """An untrained tokenizer that joins any byte with an `x` after it: its ids show where a pattern cuts before an x."""
    names = sorted(pre_tokenizers.ByteLevel.alphabet())
    pairs = [(name, "x") for name in names if name != "x"]
    vocabulary = {name: number for number, name in enumerate([*names, *(name + "x" for name, _ in pairs)])}
    tokenizer = Tokenizer(models.BPE(vocabulary, pairs))
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    return tokenizer
