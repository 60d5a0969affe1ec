"""Samples: put together without a copy, and handed over by value."""

from __future__ import annotations

import copy
import pickle
import pickletools
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch.utils.data import default_collate, default_convert  # noqa: E402

from sftprep.reader.tensors import Gathered, LabelledSample, Sample  # noqa: E402


def plain(batch: int = 4) -> Sample:
    return Sample(*(torch.arange(batch * 3).reshape(batch, 3) + number for number in range(3)))


def labelled(batch: int = 4) -> LabelledSample:
    return LabelledSample(zip(("input_ids", "labels"), plain(batch)[:2], strict=True))


def values(sample: Any) -> list[Any]:
    return list(sample.values()) if isinstance(sample, dict) else list(sample)


def same(left: Any, right: Any) -> bool:
    return type(left) is type(right) and all(
        a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(values(left), values(right), strict=True)
    )


@pytest.mark.parametrize("batch", [plain(), labelled()])
def test_put_together_again_they_are_the_batch_itself(batch: Any) -> None:
    samples = Gathered(batch)
    assert len(samples) == 4
    assert isinstance(samples, list)
    assert default_collate(samples) is batch
    assert default_convert(batch) is not None
    assert same(default_convert(batch), batch)


@pytest.mark.parametrize("batch", [plain(), labelled()])
def test_samples_in_another_order_or_number_are_stacked(batch: Any) -> None:
    backwards = Gathered(batch)
    backwards.reverse()
    fewer = Gathered(batch)
    fewer.pop()
    exchanged = Gathered(batch)
    exchanged[1] = exchanged[0]
    for samples, order in ((backwards, [3, 2, 1, 0]), (fewer, [0, 1, 2]), (exchanged, [0, 0, 2, 3])):
        collated = default_collate(samples)
        assert type(collated) is type(batch)
        wanted = [value[order] for value in values(batch)]
        assert all(map(torch.equal, values(collated), wanted))
        assert same(default_collate(list(samples)), collated)


DTYPES = [torch.int64, torch.int32, torch.uint16, torch.uint32, torch.bool, torch.float32]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4), st.sampled_from(DTYPES), st.booleans())
def test_what_arrives_is_what_was_sent(numbers: list[int], dtype: torch.dtype, narrow: bool) -> None:
    array = np.array(numbers, np.int64).astype(str(dtype).removeprefix("torch."))
    tensor = torch.from_numpy(array.astype(array.dtype) % 7 if narrow and array.dtype.kind in "iu" else array)
    sample = Sample(tensor, tensor[:1], tensor.reshape(1, -1))
    assert same(pickle.loads(pickle.dumps(sample)), sample)
    assert same(copy.copy(sample), sample)
    entry = LabelledSample(labels=tensor)
    assert same(pickle.loads(pickle.dumps(entry)), entry)
    assert same(copy.copy(entry), entry)


def test_integers_travel_as_narrow_as_they_are() -> None:
    ids = torch.arange(1000).reshape(10, 100) + 65_000 - 999
    sent = pickle.dumps(Sample(ids, ids, (ids > 3).long()))
    assert 5000 <= len(sent) < 5500
    longest = max(len(value) for _, value, _ in pickletools.genops(sent) if isinstance(value, bytes))
    assert longest == 2000
    labels = pickle.dumps(LabelledSample(labels=torch.tensor([[-100] * 500 + [32_767] * 500])))
    assert len(labels) < 2500


def test_a_tensor_that_is_more_than_its_values_keeps_that() -> None:
    tensor = torch.ones(3, requires_grad=True)
    for sample in (Sample(tensor, tensor, tensor), LabelledSample(labels=tensor)):
        arrived = pickle.loads(pickle.dumps(sample))
        assert type(arrived) is type(sample)
        assert all(value.requires_grad for value in values(arrived))


def test_a_list_of_samples_travels_as_a_list() -> None:
    arrived = pickle.loads(pickle.dumps(Gathered(plain())))
    assert type(arrived) is list
    assert all(map(same, arrived, Gathered(plain())))
