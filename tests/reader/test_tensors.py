"""Samples: put together without a copy, and handed over by value."""

from __future__ import annotations

import copy
import operator
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
    assert isinstance(samples, list)
    assert default_collate(samples) is batch
    assert same(default_convert(batch), batch)
    assert len(samples) == 4
    assert same(default_collate(samples), batch)


def test_samples_that_were_changed_are_put_together_as_they_are() -> None:
    samples = Gathered(labelled())
    for sample in samples:
        del sample["labels"]
        sample["twice"] = sample["input_ids"] * 2
    assert same(default_collate(samples), LabelledSample(input_ids=plain()[0], twice=plain()[0] * 2))


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


USES: dict[str, Any] = {  # of a list
    "len": len, "bool": bool, "list": list, "tuple": tuple, "reversed": lambda a: list(reversed(a)), "last": lambda a: [a[-1]],
    "first": lambda a: [a[0]], "some": lambda a: a[1:3], "star": lambda a: [*a], "columns": lambda a: len([*zip(*a, strict=True)]),
    "sorted": lambda a: sorted(a, key=lambda each: -int(values(each)[0][0])), "add": lambda a: operator.add(a, [1]), "radd": lambda a: operator.add([1], a),
    "twice": lambda a: a * 2, "copy": copy.copy, "method": lambda a: a.copy(), "pop": lambda a: [a.pop(), len(a)],
    "append": lambda a: [a.append(1), *a], "insert": lambda a: [a.insert(1, 2), *a], "extend": lambda a: [a.extend([1]), *a],
    "delete": lambda a: [a.__delitem__(0), *a], "reverse": lambda a: [a.reverse(), *a], "clear": lambda a: [a.clear(), len(a)],
    "sort": lambda a: [a.sort(key=lambda each: -int(values(each)[0][0])), *a], "set": lambda a: [a.__setitem__(0, 1), *a],
    "enlarged": lambda a: operator.iadd([1], a), "put in": lambda a: operator.setitem(b := [1], slice(0, 0), a) or b,
    "empty": lambda a: a == [], "joined": lambda a: list(map(len, a)), "pickled": lambda a: len(pickle.loads(pickle.dumps(a))),
}  # fmt: skip


@pytest.mark.parametrize("batch", [plain(), labelled()])
@pytest.mark.parametrize("use", USES.values(), ids=[*USES])
def test_it_is_a_list_like_any_other(batch: Any, use: Any) -> None:
    """Whatever is asked of it first."""
    items = list(Gathered(batch))
    said, wanted = (
        found if isinstance(found, (list, tuple)) else [found] for found in (use(Gathered(batch)), use(items))
    )
    assert len(said) == len(wanted)
    for one, other in zip(said, wanted, strict=True):
        assert same(one, other) if isinstance(other, (Sample, LabelledSample)) else one == other


def test_a_list_of_samples_travels_as_a_list() -> None:
    arrived = pickle.loads(pickle.dumps(Gathered(plain())))
    assert type(arrived) is list
    assert all(map(same, arrived, Gathered(plain())))
