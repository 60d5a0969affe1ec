"""Rows packed from ragged tokens: every conversation once, as it was built, whatever the width."""

from __future__ import annotations

import pickle
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_builds import CONVERSATIONS, GOOD, build, conversations, write

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402

from sftprep.errors import ConfigError, DatasetError  # noqa: E402
from sftprep.reader import Collator, PackedDataset, ResumableSampler, ShardDataset  # noqa: E402

Pairs = tuple[list[int], list[int], list[float]]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The sample, in each layout: no conversation has more than 512 tokens."""
    at = tmp_path_factory.mktemp("layouts")
    half = {"messages": [GOOD["messages"][0], {**GOOD["messages"][1], "weight": 0.5}]}
    for layout in ("padded", "packed", "ragged"):
        build(at / layout, str(CONVERSATIONS), layout=layout, max_length=513)
        build(at / f"{layout}-weights", write(at / "a.jsonl", half, GOOD, GOOD), layout=layout, max_length=65)
    return {path.name: path for path in at.iterdir() if path.is_dir()}


def padded(folder: Path) -> list[Pairs]:
    return sorted((x.tolist(), y.tolist(), mask.tolist()) for x, y, mask in conversations(folder))


def in_rows(dataset: Any) -> Iterator[Pairs]:
    """Conversations of rows with labels, told apart by their positions."""
    for index in range(len(dataset)):
        sample = dataset[index]
        ids, labels = sample["input_ids"], sample["labels"]
        weights = sample.get("loss_weights", (labels != -100).float())
        starts = torch.nonzero(sample["position_ids"] == 0).flatten().tolist()
        for begin, end in zip(starts, [*starts[1:], len(ids)], strict=True):
            assert labels[begin] == -100
            assert ((labels == ids) | (labels == -100))[begin:end].all()
            yield ids[begin : end - 1].tolist(), ids[begin + 1 : end].tolist(), weights[begin + 1 : end].tolist()


@pytest.mark.parametrize("length", [512, 600, 4096])
@pytest.mark.parametrize("kind", ["", "-weights"])
def test_every_conversation_is_in_one_row_as_it_was_built(folders: dict[str, Path], length: int, kind: str) -> None:
    expected = padded(folders[f"padded{kind}"])
    assert sorted(in_rows(PackedDataset(folders[f"ragged{kind}"], length, labels=True))) == expected
    assert sorted(in_rows(ShardDataset(folders[f"packed{kind}"], labels=True))) == expected


def test_rows_are_the_same_with_and_without_labels(folders: dict[str, Path]) -> None:
    plain, labelled = (PackedDataset(folders["ragged"], 512, labels=labels) for labels in (False, True))
    assert len(plain) == len(labelled) < 74 // 2
    for index in range(len(plain)):
        x, y, mask = plain[index]
        assert x.shape == y.shape == mask.shape == (512,)
        assert {each.dtype for each in (x, y, mask)} == {torch.int64}
        ids, positions = labelled[index]["input_ids"], labelled[index]["position_ids"]
        follows = torch.nonzero(positions[1:] != 0).flatten()  # pairs within a conversation
        count = len(follows)
        assert torch.equal(x[:count], ids[follows])
        assert torch.equal(y[:count], ids[follows + 1])
        assert torch.equal(mask[:count] > 0, (labelled[index]["labels"] != -100)[follows + 1])
        assert (x[count:] == plain.manifest.pad_id).all()
        assert (mask[count:] == 0).all()
        assert plain.lengths[index] == len(ids)


def test_the_order_depends_on_seed_and_epoch_and_on_nothing_else(folders: dict[str, Path]) -> None:
    dataset, again = PackedDataset(folders["ragged"], 512), PackedDataset(folders["ragged"], 512)
    first = [row[0] for row in dataset]
    assert all(map(torch.equal, first, (row[0] for row in pickle.loads(pickle.dumps(again)))))
    again.set_epoch(1)
    second = [row[0] for row in again]
    assert not all(map(torch.equal, first, second))
    assert sorted(row.tolist() for row in first) == sorted(row.tolist() for row in second)
    assert dataset.fingerprint == PackedDataset(folders["ragged"], 512).fingerprint
    assert dataset.fingerprint != PackedDataset(folders["ragged"], 512, seed=1).fingerprint
    other = [row[0] for row in PackedDataset(folders["ragged"], 512, seed=1)]
    assert not all(map(torch.equal, first, other))


@pytest.mark.parametrize("overflow", ["truncate", "turns", "split", "drop"])
def test_what_is_too_long_becomes_what_a_build_makes_of_it(
    folders: dict[str, Path], overflow: str, tmp_path: Path
) -> None:
    build(tmp_path / "built", str(CONVERSATIONS), max_length=101, overflow=overflow)
    rows = PackedDataset(folders["ragged"], 100, overflow=overflow, labels=True)
    assert sorted(in_rows(rows)) == padded(tmp_path / "built")


def test_places_of_a_conversation_are_a_multiple_if_asked_for(folders: dict[str, Path]) -> None:
    plain, wide = (PackedDataset(folders["ragged"], 512, labels=True, pad_to=pad_to) for pad_to in (1, 8))
    for sample in (wide[index] for index in range(len(wide))):
        starts = torch.nonzero(sample["position_ids"] == 0).flatten().tolist()
        sizes = np.diff([*starts, len(sample["input_ids"])]) - 1
        assert (sizes % 8 == 0).all()
        assert sizes.sum() <= 512
    assert sum((wide[at]["labels"] != -100).sum() for at in range(len(wide))) == sum(
        (plain[at]["labels"] != -100).sum() for at in range(len(plain))
    )
    x, y, mask = PackedDataset(folders["ragged"], 512, pad_to=8)[0]
    assert mask.sum() > 0
    assert (y[mask > 0] != 0).any()
    assert x.shape == (512,)


@pytest.mark.parametrize("workers", [0, 2])
def test_a_loader_gives_batches(folders: dict[str, Path], workers: int) -> None:
    def total(loader: Any) -> int:
        return sum(int((batch["labels"] != -100).sum()) for batch in loader)

    dataset = PackedDataset(folders["ragged"], 512, labels=True)
    expected = dataset.manifest.totals["trained_tokens"]
    for form in ("rows", "flat"):
        assert total(DataLoader(dataset, batch_size=3, collate_fn=Collator(form), num_workers=workers)) == expected
    packed = ShardDataset(folders["packed"], labels=True)
    assert total(DataLoader(packed, batch_size=3, num_workers=workers)) == expected
    assert total(DataLoader(dataset, batch_size=3, num_workers=workers)) == expected
    assert total(DataLoader(packed, batch_size=3, collate_fn=Collator("flat"), num_workers=workers)) == expected
    plain = PackedDataset(folders["ragged"], 512)
    sampler = ResumableSampler(plain, 2, rank=0, world_size=1, tail="pad")
    assert sorted(index for batch in sampler for index in batch) == [*range(len(plain))]
    assert sum(int(mask.sum()) for _, _, mask in DataLoader(plain, batch_size=3, num_workers=workers)) == expected


def test_where_a_row_came_from(folders: dict[str, Path]) -> None:
    dataset = PackedDataset(folders["ragged"], 512)
    places = [place for index in range(len(dataset)) for place in dataset.source(index).split(", ")]
    assert sorted(places) == sorted(f"conversations.jsonl:{line}" for line in range(1, 75))
    assert re.search(r"\d+ rows of 512, 9\d\.\d% full$", repr(dataset))
    short = PackedDataset(folders["ragged"], 100, overflow="drop")
    long = sum(len(x) > 100 for x, _, _ in padded(folders["padded"]))
    assert (short.cut, short.left_out) == (0, long)
    assert f"{long} left out" in repr(short)
    assert PackedDataset(folders["ragged"], 100).cut > 0


def test_what_cannot_be_is_refused(folders: dict[str, Path], tmp_path: Path) -> None:
    ragged = folders["ragged"]
    with pytest.raises(ConfigError, match="PackedDataset makes rows"):
        ShardDataset(ragged)
    with pytest.raises(ConfigError, match="--layout ragged"):
        PackedDataset(folders["padded"], 512)
    for options in (
        {"length": 0},
        {"length": 12, "pad_to": 8},
        {"length": 9, "overflow": "wrap"},
        {"length": 9, "dtype": torch.uint16},
    ):
        with pytest.raises(ConfigError):
            PackedDataset(ragged, **options)
    with pytest.raises(ConfigError, match=r"conversations\.jsonl:1 has 145 tokens, which do not fit into a row of 20"):
        PackedDataset(ragged, 20, overflow="error")
    with pytest.raises(TypeError, match="integer"):
        _ = PackedDataset(ragged, 512)[[0, 1]]
    with pytest.raises(IndexError):
        _ = PackedDataset(ragged, 512)[10**6]
    (ragged / "shard-00000.mask.npy").rename(tmp_path / "away")
    try:
        with pytest.raises(DatasetError, match="mask"):
            PackedDataset(ragged, 512)
    finally:
        (tmp_path / "away").rename(ragged / "shard-00000.mask.npy")
