"""Datasets of the same and of other conversations, beside what dictionaries in plain Python find."""

from __future__ import annotations

import json
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_builds import CONVERSATIONS, GOOD, build, load, write
from small_dataset import random_rows, write_dataset

from sftprep.compare.datasets import compare_datasets
from sftprep.compare.findings import Comparison
from sftprep.errors import DatasetError

RECORDS = CONVERSATIONS.read_bytes().splitlines()[:12]
OTHER_TEMPLATE = "{% for m in messages %}<|im_start|>{{ m.role }}: {{ m.content }}<|im_end|>{% endfor %}"
OTHER_TEMPLATE += "{% if add_generation_prompt %}<|im_start|>assistant: {% endif %}"


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Builds of the sample's first conversations, each made once."""
    folder, made = tmp_path_factory.mktemp("builds"), dict[str, Path]()
    write(folder / "a.jsonl", *RECORDS)

    def of(*records: bytes, **options: Any) -> Path:
        key = repr((records, options))
        if key not in made:
            place = folder / f"of {len(list(folder.iterdir()))}"
            place.mkdir()
            source = write(place / "a.jsonl", *records) if records else str(folder / "a.jsonl")
            build(place / "out", source, **options)
            made[key] = place / "out"
        return made[key]

    return of


def counts(found: Comparison) -> dict[str, int]:
    named = {kind.name: kind.count for kind in found.kinds}
    assert found.equal + sum(named.values()) == found.conversations
    return {"equal": found.equal, **named}


def by_hand(a: Path, b: Path) -> dict[str, int]:
    """What the same inputs give in two builds, record by record, one example each, by the lines they came from."""
    sides = []
    for folder in (a, b):
        x, y, mask, segments = (load(folder, kind) for kind in ("X", "Y", "mask", "segments"))
        lines = pairs_of(folder)
        ids = [[*x[row, :1], *y[row, :length]] for row, _, length in segments]
        trained = [mask[row, :length].tolist() for row, _, length in segments]
        sides.append(dict(zip(lines, zip(ids, trained, strict=True), strict=True)))
    found: Counter[str] = Counter()
    for line in sides[0].keys() | sides[1].keys():
        ours, theirs = (side.get(line) for side in sides)
        if ours is None or theirs is None:
            found["only_b" if ours is None else "only_a"] += 1
            continue
        shared = min(len(each[0]) for each in (ours, theirs))
        if ours[0][:shared] != theirs[0][:shared]:
            found["ids"] += 1
        elif ours[1][: shared - 1] != theirs[1][: shared - 1]:
            found["mask"] += 1
        else:
            found["equal" if ours == theirs else "truncated"] += 1
    return dict(found)


def pairs_of(folder: Path) -> list[int]:
    import pyarrow.parquet as pq

    paths = sorted(folder.glob("shard-*.provenance.parquet"))
    return [line for path in paths for line in pq.read_table(path)["line"].to_pylist()]


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"train_on": "last"}, ["mask"]),
        ({"max_length": 16}, ["truncated", "only_a"]),
        ({"mask": "scan"}, []),
        ({"mask": "scan", "scan_end_offset": 1}, ["mask"]),
        ({"chat_template": OTHER_TEMPLATE}, ["ids"]),
        ({"max_length": 2000}, []),
    ],
    ids=str,
)
def test_other_options(built: Callable[..., Path], options: dict[str, Any], expected: list[str]) -> None:
    found = compare_datasets(built(max_length=1024), built(**{"max_length": 1024, **options}))
    assert counts(found) == {"equal": 0, **by_hand(built(max_length=1024), built(**{"max_length": 1024, **options}))}
    assert {kind.name for kind in found.kinds} == {*expected}
    assert found.differs == bool(expected)
    assert {*options} <= {change.name for change in found.options}
    for kind in found.kinds:
        assert all(each.a is None or each.a.place.startswith("a.jsonl:") for each in kind.examples)


def test_order_files_splits_and_widths_do_not_count(built: Callable[..., Path], tmp_path: Path) -> None:
    shuffled = random.Random(0).sample(RECORDS, len(RECORDS))
    files = [write(tmp_path / f"{n}.jsonl", *shuffled[n::3]) for n in range(3)]
    build(tmp_path / "out", *files, max_length=1024)
    found = compare_datasets(built(max_length=1024), tmp_path / "out")
    assert counts(found) == {"equal": len(RECORDS)}
    assert not found.differs
    assert not found.totals
    assert {change.name for change in found.options} == {f"input {name}.jsonl" for name in "a012"}


def test_one_record_changed_one_gone_and_one_twice(built: Callable[..., Path]) -> None:
    changed = json.loads(RECORDS[3])
    changed["messages"][-1]["content"] += " Indeed."
    other = [*RECORDS[:3], json.dumps(changed).encode(), *RECORDS[5:], RECORDS[0]]
    found = compare_datasets(built(max_length=1024), built(*other, max_length=1024))
    assert counts(found) == {"equal": len(RECORDS) - 2, "only_a": 2, "only_b": 2}
    a, b = ({(each.a or each.b).place for each in kind.examples} for kind in found.kinds)  # type: ignore[union-attr]
    assert (a, b) == ({"a.jsonl:4", "a.jsonl:5"}, {"a.jsonl:4", f"a.jsonl:{len(other)}"})


def test_the_kth_example_of_a_record_is_the_kth(tmp_path: Path) -> None:
    """A record that is there twice, and is longer cut in the other build."""
    long = {
        "messages": [*GOOD["messages"], {"role": "user", "content": "On?"}, {"role": "assistant", "content": "On."}]
    }
    sides = [tmp_path / name for name in ("a", "b")]
    for folder, limit in zip(sides, (1024, 24), strict=True):
        folder.mkdir()
        build(folder / "out", write(folder / "a.jsonl", long, GOOD, long), max_length=limit)
    found = compare_datasets(sides[0] / "out", sides[1] / "out")
    assert counts(found) == {"equal": 1, "truncated": 2}
    pairs = [(each.a.place, each.b.place) for each in found.kinds[0].examples if each.a and each.b]
    assert pairs == [("a.jsonl:1", "a.jsonl:1"), ("a.jsonl:3", "a.jsonl:3")]


def test_the_set_counts(built: Callable[..., Path]) -> None:
    found = compare_datasets(built(max_length=1024), built(max_length=1024, validation="40%"))
    held = next(change for change in found.options if change.name == "validation")
    assert (held.a, held.b) == (None, "40%")
    named = counts(found)
    assert named.keys() == {"equal", "set"}
    assert 0 < named["set"] < len(RECORDS)
    assert {each.b.set for each in found.kinds[0].examples if each.b} == {"validation"}


def test_what_a_record_is_known_by_where_its_bytes_are_others(tmp_path: Path) -> None:
    """Of a columnar file the bytes of a record are made of the columns that are read: its place is the same."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    rows = [{"messages": GOOD["messages"], "extra": GOOD["messages"]} for _ in range(2)]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    build(tmp_path / "a", str(tmp_path / "a.parquet"))
    build(tmp_path / "b", str(tmp_path / "a.parquet"), messages_key="extra", chat_template=OTHER_TEMPLATE)
    assert counts(compare_datasets(tmp_path / "a", tmp_path / "b")) == {"equal": 0, "ids": 2}


def test_dtypes_do_not_count(tmp_path: Path) -> None:
    rows = random_rows(np.random.default_rng(1), 9, 12)
    write_dataset(tmp_path / "a", [rows], max_length=12)
    write_dataset(tmp_path / "b", [rows[:4], rows[4:]], max_length=15, dtype="uint32", mask_dtypes=("bool", "float32"))
    told: list[int] = []
    found = compare_datasets(tmp_path / "a", tmp_path / "b", lambda step, total, unit: told.append(-total), told.append)
    assert (counts(found), found.differs, sum(told), told[0]) == ({"equal": 9}, False, 0, -18)
    assert {"width", "dtype", "max_length"} <= {change.name for change in found.options}


def test_damage_is_named(tmp_path: Path) -> None:
    write_dataset(tmp_path / "a", [random_rows(np.random.default_rng(1), 3, 12)], max_length=12)
    with pytest.raises(DatasetError, match=r"nowhere.manifest\.json: missing"):
        compare_datasets(tmp_path / "a", tmp_path / "nowhere")
    (tmp_path / "a" / "shard-00000.X.npy").write_bytes(b"")
    with pytest.raises(DatasetError, match=r"shard-00000\.X\.npy"):
        compare_datasets(tmp_path / "a", tmp_path / "a")
