"""What is to be done is known before anything is written."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from small_builds import GOOD, SAMPLE, build, write

from sftprep.errors import InputError, TemplateError, TokenizerError


def test_what_cannot_be_done_is_said_before_anything_is_written(tmp_path: Path) -> None:
    out, source = tmp_path / "out", write(tmp_path / "a.jsonl", GOOD)
    bare = tmp_path / "bare"
    bare.mkdir()
    for name in ("tokenizer.json", "tokenizer_config.json"):
        stated = json.loads((SAMPLE / "tokenizer" / name).read_text())
        stated.pop("chat_template", None)
        (bare / name).write_text(json.dumps(stated))
    with pytest.raises(InputError, match=r"missing\.jsonl"):
        build(out, str(tmp_path / "missing.jsonl"))
    with pytest.raises(InputError, match="no record"):
        build(out, write(tmp_path / "empty.jsonl"))
    with pytest.raises(TemplateError, match="no chat template"):
        build(out, source, tokenizer=str(bare))
    with pytest.raises(TokenizerError, match="nowhere"):
        build(out, source, tokenizer=str(tmp_path / "nowhere"))
    with pytest.raises(TemplateError, match="generation"):
        build(out, source, mask="generation")
    assert not out.exists()
