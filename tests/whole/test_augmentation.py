"""What is varied in the training set, beside Transformers' ids of every variant that MiniMind might have drawn."""

from __future__ import annotations

import re
from collections import Counter
from itertools import product
from pathlib import Path

import numpy as np
import orjson
import pyarrow.parquet as pq
import pytest
from small_builds import GOOD, TOKENIZER, build, conversations, load, sftprep, write
from transformers import AutoTokenizer

from sftprep.dataset.manifest import load_manifest
from sftprep.errors import ConfigError

PROMPTS = ["You are terse.", "Du bist ein Helfer.", "Be kind.\nAnd brief."]
EMPTY = "<think>\n\n</think>\n\n"
ANSWER = re.compile(r"(?<=<\|im_start\|>assistant\n).*?<\|im_end\|>", re.DOTALL)


@pytest.fixture(scope="module")
def some(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("some") / "some.jsonl"
    path.write_bytes(b"".join(corpus.read_bytes().splitlines(keepends=True)[::200]))
    return path


def test_each_conversation_is_one_of_the_variants(shared_data: Path, some: Path, tmp_path: Path) -> None:
    folder = shared_data / "tokenizers" / "minimind-3"
    options = {"system_prompts": PROMPTS, "system_prompt_ratio": 0.4, "drop_empty_think": 0.7, "max_length": 400}
    manifest = build(tmp_path / "out", str(some), tokenizer=str(folder), workers=2, keep_untrained=True, **options)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    lines = some.read_bytes().splitlines()
    origins = [pq.read_table(path) for path in sorted((tmp_path / "out").glob("*.provenance.parquet"))]
    places = [line for table in origins for line in table["line"].to_pylist()]
    drawn: Counter[tuple[str | None, bool]] = Counter()
    for line, (x, y, mask) in zip(places, conversations(tmp_path / "out"), strict=True):
        chat = orjson.loads(lines[line - 1])["conversations"]
        ids = [*x[:1].tolist(), *y.tolist()]
        found = []
        for prompt, drops in product((None, *PROMPTS), (False, True)):
            messages = chat if prompt is None else [{"role": "system", "content": prompt}, *chat]
            text = tokenizer.apply_chat_template(messages, tokenize=False)
            text = text.replace(EMPTY, "") if drops else text
            if tokenizer(text).input_ids[:400] == ids:
                found.append((prompt, drops, text))
        assert found
        prompt, drops, text = found[0]
        if len(found) > 1:  # cut off before they differ
            assert len(ids) == 400
            continue
        drawn[prompt if chat[0]["role"] != "system" else "its own", drops] += 1
        if len(ids) < 400:
            said = "".join(ANSWER.findall(text)).replace(EMPTY, "")
            assert tokenizer.decode(y[mask]).replace(EMPTY, "") == said
    without = {key: count for key, count in drawn.items() if key[0] != "its own"}
    added = sum(count for (prompt, _), count in without.items() if prompt)
    assert added <= manifest.totals["system_added"]
    assert 0.25 < added / sum(without.values()) < 0.55
    assert 0.55 < sum(count for (_, drops), count in drawn.items() if drops) / sum(drawn.values()) < 0.85
    assert {prompt for prompt, _ in without} == {None, *PROMPTS}


def test_examples_are_those_of_the_whole_text(shared_data: Path, some: Path, tmp_path: Path) -> None:
    folder = str(shared_data / "tokenizers" / "qwen3")
    options = {"contexts": "served", "limit": 60, "max_length": 20_000, "keep_untrained": True}
    plain = build(tmp_path / "plain", str(some), tokenizer=folder, **options)
    varied = build(tmp_path / "varied", str(some), tokenizer=folder, drop_empty_think=1.0, **options)
    tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    assert plain.totals["examples"] == varied.totals["examples"] > 60
    pairs = zip(conversations(tmp_path / "plain"), conversations(tmp_path / "varied"), strict=True)
    texts = [[tokenizer.decode([*x[:1], *y]) for x, y, _ in pair] for pair in pairs]
    assert any(EMPTY in text for text, _ in texts)
    assert [text.replace(EMPTY, "") for text, _ in texts] == [text for _, text in texts]


def test_draws_depend_on_seed_and_content_alone(tmp_path: Path) -> None:
    talks = [{"messages": [{"role": "user", "content": f"Q{n}"}, GOOD["messages"][1]]} for n in range(60)]
    forward, backward = write(tmp_path / "a.jsonl", *talks), write(tmp_path / "b.jsonl", *talks[::-1])
    options = {"system_prompts": PROMPTS, "system_prompt_ratio": 0.5}
    rows = {}
    for name, source, more in (("a", forward, {}), ("b", backward, {"workers": 3}), ("c", forward, {"seed": 1})):
        build(tmp_path / name, source, **options, **more)
        rows[name] = load(tmp_path / name, "X")
    assert np.array_equal(rows["a"], rows["b"][::-1])
    assert not np.array_equal(rows["a"], rows["c"])


def test_the_validation_set_and_conversations_with_tools_stay_as_they_are(tmp_path: Path) -> None:
    tool = {"type": "function", "function": {"name": "f", "description": "", "parameters": {}}}
    source = write(
        tmp_path / "a.jsonl",
        {**GOOD, "tools": [tool]},
        {"messages": [{"role": "system", "content": "S"}, *GOOD["messages"]]},
    )
    held = write(tmp_path / "b.jsonl", GOOD)
    options = {"system_prompts": PROMPTS, "system_prompt_ratio": 1.0}
    manifest = build(tmp_path / "out", source, validation_input=(held,), **options)
    assert manifest.totals["system_added"] == 0
    assert manifest.totals["conversations"] == 3


def test_options_are_read_from_files_and_built_again_from_the_manifest(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", *[GOOD] * 3)
    prompts = tmp_path / "prompts.txt"
    prompts.write_text('Be brief.\n\n  "Two\\nlines"\nDu.\n')
    options = [
        "--system-prompt-file",
        str(prompts),
        "--system-prompt-ratio",
        "1",
        "--drop-empty-think",
        "0.8",
        "--seed",
        "7",
    ]
    done = sftprep("build", source, "-t", TOKENIZER, "-o", str(tmp_path / "one"), *options)
    assert done.returncode == 0, done.stderr
    config = load_manifest(tmp_path / "one").config
    assert config["system_prompts"] == ["Be brief.", "Two\nlines", "Du."]
    assert load_manifest(tmp_path / "one").totals["system_added"] == 3
    again = sftprep("build", "--config", str(tmp_path / "one" / "manifest.json"), "-o", str(tmp_path / "two"))
    assert again.returncode == 0, again.stderr
    assert (tmp_path / "one" / "manifest.json").read_bytes() == (tmp_path / "two" / "manifest.json").read_bytes()
    for text, said in (("", "is empty"), (" \n", "is blank"), ('"open\n', ":1: begins with a quote")):
        prompts.write_text(text)
        refused = sftprep("build", source, "-t", TOKENIZER, "-o", str(tmp_path / "no"), *options)
        assert (refused.returncode, said in refused.stderr) == (2, True), refused.stderr
    with pytest.raises(ConfigError, match="--drop-empty-think 2: expected a share from 0 to 1"):
        build(tmp_path / "no", source, drop_empty_think=2.0)
