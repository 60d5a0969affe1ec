"""Samples -> a batch as Hugging Face models take it: padded rows, or all conversations of the batch one behind the other.

Where conversations share a row, they are told apart by `position_ids`, which start at 0 for each. Models of Transformers
see that only if no `attention_mask` comes with the row, so there is none, and if they keep no cache
(`masking_utils.find_packed_sequence_indices`): call them with `use_cache=False`, as Trainer does. Else every conversation
would read those before it, without a word. Flat batches say it once more, as FlashAttention and linear attention take it
(`TransformersKwargs`, `DataCollatorWithFlattening`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sftprep.errors import ConfigError

IGNORED = -100  # the label that is not trained
_FILLED = {"input_ids": 0, "labels": IGNORED, "loss_weights": 0.0}
Batch = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Collator:
    """Makes a batch of samples of a dataset that was opened with `labels=True`: the `collate_fn` of a DataLoader, the `data_collator`
    of a Trainer.

    form="rows": a row each, (B, L) int64, L the longest of them without its padding: `input_ids`, `labels`, `position_ids`, and
    `attention_mask` if each row is one conversation. form="flat": one row without padding, (1, T): `input_ids`, `labels`,
    `position_ids`, `seq_idx` (1, T) int32, `cu_seq_lens_q` and `cu_seq_lens_k` (n + 1,) int32 of n conversations, `max_length_q` and
    `max_length_k`; no `attention_mask`. Samples with `loss_weights`, float32, keep them beside the labels.

    pad_to_multiple_of: of L, or of T; what fills T up counts as one more conversation. Raises ConfigError for another form.
    """

    form: str = "rows"
    pad_to_multiple_of: int = 1

    def __post_init__(self) -> None:
        if self.form not in ("rows", "flat"):
            raise ConfigError(f"Collator: form {self.form!r}; expected 'rows' or 'flat'")
        if self.pad_to_multiple_of < 1:
            raise ConfigError(f"Collator: pad_to_multiple_of {self.pad_to_multiple_of}; at least 1")

    def __call__(self, samples: Sequence[Mapping[str, Tensor]]) -> Batch:
        """The batch of some samples, one at least. Raises TypeError for samples of a dataset without labels."""
        if not all(isinstance(each, Mapping) and "labels" in each for each in samples):
            raise TypeError("Collator takes samples of a dataset that was opened with labels=True")
        whole = [_without_padding(each) for each in samples]
        return self._flat(whole) if self.form == "flat" else self._rows(whole)

    def _rows(self, samples: list[dict[str, Tensor]]) -> Batch:
        lengths = [len(each["input_ids"]) for each in samples]
        length = self._rounded(max(lengths))
        batch: Batch = {
            name: torch.stack([_filled(name, each[name], length) for each in samples]) for name in samples[0]
        }
        if all(_sequences(each["position_ids"]) <= 1 for each in samples):
            batch["attention_mask"] = (torch.arange(length) < torch.tensor(lengths)[:, None]).long()
        return batch

    def _flat(self, samples: list[dict[str, Tensor]]) -> Batch:
        joined = {name: torch.cat([each[name] for each in samples]) for name in samples[0]}
        length = self._rounded(len(joined["input_ids"]))
        joined = {name: _filled(name, value, length) for name, value in joined.items()}
        is_first = joined["position_ids"] == 0
        bounds = torch.cat([torch.nonzero(is_first).flatten(), torch.tensor([length])]).int()
        longest = int(bounds.diff().max())
        batch: Batch = {name: value[None] for name, value in joined.items()}
        of_each = {"cu_seq_lens_q": bounds, "cu_seq_lens_k": bounds, "max_length_q": longest, "max_length_k": longest}
        return {**batch, "seq_idx": (is_first.cumsum(0) - 1).int()[None], **of_each}

    def _rounded(self, length: int) -> int:
        return -(-length // self.pad_to_multiple_of) * self.pad_to_multiple_of


def _without_padding(sample: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Its tokens only, and no mask; each conversation's first token has no label, as nothing predicts it."""
    kept = {name: value for name, value in sample.items() if name != "attention_mask"}
    if "attention_mask" in sample:
        length = int(sample["attention_mask"].sum())
        kept = {name: value[:length] for name, value in kept.items()}
    return kept


def _filled(name: str, values: Tensor, length: int) -> Tensor:
    """(length,): what fills a row up is a sequence of its own, so its positions are counted from 0."""
    more = length - len(values)
    if not more:
        return values
    filling = torch.arange(more) if name == "position_ids" else torch.full((more,), _FILLED[name])
    return torch.cat([values, filling.to(values.dtype)])


def _sequences(positions: Tensor) -> int:
    return int((positions == 0).sum())
