"""Rows as tensors, alone or in a batch, and how they travel: samples know how DataLoader puts them together, and how a
worker process hands them over.

torch hands a tensor over as a file in shared memory: a file, a descriptor and a connection each, which takes longer than all
else that a batch needs. A sample goes through the pipe instead, its integers as narrow as their values are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data._utils.collate import collate, default_collate_fn_map

from sftprep.reader.collate import Collator
from sftprep.reader.maps import Rows

IGNORED = -100  # the label that Hugging Face models and torch's cross entropy leave out
_Packed = tuple[bytes, str, str, tuple[int, ...]]  # values, their dtype, the tensor's, its shape


class Sample(NamedTuple):
    """A row, or a batch of rows: train to predict Y[t] after X[t] where mask[t] is not 0."""

    X: Tensor  # (W,) or (B, W)
    Y: Tensor  # the same shape and dtype
    mask: Tensor  # the same shape

    def __reduce__(self) -> Any:
        return (_unpack, (_pack(self),)) if _are_plain(self) else (Sample, tuple(self))


class LabelledSample(dict[str, Tensor]):
    """A row, or a batch of rows, as Hugging Face models take them."""

    def __reduce__(self) -> Any:
        if not _are_plain(self.values()):
            return LabelledSample, (dict(self),)
        return _unpack_labelled, (list(self), _pack(self.values()))

    def __copy__(self) -> LabelledSample:
        return LabelledSample(self)


class Gathered(list[Any]):
    """Samples that are views of one batch. Put together as they are, they are that batch: nothing is copied.

    A list like any other, but that its items are made when one of its methods is first called: to make them takes longer than
    to read them. torch asks for the first one, to see what it is, which alone makes no others. Whoever has had the items may
    have changed them, so then they are put together one by one.
    """

    def __init__(self, batch: Sample | LabelledSample) -> None:
        self.batch = batch
        self.is_made = False

    def __getitem__(self, index: Any) -> Any:
        if index == 0 and not self.is_made and len(_values(self.batch)[0]):
            return _like(self.batch, [value[0] for value in _values(self.batch)])
        self.fill()
        return super().__getitem__(index)

    def __radd__(self, other: list[Any]) -> list[Any]:
        return [*other, *self]

    def __reduce__(self) -> Any:
        return list, (list(self),)

    def fill(self) -> None:
        """Make the items."""
        if not self.is_made:
            self.is_made = True
            columns = [value.unbind() for value in _values(self.batch)]
            super().extend(_like(self.batch, row) for row in zip(*columns, strict=True))


def _after_filling(method: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(method)
    def filled(self: Gathered, *arguments: Any, **named: Any) -> Any:
        self.fill()
        return method(self, *arguments, **named)

    return filled


for _name, _method in vars(list).items():
    if callable(_method) and _name not in {*vars(Gathered), "__new__", "__getattribute__", "__class_getitem__"}:
        setattr(Gathered, _name, _after_filling(_method))


def _values(sample: Sample | LabelledSample) -> list[Tensor]:
    return list(sample.values() if isinstance(sample, LabelledSample) else sample)


def _like(sample: Sample | LabelledSample, values: Sequence[Tensor]) -> Sample | LabelledSample:
    """Other values under the names that the sample has."""
    return LabelledSample(zip(sample, values, strict=True)) if isinstance(sample, LabelledSample) else Sample(*values)


def _put_together(samples: Sequence[Any], *, collate_fn_map: Any = None) -> Any:
    """What DataLoader makes a batch of."""
    if isinstance(samples, Gathered) and not samples.is_made:
        return samples.batch
    if isinstance(samples[0], LabelledSample) and "attention_mask" not in samples[0] and "position_ids" in samples[0]:
        return Collator()(samples)  # rows of several conversations, which are not equally long
    others = {kind: step for kind, step in collate_fn_map.items() if step is not _put_together}
    return collate(samples, collate_fn_map=others)


default_collate_fn_map.update(dict.fromkeys((Sample, LabelledSample), _put_together))


def as_sample(rows: Rows, dtype: npt.DTypeLike, mask_dtype: npt.DTypeLike) -> Sample:
    """Copies of a row or a batch, X and Y in one dtype, the mask in another."""
    mask = (
        rows.mask.view(np.int8) if rows.mask.dtype == np.bool_ and mask_dtype != np.bool_ else rows.mask
    )  # casts faster
    return Sample(*map(torch.from_numpy, (rows.x.astype(dtype), rows.y.astype(dtype), mask.astype(mask_dtype))))


def as_labelled(rows: Rows, dtype: npt.DTypeLike) -> LabelledSample:
    """A padded row or a batch of them, with segments, as four tensors of that dtype, one entry wider than X."""
    input_ids = np.concatenate((rows.x, rows.y[..., -1:]), axis=-1, dtype=dtype, casting="unsafe")
    labels = np.full_like(input_ids, IGNORED)
    np.copyto(labels[..., 1:], rows.y, where=rows.mask, casting="unsafe")
    positions = np.arange(input_ids.shape[-1], dtype=dtype)
    sample = {
        "input_ids": input_ids,
        "labels": labels,
        "attention_mask": (positions <= rows.segments[..., 2:]).astype(dtype),
        "position_ids": np.tile(positions, (*input_ids.shape[:-1], 1)),
    }
    return LabelledSample((name, torch.from_numpy(value)) for name, value in sample.items())


def _are_plain(tensors: Iterable[Any]) -> bool:
    """Whether nothing is lost where only their values travel."""
    return all(
        type(each) is Tensor and each.device.type == "cpu" and each.dtype in _TRAVELLING and not each.requires_grad
        for each in tensors
    )


_TRAVELLING = {torch.int64, torch.int32, torch.uint32, torch.uint16, torch.bool, torch.float32}


def _pack(tensors: Iterable[Tensor]) -> list[_Packed]:
    packed = []
    for array in (tensor.numpy() for tensor in tensors):
        narrow = array.dtype
        if array.size and narrow.kind in "iu":
            low, high = int(array.min()), int(array.max())
            narrow = np.min_scalar_type(high if low >= 0 else min(low, -high - 1))
        packed.append((array.astype(narrow).tobytes(), narrow.str, array.dtype.str, array.shape))
    return packed


def _unpack(packed: Iterable[_Packed]) -> Sample:
    return Sample(*(_tensor(*each) for each in packed))


def _unpack_labelled(names: Iterable[str], packed: Iterable[_Packed]) -> LabelledSample:
    return LabelledSample(zip(names, (_tensor(*each) for each in packed), strict=True))


def _tensor(values: bytes, narrow: str, dtype: str, shape: tuple[int, ...]) -> Tensor:
    return torch.from_numpy(np.frombuffer(values, narrow).astype(dtype).reshape(shape))
