"""What a dataset was built from is found where it lay, and has to be the same."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from small_builds import GOOD, TOKENIZER, build, write

from sftprep.compare.origins_again import inputs_again, tokenizer_again
from sftprep.config import BuildConfig
from sftprep.dataset.manifest import Manifest
from sftprep.errors import ConfigError, DatasetError, InputError, TokenizerError
from sftprep.jobs.rederive import stated_config


def found_again(manifest: Manifest, *given: str) -> tuple[list[str], list[int]]:
    """The names of the inputs, and what was told of them."""
    told: list[int] = []
    config = stated_config(Path("out"), manifest, TOKENIZER)
    sources, splits = inputs_again(manifest, config, given, lambda step, total, unit: told.append(total), told.append)
    assert splits
    return [source.name for source in sources], told


def test_inputs_and_tokenizer(tmp_path: Path, cache: Path) -> None:
    sources = [write(tmp_path / name, GOOD) for name in ("a.jsonl", "b.jsonl")]
    manifest = build(tmp_path / "out", sources[0], validation_input=(sources[1],), max_length=99)
    size = (tmp_path / "a.jsonl").stat().st_size
    assert found_again(manifest) == (["a.jsonl", "b.jsonl"], [2 * size, size, size])
    name, resolved = tokenizer_again(manifest, None)
    assert (name, resolved.sha256) == (TOKENIZER, manifest.tokenizer["sha256"])
    assert isinstance(stated_config(tmp_path, manifest, name), BuildConfig)
    with pytest.raises(InputError, match=r"b\.jsonl: was read for this dataset, and is not among the inputs"):
        found_again(manifest, sources[0])
    with pytest.raises(InputError, match=r"c\.jsonl: was not read"):
        found_again(manifest, *sources, write(tmp_path / "c.jsonl", GOOD))
    write(tmp_path / "a.jsonl", GOOD, GOOD)
    with pytest.raises(InputError, match=r"a\.jsonl: is not the file that was read"):
        found_again(manifest)
    shutil.rmtree(cache)
    with pytest.raises(ConfigError, match="give them with --input"):
        found_again(manifest)
    with pytest.raises(ConfigError, match="give it with -t"):
        tokenizer_again(manifest, None)


def test_others_are_refused(tmp_path: Path) -> None:
    manifest = build(tmp_path / "out", write(tmp_path / "a.jsonl", GOOD))
    for key, what in (("sha256", "its sha256 differs"), ("chat_template_sha256", "its chat template is not")):
        with pytest.raises(TokenizerError, match=what):
            tokenizer_again(replace(manifest, tokenizer={**manifest.tokenizer, key: "0" * 64}), TOKENIZER)
    with pytest.raises(DatasetError, match=r"manifest\.json: 'config' is not what this version writes"):
        stated_config(tmp_path, replace(manifest, config={"nonsense": 1}), TOKENIZER)
