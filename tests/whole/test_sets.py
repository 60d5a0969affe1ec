"""Sets and repeats, compared with an oracle that reads the inputs with plain json and decides by itself."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from faults.builds import hashes
from small_builds import TOKENIZER, build, rejects, sftprep

from sftprep.dataset.manifest import Manifest
from sftprep.dataset.verify import verify_dataset
from sftprep.jobs.rederive import verify_source

Place = tuple[str, int]  # file and line
SHARE, SEED = 0.2, 5
NAMES = {"user": "human", "assistant": "gpt", "system": "system"}


def dumped(record: Any) -> bytes:
    return json.dumps(record, ensure_ascii=False).encode()


def as_messages(messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"source": "elsewhere", "messages": [dict(reversed(message.items())) for message in messages]}


def as_sharegpt(messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"conversations": [{"value": each["content"], "from": NAMES[each["role"]]} for each in messages], "id": 7}


def as_shouted(messages: list[dict[str, Any]]) -> dict[str, Any]:
    return {"messages": [{**each, "content": f" {each['content'].replace(' ', '  ').upper()}\n"} for each in messages]}


@pytest.fixture(scope="module")
def inputs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A sample of the corpus in three files; repeats of it in other forms, near-copies and broken lines are sown in."""
    folder = tmp_path_factory.mktemp("sown")
    with corpus.open("rb") as lines:
        taken = [json.loads(line)["conversations"] for line in list(lines)[::50] if len(line) < 2000]
    said = [talk for talk in taken if all(each.keys() == {"role", "content"} for each in talk)]
    filled = [{"conversations": talk, "filling": "x" * 20_000} for talk in said[:150]]  # to make some splits of it
    first = [*map(dumped, filled), b"{broken", b"{broken", *map(dumped, filled[:3])]
    second = [*map(as_sharegpt, said[:100:3]), *map(as_messages, said[150:190]), *map(as_shouted, said[5:40])]
    third = [*map(as_messages, said[1:190:4]), *map(as_messages, said[1:190:40]), *map(as_shouted, said[::20])]
    paths = {name: folder / name for name in ("a.jsonl", "b.json", "c.jsonl.gz")}
    paths["a.jsonl"].write_bytes(b"\n".join(first))
    paths["b.json"].write_bytes(b"[" + b",\n".join(map(dumped, second)) + b"]")
    rest = [*map(dumped, third), b"{broken", *map(dumped, map(as_sharegpt, said[190:]))]
    paths["c.jsonl.gz"].write_bytes(gzip.compress(b"\n".join(rest)))
    return paths


@dataclass
class Oracle:
    """Where each record belongs."""

    sets: dict[Place, str] = field(default_factory=dict)  # of those that stay
    repeats: dict[Place, str] = field(default_factory=dict)  # file:line of the one that stays
    broken: set[Place] = field(default_factory=set)
    texts: dict[Place, str] = field(default_factory=dict)  # without case, white space in one blank

    def near_copies(self, left: dict[str, set[Place]]) -> int:
        there = {self.texts[place] for place in left["validation"]}
        return sum(self.texts[place] in there for place in left["train"])


def decide(paths: list[Path], validation: Path | None, *, deduplicate: bool) -> Oracle:
    """validation: a file that is that set, read before all others; None: a share."""
    oracle, seen = Oracle(), {}
    for path in sorted(paths, key=lambda path: path != validation):
        for line, record in plainly_read(path):
            place = path.name, line
            try:
                turns = json.loads(record)
            except ValueError:
                oracle.broken.add(place)
                continue
            turns = turns.get("messages") or turns["conversations"]
            role = {"human": "user", "gpt": "assistant"}
            said = [
                {
                    "content": each.get("content", each.get("value")),
                    "role": role.get(each.get("from"), each.get("from", each.get("role"))),
                }
                for each in turns
            ]
            text = json.dumps([said, [], {}], ensure_ascii=False, separators=(",", ":"))
            oracle.texts[place] = str(
                [(each["role"], re.sub(r"\s+", " ", each["content"]).strip().casefold()) for each in said]
            )
            if deduplicate and text in seen:
                oracle.repeats[place] = seen[text]
                continue
            seen.setdefault(text, f"{path.name}:{line}")
            content = blake2b(text.encode(), digest_size=16).digest()
            drawn = blake2b(f"{SEED} validation ".encode() + content, digest_size=8).digest()
            in_validation = path == validation if validation else int.from_bytes(drawn, "big") / 2**64 < SHARE
            oracle.sets[place] = "validation" if in_validation else "train"
    return oracle


def plainly_read(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines, and what each says."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return enumerate(data[1:-1].split(b",\n") if path.suffix == ".json" else data.split(b"\n"), 1)


def check(folder: Path, manifest: Manifest, oracle: Oracle) -> None:
    assert verify_dataset(folder) == []
    listed: dict[str, dict[Place, dict[str, Any]]] = {kind: {} for kind in ("rejected", "dropped", "duplicate")}
    for each in rejects(folder):
        listed[each["kind"]][each["source"], each["line"]] = each
    assert listed["rejected"].keys() == oracle.broken
    assert {place: each["repeats"] for place, each in listed["duplicate"].items()} == oracle.repeats
    left: dict[str, set[Place]] = {"train": set(), "validation": set()}
    for shard in manifest.shards:
        table = pq.read_table(folder / shard.provenance, columns=["source", "line"]).to_pydict()
        left[shard.set] |= set(zip(table["source"], table["line"], strict=True))
    gone = listed["dropped"].keys()
    assert left == {of: {place for place, each in oracle.sets.items() if each == of} - gone for of in left}
    totals = manifest.totals
    assert (totals["rejected"], totals["dropped"], totals["duplicates"]) == tuple(map(len, listed.values()))
    assert totals["records"] == totals["conversations"] + sum(map(len, listed.values()))
    assert {of: manifest.sets[of]["conversations"] for of in left} == {of: len(places) for of, places in left.items()}
    assert totals["near_copies"] == oracle.near_copies(left)
    assert totals["near_copies"] >= 5


OPTIONS: dict[str, Any] = {"max_length": 128, "tokenizer_engine": "hf"}


@pytest.mark.parametrize(("held_out", "deduplicate"), [("c.jsonl.gz", True), (None, True), (None, False)])
def test_sets_and_repeats_are_those_of_plain_json(
    inputs: dict[str, Path], tmp_path: Path, held_out: str | None, *, deduplicate: bool
) -> None:
    validation = inputs[held_out] if held_out else None
    train = [path for path in inputs.values() if path != validation]
    sets: dict[str, Any] = (
        {"validation_input": (str(validation),)} if validation else {"validation": f"{SHARE:.0%}", "seed": SEED}
    )
    names = list(map(str, train))
    manifest = build(tmp_path / "one", *names, deduplicate=deduplicate, **OPTIONS, **sets)
    assert len(manifest.shards) >= 5
    oracle = decide(list(inputs.values()), validation, deduplicate=deduplicate)
    assert {*oracle.sets.values()} == {"train", "validation"}
    assert bool(oracle.repeats) == deduplicate
    check(tmp_path / "one", manifest, oracle)
    if deduplicate:
        build(tmp_path / "three", *names, deduplicate=True, **OPTIONS, **sets, workers=3)
        assert hashes(tmp_path / "three") == hashes(tmp_path / "one")
        sources = [*names, *sets.get("validation_input", ())]
        assert verify_source(tmp_path / "one", sources, TOKENIZER) == []
    else:
        alone = build(tmp_path / "alone", *names, **OPTIONS)
        if validation:  # the training set is what it is without
            kept = {shard.name for shard in alone.shards}
            assert kept == {shard.name for shard in manifest.shards if shard.set == "train"}
            both = [hashes(tmp_path / name) for name in ("alone", "one")]
            files = {name for name in both[0] if name.startswith("shard")}
            assert files == {name for name in both[1] if name.startswith("shard")}
            assert all(both[0][name] == both[1][name] for name in files)


def test_on_several_machines(inputs: dict[str, Path], tmp_path: Path) -> None:
    """plan finds the repeats; work in any order; the bytes are those of a build."""
    train, validation = [str(inputs[name]) for name in ("a.jsonl", "b.json")], str(inputs["c.jsonl.gz"])
    options = ["--max-length", "128", "--tokenizer-engine", "hf", "--deduplicate", "--validation-input", validation]
    command = [*train, "-o", str(tmp_path / "out"), "-t", TOKENIZER, *options]
    planned = sftprep("plan", *command)
    assert planned.returncode == 0, planned.stderr
    count = int(planned.stdout.split()[0])
    tasks = [option for task in reversed(range(count)) for option in ("--task", str(task))]
    assert sftprep("work", str(tmp_path / "out"), *tasks).returncode == 0
    assert sftprep("commit", str(tmp_path / "out")).returncode == 0
    build(tmp_path / "one", *train, validation_input=(validation,), deduplicate=True, **OPTIONS)
    assert hashes(tmp_path / "out") == hashes(tmp_path / "one")
