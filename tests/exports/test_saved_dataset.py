"""What `datasets` itself reads back, form by form, against the dataset's own rows."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_builds import CONVERSATIONS, build, conversations, write

from sftprep.errors import ConfigError
from sftprep.exports.export import export_dataset

os.environ["HF_DATASETS_OFFLINE"] = "1"
datasets = pytest.importorskip("datasets")

COLUMNS = {
    "hf": ["input_ids", "attention_mask", "labels"],
    "trl": ["input_ids", "labels"],
    "axolotl": ["input_ids", "attention_mask", "labels"],
    "llama-factory": ["input_ids", "attention_mask", "labels", "images", "videos", "audios"],
}


def expected(folder: Path) -> list[tuple[list[int], list[int]]]:
    """Ids and labels of every conversation, one target after another."""
    found = []
    for x, y, mask in conversations(folder):
        ids, labels = [int(x[0])], [-100]
        for target, trained in zip(y.tolist(), mask.tolist(), strict=True):
            ids.append(target)
            labels.append(target if trained else -100)
        found.append((ids, labels))
    return found


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two shards of the sample, cut at 200 tokens."""
    folder = tmp_path_factory.mktemp("built")
    text = CONVERSATIONS.read_bytes()
    for name in ("a.jsonl", "b.jsonl"):
        (folder / name).write_bytes(text * (1 + (1 << 20) // len(text)))
    build(folder / "data", str(folder / "a.jsonl"), str(folder / "b.jsonl"), max_length=200)
    return folder / "data"


@pytest.mark.parametrize("form", COLUMNS)
def test_read_back(form: str, built: Path, tmp_path: Path) -> None:
    done = export_dataset(built, form, tmp_path / "out")
    loaded = datasets.load_from_disk(str(tmp_path / "out"))
    if form == "llama-factory":
        assert list(loaded) == ["train"]
        loaded = loaded["train"]
    assert loaded.column_names == COLUMNS[form]
    rows, wanted = loaded.to_dict(), expected(built)
    assert list(zip(rows["input_ids"], rows["labels"], strict=True)) == wanted
    if "attention_mask" in rows:
        assert rows["attention_mask"] == [[1] * len(ids) for ids, _ in wanted]
    for name in ("images", "videos", "audios"):
        assert set(rows.get(name, [None])) == {None}
    manifest = json.loads((built / "manifest.json").read_text())
    assert len(manifest["shards"]) > 1
    assert len(list((tmp_path / "out").rglob("data-*.arrow"))) == len(manifest["shards"])
    totals = manifest["totals"]
    counts = done.examples, done.tokens, done.trained_tokens
    assert counts == (totals["conversations"], totals["tokens"], totals["trained_tokens"])


def test_a_model_trains_on_it(built: Path, tmp_path: Path) -> None:
    """Transformers' own collator pads the columns into a batch."""
    torch = pytest.importorskip("torch")
    from transformers import AutoTokenizer, DataCollatorForSeq2Seq

    export_dataset(built, "hf", tmp_path / "out")
    loaded = datasets.load_from_disk(str(tmp_path / "out"))
    tokenizer = AutoTokenizer.from_pretrained(str(CONVERSATIONS.parent / "tokenizer"))
    batch = DataCollatorForSeq2Seq(tokenizer)([loaded[0], loaded[1]])
    (ids, labels), *_ = expected(built)
    assert batch["input_ids"][0, : len(ids)].tolist() == ids
    assert batch["labels"][0, : len(ids)].tolist() == labels
    assert batch["labels"].dtype == torch.int64


def test_weights(tmp_path: Path) -> None:
    """A column where there is one, else a refusal that leaves nothing behind."""
    said: list[dict[str, Any]] = [{"role": "user", "content": "Hello?"}]
    said += [{"role": "assistant", "content": "Hello!", "weight": 0.5}]
    build(tmp_path / "data", write(tmp_path / "a.jsonl", {"messages": said}), max_length=64)
    export_dataset(tmp_path / "data", "hf", tmp_path / "hf")
    row = datasets.load_from_disk(str(tmp_path / "hf"))[0]
    assert sorted(set(row["loss_weights"])) == [0.0, 0.5]
    assert np.array_equal(np.array(row["labels"]) != -100, np.array(row["loss_weights"]) > 0)
    for form in ("trl", "axolotl", "llama-factory"):
        with pytest.raises(ConfigError, match=f"its mask holds weights, for which {form} has no column"):
            export_dataset(tmp_path / "data", form, tmp_path / "out" / form)
    assert [path.name for path in tmp_path.rglob("*out*/*")] == []
