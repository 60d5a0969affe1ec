"""Batches, and what a model makes of them: a conversation's losses are the same in any batch as alone."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

torch = pytest.importorskip("torch")

from torch import Tensor  # noqa: E402

from sftprep.errors import ConfigError  # noqa: E402
from sftprep.reader.collate import IGNORED, Collator  # noqa: E402

Conversation = tuple[list[int], list[bool]]
CONVERSATIONS = st.lists(st.tuples(st.integers(2, 9), st.integers(0, 2**31)), min_size=1, max_size=4)


def conversation(length: int, seed: int) -> Conversation:
    rng = np.random.default_rng(seed)
    return rng.integers(1, 64, length).tolist(), [False, *(rng.random(length - 1) < 0.6).tolist()]


def sample(*conversations: Conversation, padded_to: int | None = None) -> dict[str, Tensor]:
    """As a dataset gives it: conversations one behind the other, or one and its padding."""
    ids = [token for each, _ in conversations for token in each]
    trained = [each for _, some in conversations for each in some]
    labels = [token if each else IGNORED for token, each in zip(ids, trained, strict=True)]
    positions = [position for each, _ in conversations for position in range(len(each))]
    found = {"input_ids": ids, "labels": labels, "position_ids": positions}
    if padded_to is not None:
        more = padded_to - len(ids)
        found = {
            "input_ids": ids + [0] * more,
            "labels": labels + [IGNORED] * more,
            "position_ids": [*range(padded_to)],
        }
        found["attention_mask"] = [1] * len(ids) + [0] * more
    return {name: torch.tensor(values) for name, values in found.items()}


@given(st.lists(CONVERSATIONS, min_size=1, max_size=3), st.integers(1, 5))
def test_a_flat_batch_is_its_conversations_one_behind_the_other(drawn: Any, multiple: int) -> None:
    packed = [[conversation(*each) for each in row] for row in drawn]
    batch = Collator("flat", multiple)([sample(*row) for row in packed])
    whole = [each for row in packed for each in row]
    length = sum(len(ids) for ids, _ in whole)
    lengths = [len(ids) for ids, _ in whole] + ([-length % multiple] if length % multiple else [])
    assert batch["input_ids"].shape == (1, sum(lengths))
    assert sum(lengths) % multiple == 0
    assert batch["cu_seq_lens_q"].tolist() == np.cumsum([0, *lengths]).tolist()
    assert batch["cu_seq_lens_k"].tolist() == batch["cu_seq_lens_q"].tolist()
    assert batch["max_length_q"] == batch["max_length_k"] == max(lengths)
    assert batch["seq_idx"].tolist() == [[number for number, each in enumerate(lengths) for _ in range(each)]]
    assert batch["position_ids"].tolist() == [[place for each in lengths for place in range(each)]]
    assert batch["input_ids"][0, :length].tolist() == [token for ids, _ in whole for token in ids]
    kinds = {name: str(value.dtype) for name, value in batch.items() if isinstance(value, Tensor)}
    assert {kinds[name] for name in ("input_ids", "labels", "position_ids")} == {"torch.int64"}
    assert {kinds[name] for name in ("seq_idx", "cu_seq_lens_q", "cu_seq_lens_k")} == {"torch.int32"}
    assert "attention_mask" not in batch
    assert (batch["labels"][batch["position_ids"] == 0] == IGNORED).all()


@given(CONVERSATIONS, st.integers(1, 5))
def test_padded_rows_are_cut_to_the_longest_and_say_what_is_padding(drawn: Any, multiple: int) -> None:
    conversations = [conversation(*each) for each in drawn]
    batch = Collator("rows", multiple)([sample(each, padded_to=12) for each in conversations])
    longest = max(len(ids) for ids, _ in conversations)
    length = -(-longest // multiple) * multiple
    assert batch["input_ids"].shape == batch["attention_mask"].shape == (len(conversations), length)
    for row, (ids, trained) in enumerate(conversations):
        kept = len(ids)
        assert batch["attention_mask"][row].tolist() == [1] * kept + [0] * (length - kept)
        assert batch["input_ids"][row, :kept].tolist() == ids
        assert (batch["labels"][row] != IGNORED).tolist() == trained + [False] * (length - kept)


def test_a_flat_batch_of_padded_rows_has_no_padding() -> None:
    conversations = [conversation(5, 1), conversation(3, 2)]
    flat = Collator("flat")([sample(each, padded_to=12) for each in conversations])
    assert {name: str(value) for name, value in flat.items()} == {
        name: str(value) for name, value in Collator("flat")([sample(*conversations)]).items()
    }


def test_rows_of_several_conversations_never_have_an_attention_mask() -> None:
    batch = Collator()([sample(conversation(5, 1), conversation(4, 2)), sample(conversation(3, 3))])
    assert batch.keys() == {"input_ids", "labels", "position_ids"}
    assert batch["position_ids"].tolist() == [[0, 1, 2, 3, 4, 0, 1, 2, 3], [0, 1, 2, 0, 1, 2, 3, 4, 5]]


def test_weights_stay_beside_their_labels() -> None:
    with_weights = sample(conversation(4, 1)) | {"loss_weights": torch.tensor([0, 0.5, 1, 0])}
    batch = Collator("rows", 3)([with_weights])
    assert batch["loss_weights"].tolist() == [[0, 0.5, 1, 0, 0, 0]]
    assert Collator("flat")([with_weights])["loss_weights"].dtype == torch.float32


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="'rows' or 'flat'"):
        Collator("packed")
    with pytest.raises(ConfigError, match="at least 1"):
        Collator(pad_to_multiple_of=0)
    with pytest.raises(TypeError, match="labels=True"):
        Collator()([(torch.zeros(3), torch.zeros(3), torch.zeros(3))])


# --- a model ------------------------------------------------------------------------------------------------------
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of flex attention, which Transformers sets


# flex attention is compiled for every shape, which takes minutes on a CPU
ATTENTIONS = ["eager", "sdpa", *(["flex_attention"] if os.environ.get("SFTPREP_FULL") else [])]


@pytest.fixture(scope="module", params=ATTENTIONS)
def model(request: pytest.FixtureRequest) -> Any:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2,
        max_position_embeddings=64, attn_implementation=request.param, initializer_range=0.3,
    )  # fmt: skip
    return transformers.LlamaForCausalLM(config).eval()


def losses(model: Any, batch: dict[str, Any], **options: Any) -> list[float]:
    """Of every trained token, in the batch's order."""
    given = {name: value for name, value in batch.items() if name != "labels"}
    with torch.no_grad():
        logits = model(**given, **{"use_cache": False, **options}).logits
    labels = batch["labels"][:, 1:]
    each = torch.nn.functional.cross_entropy(
        logits[:, :-1].transpose(1, 2), labels, reduction="none", ignore_index=IGNORED
    )
    return [loss for row, known in zip(each, labels != IGNORED, strict=True) for loss in row[known].tolist()]


def alone(model: Any, conversations: Sequence[Conversation]) -> list[float]:
    return [loss for each in conversations for loss in losses(model, Collator()([sample(each)]))]


def test_a_packed_rows_losses_are_those_of_its_conversations_alone(model: Any) -> None:
    packed = [conversation(7, 1), conversation(5, 2), conversation(9, 3)], [conversation(6, 4), conversation(8, 5)]
    expected = alone(model, [each for row in packed for each in row])
    rows = [sample(*row) for row in packed]
    assert losses(model, Collator()(rows)) == pytest.approx(expected, abs=1e-5)
    assert losses(model, Collator("flat", 8)(rows)) == pytest.approx(expected, abs=1e-5)
    padded = [sample(each, padded_to=16) for row in packed for each in row]
    assert losses(model, Collator("rows", 4)(padded)) == pytest.approx(expected, abs=1e-5)


def test_an_attention_mask_or_a_cache_would_mix_the_conversations_of_a_row(model: Any) -> None:
    row = [conversation(7, 1), conversation(5, 2)]
    batch, expected = Collator()([sample(*row)]), alone(model, row)
    masked = losses(model, {**batch, "attention_mask": torch.ones_like(batch["input_ids"])})
    assert masked != pytest.approx(expected, abs=1e-3)
    assert losses(model, batch, use_cache=True) != pytest.approx(expected, abs=1e-3)
