"""The sampler: every sample once, dealt to ranks, and a run that goes on exactly where it was."""

from __future__ import annotations

import json
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_dataset import random_rows, write_dataset

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402

from sftprep.errors import ConfigError  # noqa: E402
from sftprep.reader import ResumableSampler, ShardDataset  # noqa: E402
from sftprep.reader.order import Order, OrderOptions  # noqa: E402

more_workers_than_cores = pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker processes")


class Numbers:
    """A dataset of samples that are their own numbers, with lengths."""

    fingerprint = "numbers"

    def __init__(self, count: int) -> None:
        self.lengths = np.random.default_rng(count).integers(1, 20, count)

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, index: int) -> int:
        return index


def ranks(count: int, batch: int, world: int, **options: Any) -> list[ResumableSampler]:
    return [ResumableSampler(Numbers(count), batch, rank, world, seed=5, **options) for rank in range(world)]


def steps_of(samplers: list[ResumableSampler], most: int | None = None) -> list[list[list[int]]]:
    """The steps of the epoch, or of its beginning: a batch for each rank."""
    return [list(step) for step in zip(*(islice(iter(each), most) for each in samplers), strict=True)]


def in_order(step: list[list[int]]) -> list[int]:
    """A step's samples as they were dealt: a card to each in turn."""
    return [batch[at] for at in range(len(step[0])) for batch in step]


KINDS: list[dict[str, Any]] = [{}, {"shuffle": False}, {"group_by_length": True}, {"block": 3}]
numbers = st.integers(1, 5)


@settings(max_examples=40)
@given(st.integers(1, 120), numbers, numbers, st.sampled_from(KINDS), st.sampled_from(["drop", "pad"]))
def test_an_epoch(count: int, batch: int, world: int, kind: dict[str, Any], tail: str) -> None:
    if tail == "drop" and count < batch * world:
        with pytest.raises(ConfigError, match="too few"):
            ranks(count, batch, world, tail=tail, **kind)
        return
    samplers = ranks(count, batch, world, tail=tail, **kind)
    steps = steps_of(samplers)
    assert len(steps) == len(samplers[0])
    assert all(len(each) == batch for step in steps[:-1] for each in step)
    assert len({len(each) for each in steps[-1]}) == 1
    options = OrderOptions(kind.get("shuffle", True), kind.get("block", 0), batch * world * ("group_by_length" in kind))
    order = Order(count, 5, 0, options, Numbers(count).lengths)
    given_out = [each for step in steps for each in in_order(step)]
    assert given_out == order.take(0, len(given_out)).tolist()
    assert (
        len(given_out) == count // (batch * world) * batch * world
        if tail == "drop"
        else len(given_out) - count in range(world)
    )
    assert all(each.epoch == 1 for each in samplers)
    assert steps_of(samplers) != steps or not kind.get("shuffle", True) or count < 10


@settings(max_examples=40)
@given(st.integers(30, 120), numbers, numbers, st.integers(30, 60), st.sampled_from(["drop", "pad"]))
def test_batches_of_so_many_tokens(count: int, batch: int, world: int, most: int, tail: str) -> None:
    samplers = ranks(count, batch, world, tail=tail, max_tokens=most)
    steps = steps_of(samplers)
    assert len(steps) == len(ranks(count, batch, world, tail=tail, max_tokens=most)[0])
    lengths = Numbers(count).lengths
    batches = [each for step in steps for each in step]
    assert all(0 < len(each) <= batch and lengths[each].sum() <= most for each in batches)
    dealt = [each for batch in batches for each in batch]
    assert dealt == Order(count, 5, 0, OrderOptions()).take(0, len(dealt)).tolist()
    assert len(dealt) >= count if tail == "pad" else len(dealt) <= count
    for one, following in pairwise(batches):  # none could have held one more
        last = dealt.index(one[-1]) == count - 1
        assert last or len(one) == batch or lengths[[*one, following[0]]].sum() > most


jobs = st.tuples(numbers, numbers, st.integers(0, 12))  # batch size, world size, steps until it stops


@settings(max_examples=40)
@given(st.integers(30, 120), st.lists(jobs, min_size=1, max_size=5), st.sampled_from([*KINDS, {"max_tokens": 40}]))
def test_stopped_and_resumed_anywhere_the_sequence_goes_on(
    count: int, runs: list[tuple[int, int, int]], kind: dict[str, Any]
) -> None:
    """On other world sizes, with other batches. The state is said after some steps, while the sampler is further on."""
    state: dict[str, Any] | None = None
    had: list[int] = []
    group = runs[0][0] * runs[0][1] if "group_by_length" in kind else 0
    for batch, world, most in runs:
        samplers = ranks(count, batch, world, **kind)
        if state is not None:
            for each in samplers:
                each.load_state_dict(state)
        steps = steps_of(samplers, most + 2)[:most]
        states = [each.state_dict(len(steps)) for each in samplers]
        assert all(each == states[0] for each in states)
        state = json.loads(json.dumps(states[0]))
        if state["epoch"]:
            break  # the epoch ended within the run before, with what was too little for a step
        had += [each for step in steps for each in (sum(step, []) if "max_tokens" in kind else in_order(step))]  # noqa: RUF017
    options = OrderOptions(kind.get("shuffle", True), kind.get("block", 0), group)
    assert had == Order(count, 5, 0, options, Numbers(count).lengths).take(0, len(had)).tolist()
    assert state is not None
    assert state["epoch"] or state["consumed"] == len(had)


def test_a_state_after_the_last_step_is_the_next_epoch() -> None:
    whole = ranks(20, 5, 1)[0]
    epochs = [list(whole) for _ in range(3)]
    assert len({str(each) for each in epochs}) == 3
    for state in (whole.state_dict(), whole.state_dict(4)):
        resumed = ranks(20, 5, 1)[0]
        resumed.load_state_dict(state)
        assert list(resumed) == list(ranks_at(3))
    whole.set_epoch(1)
    assert list(whole) == epochs[1]


def ranks_at(epoch: int) -> ResumableSampler:
    sampler = ranks(20, 5, 1)[0]
    sampler.set_epoch(epoch)
    return sampler


def test_an_epoch_that_goes_on_is_not_begun_again() -> None:
    sampler = ranks(20, 5, 1)[0]
    first = list(islice(sampler, 2))
    sampler.set_epoch(0)
    assert first + list(sampler) == list(ranks_at(0))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> ShardDataset:
    folder = tmp_path_factory.mktemp("rows")
    rows = [random_rows(np.random.default_rng(count), count, 12) for count in (20, 17, 13)]
    write_dataset(folder, rows, max_length=9)
    return ShardDataset(folder)


def same(left: list[Any], right: list[Any]) -> bool:
    return len(left) == len(right) and all(torch.equal(a[0], b[0]) for a, b in zip(left, right, strict=True))


@more_workers_than_cores
@pytest.mark.parametrize(("first", "then"), [(0, 0), (4, 0), (0, 4)])
def test_a_loader_with_workers(dataset: ShardDataset, first: int, then: int) -> None:
    """It asks for batches ahead; the step says how many the trainer had."""
    whole = [dataset[batch] for batch in ResumableSampler(dataset, 6)]
    sampler = ResumableSampler(dataset, 6)
    loaded = list(islice(DataLoader(dataset, batch_sampler=sampler, num_workers=first), 3))
    state = sampler.state_dict(3)
    assert first == 0 or (sampler.epoch, sampler.consumed) > (0, state["consumed"])
    resumed = ResumableSampler(dataset, 6)
    resumed.load_state_dict(state)
    loaded += DataLoader(dataset, batch_sampler=resumed, num_workers=then)
    assert same(loaded, whole)


@more_workers_than_cores
@pytest.mark.filterwarnings("ignore:'set_vital' is deprecated")
@pytest.mark.parametrize("workers", [0, 4])
def test_torchdata(dataset: ShardDataset, workers: int) -> None:
    stateful = pytest.importorskip("torchdata.stateful_dataloader")
    whole = [dataset[batch] for batch in ResumableSampler(dataset, 6)]

    def loader() -> Any:
        return stateful.StatefulDataLoader(dataset, batch_sampler=ResumableSampler(dataset, 6), num_workers=workers)

    running = loader()
    loaded = list(islice(running, 3))
    state = running.state_dict()
    resumed = loader()
    resumed.load_state_dict(state)
    loaded += resumed
    assert same(loaded, whole)


def test_accelerate_shards_a_sampler_of_one_rank(dataset: ShardDataset) -> None:
    data_loader = pytest.importorskip("accelerate.data_loader")
    whole = list(ResumableSampler(dataset, 6))
    shards = [list(data_loader.BatchSamplerShard(ResumableSampler(dataset, 6), 2, rank)) for rank in range(2)]
    assert [batch for step in zip(*shards, strict=True) for batch in step] == whole


def test_a_state_of_something_else_is_refused(dataset: ShardDataset, tmp_path: Path) -> None:
    state = ResumableSampler(dataset, 6, seed=3).state_dict()
    assert state == {
        "version": 1, "fingerprint": dataset.fingerprint, "samples": 50, "seed": 3, "epoch": 0, "consumed": 0,
        "order": {"shuffle": True, "block": 0, "group": 0},
    }  # fmt: skip
    sampler = ResumableSampler(dataset, 6)
    sampler.load_state_dict(state)
    assert sampler.seed == 3
    for wrong in (
        {**state, "fingerprint": "other"},
        {**state, "samples": 51},
        {**state, "version": 2},
        {**state, "order": {"shuffle": False, "block": 0, "group": 0}},
        {**state, "order": {"shuffle": True, "block": 0, "group": 6}},
        {**state, "order": {"shuffled": True}},
        {**state, "consumed": "12"},
        {**state, "epoch": -1},
        {},
    ):
        with pytest.raises(ConfigError, match="state"):
            sampler.load_state_dict(wrong)
    with pytest.raises(ConfigError, match="7 steps; this iteration has given out 0"):
        sampler.state_dict(7)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"tail": "cut"}, "tail 'cut'; expected drop or pad"),
        ({"batch_size": 0}, "batch size 0"),
        ({"rank": 2, "world_size": 2}, "rank 2 of 2"),
        ({"block": -1}, "block -1"),
        ({"max_tokens": 3}, "max_tokens 3; the longest row has 9"),
    ],
)
def test_options_that_cannot_be(dataset: ShardDataset, options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        ResumableSampler(dataset, **{"batch_size": 4, **options})
    with pytest.raises(ConfigError, match="need a dataset that has `lengths`"):
        ResumableSampler(range(10), 2, group_by_length=True)
