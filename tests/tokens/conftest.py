"""Fixtures of the tokenizers' tests."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_tokenizer import save, train


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(train(), tmp_path / "tokenizer", {"eos_token": "<|im_end|>", "pad_token": "<|endoftext|>"})
