"""Records that are trained as several examples: each whole or not at all, counted once, found again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from small_builds import GOOD, TOKENIZER, build, load, rejects, write

from sftprep.batches.prepare import Preparer
from sftprep.batches.toolbox import load as load_toolbox
from sftprep.config import BuildConfig
from sftprep.containers.record import Record
from sftprep.dataset.verify import verify_dataset
from sftprep.errors import ConfigError, ConversationError
from sftprep.jobs.rederive import verify_source

# prints what a message thinks while it comes last only
TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{% if loop.last and m.reasoning_content %}<{{ m.reasoning_content }}>"
    "{% endif %}{{ m.content }}<|im_end|>\n{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def talk(*said: str, thought: str = "Hm.") -> dict[str, Any]:
    messages = [{"role": ("user", "assistant")[n % 2], "content": text} for n, text in enumerate(said)]
    for message in messages[1::2]:
        message["reasoning_content"] = thought
    return {"messages": messages}


def served(folder: Path, *records: Any, **options: Any) -> Any:
    source = write(folder / "a.jsonl", *records)
    given = {"chat_template": TEMPLATE, "contexts": "served", "max_length": 128, **options}
    return build(folder / "out", source, **given)


def trained(folder: Path) -> list[str]:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(f"{TOKENIZER}/tokenizer.json")
    y, mask = load(folder / "out", "Y"), load(folder / "out", "mask")
    return [tokenizer.decode(row[on].tolist(), skip_special_tokens=False) for row, on in zip(y, mask, strict=True)]


def test_each_example_is_a_row_and_each_record_a_conversation(tmp_path: Path) -> None:
    totals = served(tmp_path, talk("One?", "First.", "Two?", "Second.", "Three?"), GOOD).totals
    assert trained(tmp_path) == ["<Hm.>First.<|im_end|>", "<Hm.>Second.<|im_end|>", "Hello!<|im_end|>"]
    assert (totals["records"], totals["conversations"], totals["examples"], totals["rows"]) == (2, 2, 3, 3)
    assert (totals["other_context"], totals["dropped_examples"]) == (0, 0)
    (table,) = [pq.read_table(path) for path in (tmp_path / "out").glob("*.parquet")]
    assert table["line"].to_pylist() == [1, 1, 2]
    assert verify_dataset(tmp_path / "out") == []
    assert verify_source(tmp_path / "out", [str(tmp_path / "a.jsonl")], TOKENIZER) == []


def test_whole_counts_what_served_mends(tmp_path: Path) -> None:
    totals = served(tmp_path, talk("One?", "First.", "Two?", "Second."), contexts="whole").totals
    assert (totals["examples"], totals["other_context"]) == (1, 1)
    assert trained(tmp_path) == ["First.<|im_end|><Hm.>Second.<|im_end|>"]


def test_a_record_is_rejected_with_all_its_examples(tmp_path: Path) -> None:
    """The second example spells a control token, the first does not."""
    forging = talk("One?", "First.", "<|im_end|>?", "Second.")
    totals = served(tmp_path, forging, GOOD, control_tokens="reject").totals
    assert (totals["conversations"], totals["rejected"], totals["control_text"]) == (1, 1, 1)
    assert trained(tmp_path) == ["Hello!<|im_end|>"]
    assert [each["line"] for each in rejects(tmp_path / "out")] == [1]


def test_examples_that_are_too_long_are_counted(tmp_path: Path) -> None:
    long = talk("One?", "First.", "Two? " * 40, "Second.")
    totals = served(tmp_path, long, GOOD, max_length=48).totals
    assert (totals["conversations"], totals["examples"], totals["dropped_examples"], totals["dropped"]) == (2, 2, 1, 0)
    assert trained(tmp_path)[0] == "<Hm.>First.<|im_end|>"


def test_a_record_of_which_all_is_too_long_is_dropped_once(tmp_path: Path) -> None:
    long = talk("One? " * 40, "First.", "Two?", "Second.")
    totals = served(tmp_path, long, GOOD, max_length=48).totals
    assert (totals["conversations"], totals["dropped"], totals["dropped_examples"]) == (1, 1, 0)
    (reject,) = rejects(tmp_path / "out")
    assert (reject["kind"], "longer than 48 tokens" in reject["reason"]) == ("dropped", True)


def test_untrained_ones_are_kept_if_asked_for_and_rejected_ones_are_not(tmp_path: Path) -> None:
    records = (talk("One?", "First.", "Two?", "Second."), GOOD, {"messages": [{"role": "user", "content": "Hi"}]})
    template = TEMPLATE.replace(
        "{% for", "{% if messages[0].content == 'Hello?' %}{{ raise_exception('no') }}{% endif %}{% for", 1
    )
    for contexts in ("whole", "served"):
        folder = tmp_path / contexts
        folder.mkdir()
        totals = served(folder, *records, keep_untrained=True, contexts=contexts, chat_template=template).totals
        assert (totals["records"], totals["conversations"], totals["rejected"]) == (3, 2, 1)
        assert totals["rows"] == totals["examples"] == {"whole": 2, "served": 3}[contexts]
        assert verify_dataset(folder / "out") == []


def test_many_examples_are_tokenized_in_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    records = [talk(*[f"{number}?", f"{number}."] * 3) if number % 3 else {"broken": number} for number in range(30)]
    (tmp_path / "parts").mkdir()
    at_once = served(tmp_path, *records)
    monkeypatch.setattr("sftprep.batches.prepare._MOST", 500)
    in_parts = served(tmp_path / "parts", *records)
    assert at_once.totals == in_parts.totals
    assert (at_once.totals["examples"], at_once.totals["rejected"]) == (60, 10)
    for kind in ("X", "Y", "mask", "segments"):
        assert np.array_equal(load(tmp_path / "out", kind), load(tmp_path / "parts" / "out", kind))
    assert rejects(tmp_path / "out") == rejects(tmp_path / "parts" / "out")


def test_contexts_belong_to_masks_by_turns(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--contexts belongs to --mask turns, not to --mask minimind"):
        served(tmp_path, GOOD, mask="minimind")
    with pytest.raises(ConfigError, match="--contexts half: expected one of whole, served"):
        served(tmp_path, GOOD, contexts="half")


def test_the_examples_of_one_record(tmp_path: Path) -> None:
    """Those that the rows of a build are made of, and the conversation before it was taken apart."""
    options = {
        "chat_template": TEMPLATE,
        "contexts": "served",
        "system_prompts": ["Be brief."],
        "system_prompt_ratio": 1.0,
    }
    config = BuildConfig((), TOKENIZER, **options)  # type: ignore[arg-type]
    preparer = Preparer(config, load_toolbox(config), ["a.jsonl"], check_every=1)

    def examples(given: Any, home: str = "train") -> list[list[str]]:
        whole, made = preparer.examples(Record(json.dumps(given).encode(), 0, 1, 0), home)
        return [[message["content"] for message in each.messages] for each in (whole, *made)]

    whole = ["Be brief.", "One?", "First.", "Two?", "Second.", "Three?"]
    assert examples(talk("One?", "First.", "Two?", "Second.", "Three?")) == [whole, whole[:3], whole[:5]]
    assert examples(GOOD, "validation") == [["Hello?", "Hello!"]] * 2
    with pytest.raises(ConversationError, match="none of messages"):
        examples({"text": "no such key"})
