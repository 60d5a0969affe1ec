"""`--contexts served`: each turn is trained once, behind exactly what Transformers renders when it is asked for that turn.

The oracle renders every prefix of a conversation, with `add_generation_prompt` before a turn and without behind it.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from conftest import FULL
from forms_of_record import forms_of, words_of
from kinds_of_conversation import KINDS, Record
from prefix_oracle import Oracle
from published_templates import TODAY, Published, minimind_words, open_both_ways, published, save_tokenizer
from small_builds import build, conversations
from tokenizers import Tokenizer

from sftprep.batches.both_ways import BothWays
from sftprep.batches.contexts import Contexts
from sftprep.batches.exact_way import weights_of
from sftprep.errors import SftprepError
from sftprep.records.conversation import parse_conversation

EVERY_TEMPLATE, EVERY_KIND = (1, 1) if FULL else (5, 13)
REASONED = {"role": "assistant", "content": "Granite hides it.", "reasoning_content": "Think of feldspar first."}
AGAIN = {"role": "assistant", "content": "Basalt shows it.", "reasoning_content": "Olivine comes second."}
NOT_ASKING = "trl/diffusion_gemma"  # asks for nothing after a tool's result, though its turns have a header there
THOUGHT = {"reasoning_content", "reasoning", "thinking"}
MORE = {
    "reasoning in two turns": {
        "messages": [
            {"role": "user", "content": "Quartz shines where?"},
            REASONED,
            {"role": "user", "content": "And gabbro?"},
            AGAIN,
        ]
    },
    "a turn without reasoning between two with it": {
        "messages": [
            {"role": "user", "content": "Quartz shines where?"},
            REASONED,
            {"role": "user", "content": "And gabbro?"},
            {"role": "assistant", "content": "Under the lava."},
            {"role": "user", "content": "And chalk?"},
            AGAIN,
            {"role": "user", "content": "Thank you."},
        ]
    },
}


TURN_BY_TURN = [  # two answers in a row may be one run of trained tokens
    kind
    for kind, record in KINDS.items()
    if not any(one["role"] == other["role"] == "assistant" for one, other in pairwise(record["messages"]))
]


@dataclass(frozen=True, slots=True)
class Run:
    """Tokens that are trained in a row."""

    context: str  # what stands before
    trained: str


def runs_of(both_ways: BothWays, record: Record, decode: Any) -> tuple[list[Run], int, int]:
    """What is trained of a record as it is served; how many turns could not be; how many examples."""
    conversation = parse_conversation(json.dumps(record).encode())
    examples = Contexts(both_ways._templates, conversation).examples(weights_of(conversation, both_ways._config))
    masked = both_ways.mask(examples.conversations, range(len(examples.conversations)))  # both ways are compared
    for reason in masked.failed.values():
        raise SftprepError(reason)
    assert isinstance(masked.mask, np.ndarray)
    found = []
    for start, stop in pairwise(masked.batch.offsets.tolist()):
        ids, mask = masked.batch.ids[start:stop].tolist(), masked.mask[start:stop]
        edges = np.flatnonzero(np.diff(np.concatenate([[False], mask != 0, [False]]))).reshape(-1, 2).tolist()
        found += [Run(decode(ids[:first]), decode(ids[first:last])) for first, last in edges]
    return found, examples.others, len(examples.conversations)


def faults(oracle: Oracle, record: Record, runs: list[Run]) -> Iterator[str]:
    """What is wrong with the turns that are trained, each of which is the answer to some prefix."""
    told, tools, left, unknown = oracle.tell(record), record.get("tools"), list(runs), 0
    assert told is not None
    messages = next(messages for form, messages in forms_of(record["messages"]) if form == told.form)
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        if index == 0:  # nobody is asked for a first message
            unknown += 1
            continue
        asked, last = (oracle.render(messages[: index + more], tools, prompt=not more) for more in (0, 1))
        if not asked or last is None:
            unknown += 1
            continue
        own = [run for run in left if is_behind(run, asked)]
        for run in own[:1]:
            left.remove(run)
        trained, said = own[0].trained.strip() if own else "", last[len(shared(asked, last)) :]
        answer = next((trained.removesuffix(end) for end in oracle.all_ends if trained.endswith(end)), trained).strip()
        if any(word in said and word not in trained for word in words_of(message)) or not (
            answer in last or trained in told.text
        ):
            yield f"message {index} is trained as {trained!r} behind {asked!r}, not as in {last!r}"
    if len(left) > unknown:
        yield f"trained behind what nobody is asked: {left}"


def is_result(message: dict[str, Any]) -> bool:
    return bool(message["role"] == "tool")


def shared(one: str, other: str) -> str:
    """What two texts begin with."""
    return one[: next((at for at in range(len(one)) if one[at : at + 1] != other[at : at + 1]), len(one))]


def is_behind(run: Run, asked: str) -> bool:
    """Whether a run stands behind what is asked; a token may hold blanks of both."""
    return asked.rstrip() == run.context.rstrip()


def served(template: Published, words: str, kinds: dict[str, Record]) -> Iterator[tuple[str, int, list[str]]]:
    """(kind, examples, faults) of what Transformers and sftprep take, but for turns that think where the prompt has ended all
    thinking: they are no answers to it, and are counted."""
    names = (*template.controls, *template.plain)
    today = date.fromisoformat(TODAY)
    oracle = Oracle(template.source, template.special, template.ends, template.controls, names, today.strftime)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = save_tokenizer(template, words, Path(folder))
        both_ways = open_both_ways(Path(folder))

        def decode(ids: list[int]) -> str:
            return str(tokenizer.decode(ids, skip_special_tokens=False))

        for kind, record in kinds.items():
            try:
                runs, others, examples = runs_of(both_ways, record, decode)
            except SftprepError:
                continue  # that both refuse the same is test_prefix_oracle's matter
            if oracle.tell(record) is None:
                continue
            asked = oracle.render([{"role": "user", "content": "?"}], None, prompt=True) or ""
            if others and template.name.startswith(NOT_ASKING) and any(map(is_result, record["messages"])):
                continue
            if others and asked.rstrip().endswith(("</think>", "<channel|>")):
                assert "think" in json.dumps(record) or any(THOUGHT & message.keys() for message in record["messages"])
            else:
                yield kind, examples, [*faults(oracle, record, runs), *["cannot be served"] * others]


def test_published_templates_serve_what_transformers_renders(shared_data: Path) -> None:
    words = minimind_words(shared_data)
    templates = [each for each in published(shared_data) if FULL or not each.name.endswith("_training.jinja")]
    wrong, several = [], 0
    for number, template in enumerate(templates[::EVERY_TEMPLATE]):
        kinds = {kind: KINDS[kind] for place, kind in enumerate(TURN_BY_TURN) if (place + 5 * number) % EVERY_KIND == 0}
        for kind, examples, found in served(template, words, kinds | MORE):
            several += examples > 1
            if found:
                wrong.append(f"{template.name}, {kind}: " + "; ".join(found))
    assert several > 10
    assert wrong == [], "\n".join(wrong)


def trained_texts(folder: Path, decode: Any) -> str:
    """All that a dataset trains, each run on a line."""
    found = []
    for _, y, mask in conversations(folder):
        edges = np.flatnonzero(np.diff(np.concatenate([[False], mask != 0, [False]]))).reshape(-1, 2).tolist()
        found += [decode(y[first:last].tolist()) for first, last in edges]
    return "\n".join(found)


def test_all_reasoning_of_real_conversations_is_trained_as_it_is_served(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "conversations" / "reason_tool_use_demo_50.jsonl"
    folder = str(shared_data / "tokenizers" / "qwen3")
    decode = Tokenizer.from_file(f"{folder}/tokenizer.json").decode
    thoughts = [
        part["value"].strip()
        for line in source.read_text(encoding="utf-8").splitlines()
        for message in json.loads(line)["messages"]
        for part in message["content"]
        if part["type"] == "reasoning"
    ]
    found = {}
    for contexts in ("whole", "served"):
        manifest = build(tmp_path / contexts, str(source), tokenizer=folder, max_length=1 << 15, contexts=contexts)
        text = trained_texts(tmp_path / contexts, lambda ids: decode(ids, skip_special_tokens=False))
        found[contexts] = sum(thought in text for thought in thoughts), manifest.totals
    assert (len(thoughts), found["served"][0], found["whole"][0]) == (112, 112, 72)
    assert found["whole"][1]["other_context"] > found["served"][1]["other_context"] == 0
    assert [found[each][1]["dropped_reasoning"] for each in ("whole", "served")] == [40, 0]
    assert found["served"][1]["examples"] > found["served"][1]["conversations"] == found["whole"][1]["conversations"]
