"""The reader: rows as the seed's dataset class gave them, alone, in batches, and in worker processes."""

from __future__ import annotations

import copy
import itertools
import json
import pickle
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_dataset import Row, random_rows, shifted, write_dataset

torch = pytest.importorskip("torch")

from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler, SequentialSampler  # noqa: E402

from sftprep.dataset.verify import verify_dataset  # noqa: E402
from sftprep.errors import ConfigError, DatasetError  # noqa: E402
from sftprep.reader.dataset import ShardDataset  # noqa: E402

LENGTH = 17
PAD = 3


@pytest.fixture(scope="module")
def rows() -> list[Row]:
    return random_rows(np.random.default_rng(0), 23, 24)


@pytest.fixture(scope="module")
def folder(rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three shards of 9, 1 and 13 rows."""
    target = tmp_path_factory.mktemp("data") / "padded"
    write_dataset(target, [rows[:9], rows[9:10], rows[10:]], max_length=LENGTH, pad_id=PAD)
    return target


def expected(rows: list[Row]) -> Iterator[tuple[torch.Tensor, ...]]:
    for row in rows:
        yield tuple(torch.tensor(each, dtype=torch.int64) for each in shifted(row, LENGTH, PAD))


def same(left: tuple[torch.Tensor, ...], right: tuple[torch.Tensor, ...]) -> bool:
    """Equal values, shapes and dtypes."""
    return all(a.dtype == b.dtype and torch.equal(a, b) for a, b in zip(left, right, strict=True))


def test_rows_in_order(folder: Path, rows: list[Row]) -> None:
    dataset = ShardDataset(folder)
    assert len(dataset) == 23
    assert all(same(dataset[i], row) for i, row in enumerate(expected(rows)))
    assert all(same(got, row) for got, row in zip(dataset, expected(rows), strict=True))  # ends by IndexError
    assert dataset[0][0].shape == (LENGTH - 1,)


def test_folder_may_be_a_string(folder: Path) -> None:
    assert same(ShardDataset(str(folder))[4], ShardDataset(folder)[4])


def test_negative_indices_and_their_end(folder: Path) -> None:
    dataset = ShardDataset(folder)
    assert same(dataset[-1], dataset[22])
    assert same(dataset[-23], dataset[0])
    assert same(dataset[np.int64(5)], dataset[5])
    assert same(dataset[torch.tensor(5)], dataset[5])
    for index in (23, -24, 2**40):
        with pytest.raises(IndexError, match="23 rows"):
            dataset[index]
        with pytest.raises(IndexError, match="23 rows"):
            dataset.__getitems__([0, index])
    for wrong in (1.0, "1", None, [[1]], [0.5]):
        with pytest.raises(TypeError, match="expected an integer"):
            dataset[wrong]


@settings(max_examples=50)
@given(st.lists(st.integers(-23, 22), max_size=30))
def test_batches_are_their_rows(folder: Path, indices: list[int]) -> None:
    dataset = ShardDataset(folder)
    items = dataset.__getitems__(indices)
    assert len(items) == len(indices)
    assert all(same(item, dataset[i]) for item, i in zip(items, indices, strict=True))
    batch = dataset[indices]
    assert [each.shape for each in batch] == [(len(indices), LENGTH - 1)] * 3
    if indices:
        assert same(batch, tuple(torch.stack(each) for each in zip(*items, strict=True)))
        assert same(dataset[np.array(indices)], batch)


@settings(max_examples=50)
@given(st.slices(23))
def test_slices_are_batches(folder: Path, part: slice) -> None:
    dataset = ShardDataset(folder)
    assert same(dataset[part], dataset[list(range(23))[part]])


@pytest.mark.parametrize("dtype", [torch.int64, torch.int32, torch.uint16])
def test_dtype(folder: Path, rows: list[Row], dtype: torch.dtype) -> None:
    """Ids as they lie have a bool mask: torch does next to nothing with unsigned numbers."""
    dataset = ShardDataset(folder, dtype=dtype)
    mask_dtype = torch.bool if dtype == torch.uint16 else dtype
    for i, (x, y, mask) in enumerate(expected(rows)):
        assert same(dataset[i], (x.to(dtype), y.to(dtype), mask.to(mask_dtype)))
    assert same(dataset[[3, 22]], tuple(map(torch.stack, zip(dataset[3], dataset[22], strict=True))))
    assert all(tensor.numpy().flags.writeable for tensor in [*dataset[3], *dataset[[3, 22]]])


def test_labels_of_another_dtype(folder: Path) -> None:
    dataset, wide = (ShardDataset(folder, labels=True, dtype=dtype) for dtype in (torch.int32, torch.int64))
    for index in (4, [4, 17]):
        assert {value.dtype for value in dataset[index].values()} == {torch.int32}
        assert all(torch.equal(value.long(), wide[index][name]) for name, value in dataset[index].items())


def test_dtypes_that_cannot_be(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"torch\.uint32; expected torch.int64 or torch.int32 or torch.uint16"):
        ShardDataset(folder, dtype=torch.uint32)
    with pytest.raises(ConfigError, match=r"torch\.uint16; expected torch.int64 or torch.int32$"):
        ShardDataset(folder, dtype=torch.uint16, labels=True)


def test_lengths(folder: Path, rows: list[Row]) -> None:
    lengths = ShardDataset(folder).lengths
    assert lengths.dtype == np.int64
    assert lengths.tolist() == [min(len(ids), LENGTH) for ids, _ in rows]


def test_segments_outside_of_their_rows(tmp_path: Path, rows: list[Row]) -> None:
    write_dataset(tmp_path, [rows], max_length=LENGTH)
    segments = np.load(tmp_path / "shard-00000.segments.npy")
    segments[5, 0] = 23
    np.save(tmp_path / "shard-00000.segments.npy", segments)
    with pytest.raises(DatasetError, match=r"segments of shard-00000"):
        _ = ShardDataset(tmp_path).lengths


def test_source(folder: Path) -> None:
    dataset = ShardDataset(folder)
    assert [dataset.source(i) for i in (0, 8, 9, 22, -1)] == [f"a.jsonl:{i}" for i in (2, 10, 11, 24, 24)]
    assert dataset.source(3) == dataset.source(3)
    with pytest.raises(IndexError):
        dataset.source(23)


class Sources(Dataset):
    """What a worker process sees."""

    def __init__(self, folder: Path) -> None:
        self.dataset = ShardDataset(folder)

    def __len__(self) -> int:
        return 1

    def __getitem__(self, index: int) -> str:
        return self.dataset.source(index)


def test_source_in_a_worker_says_where_to_ask(folder: Path) -> None:
    with pytest.raises(ConfigError, match="in the main process"):
        list(DataLoader(Sources(folder), num_workers=1))


def test_repr(folder: Path) -> None:
    said = repr(ShardDataset(folder))
    assert said == f"ShardDataset({str(folder)!r}, set='train'): 23 rows of 16, padded, uint16, in 3 shards"


def test_rows_are_copies(folder: Path) -> None:
    dataset = ShardDataset(folder)
    row = dataset[0][0].clone()
    dataset[0][0].zero_()
    dataset[[0, 1]][0].zero_()
    assert torch.equal(dataset[0][0], row)


def test_weights_make_every_mask_float32(tmp_path: Path, rows: list[Row]) -> None:
    weighted = [(ids, [0.5 * each for each in mask]) for ids, mask in rows[5:]]
    shards = [rows[:5], weighted]
    write_dataset(tmp_path, shards, max_length=LENGTH, pad_id=PAD, mask_dtypes=["bool", "float32"])
    dataset = ShardDataset(tmp_path)
    for i, row in enumerate([*rows[:5], *weighted]):
        mask = torch.tensor(shifted(row, LENGTH, PAD)[2], dtype=torch.float32)
        assert dataset[i][2].dtype == torch.float32
        assert torch.equal(dataset[i][2], mask)
        assert torch.equal(dataset[[i, 0]][2][0], mask)
    with pytest.raises(ConfigError, match="holds weights, which labels cannot carry"):
        ShardDataset(tmp_path, labels=True)


def test_ids_above_65535(tmp_path: Path) -> None:
    rows = random_rows(np.random.default_rng(1), 4, 20, highest=2**32 - 1)
    write_dataset(tmp_path, [rows], max_length=LENGTH, pad_id=PAD, dtype="uint32")
    dataset = ShardDataset(tmp_path)
    assert all(same(dataset[i], row) for i, row in enumerate(expected(rows)))
    assert max(int(dataset[i][0].max()) for i in range(4)) > 65535


def test_labels_written_out(tmp_path: Path) -> None:
    """Two tokens of prompt, two of answer; and a row that was cut, whose last target must not get lost."""
    rows = [([10, 11, 20, 21], [0, 0, 1, 1]), ([10, 20, 21, 22, 23, 24, 25], [0, 1, 1, 1, 1, 1, 1])]
    write_dataset(tmp_path, [rows], max_length=6, pad_id=PAD)
    sample = {name: tensor.tolist() for name, tensor in ShardDataset(tmp_path, labels=True)[0].items()}
    assert sample == {
        "input_ids": [10, 11, 20, 21, PAD, PAD],
        "labels": [-100, -100, 20, 21, -100, -100],
        "attention_mask": [1, 1, 1, 1, 0, 0],
        "position_ids": [0, 1, 2, 3, 4, 5],
    }
    batch = {name: tensor[1].tolist() for name, tensor in ShardDataset(tmp_path, labels=True)[[0, 1]].items()}
    assert batch == {
        "input_ids": [10, 20, 21, 22, 23, 24],
        "labels": [-100, 20, 21, 22, 23, 24],
        "attention_mask": [1, 1, 1, 1, 1, 1],
        "position_ids": [0, 1, 2, 3, 4, 5],
    }


def test_labels_train_the_same_targets(folder: Path) -> None:
    """A model that shifts labels itself computes the loss over exactly the (X, Y) pairs whose mask is 1."""
    plain, labelled = ShardDataset(folder), ShardDataset(folder, labels=True)
    for i, item in enumerate(labelled.__getitems__(range(23))):
        x, y, mask = plain[i]
        shifted_labels = item["labels"][1:]
        assert torch.equal(item["input_ids"][:-1], x)
        assert torch.equal(shifted_labels != -100, mask == 1)
        assert torch.equal(shifted_labels[mask == 1], y[mask == 1])
        assert all(tensor.dtype == torch.int64 for tensor in item.values())
        assert same(tuple(item.values()), tuple(labelled[i].values()))


def test_a_hugging_face_model_computes_the_same_loss(folder: Path) -> None:
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=50_000, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    model = transformers.LlamaForCausalLM(config).eval()
    indices = [0, 7, 9, 22]
    batch = ShardDataset(folder, labels=True)[indices]
    x, y, mask = ShardDataset(folder)[indices]
    with torch.no_grad():
        theirs = model(**batch).loss
        logits = model(input_ids=x, attention_mask=batch["attention_mask"][:, :-1]).logits
    loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), y.flatten(), reduction="none")
    assert torch.allclose(theirs, (loss * mask.flatten()).sum() / mask.sum(), atol=1e-5)


@pytest.mark.parametrize(("workers", "start"), [(0, None), (2, "fork"), (2, "spawn")])
@pytest.mark.parametrize("labels", [False, True])
def test_loader(folder: Path, workers: int, start: str | None, labels: bool) -> None:
    dataset = ShardDataset(folder, labels=labels)
    dataset[0]  # maps the first shard before workers are forked, or the dataset pickled
    batches = [list(range(begin, min(begin + 4, 23))) for begin in range(0, 23, 4)]
    loader = DataLoader(dataset, batch_size=4, num_workers=workers, multiprocessing_context=start)
    loaded = list(loader)
    assert len(loaded) == 6
    for batch, indices in zip(loaded, batches, strict=True):
        assert type(batch) is type(dataset[0])
        wanted = dataset[indices]
        assert same(tuple(batch.values() if labels else batch), tuple(wanted.values() if labels else wanted))


@pytest.mark.parametrize("workers", [0, 2])
def test_loader_that_gathers_whole_batches(folder: Path, workers: int) -> None:
    dataset = ShardDataset(folder)
    sampler = BatchSampler(SequentialSampler(dataset), 4, drop_last=True)
    loaded = list(DataLoader(dataset, sampler=sampler, batch_size=None, num_workers=workers))
    assert len(loaded) == 5
    for number, batch in enumerate(loaded):
        assert same(tuple(batch), dataset[list(range(4 * number, 4 * number + 4))])


def test_shuffled_epoch_holds_every_row_once(folder: Path, rows: list[Row]) -> None:
    dataset = ShardDataset(folder)
    loader = DataLoader(dataset, sampler=BatchSampler(RandomSampler(dataset), 5, drop_last=False), batch_size=None)
    seen = sorted(tuple(row.tolist()) for x, _, _ in loader for row in x)
    assert seen == sorted(tuple(x.tolist()) for x, _, _ in expected(rows))


def test_pickles_hold_no_array(folder: Path) -> None:
    dataset = ShardDataset(folder)
    for i in range(23):
        dataset[i]
    size = len(pickle.dumps(dataset))
    big = sum(entry.bytes for entry in dataset.manifest.files.values())
    assert size < len(pickle.dumps(dataset.manifest)) + 1000 < big + 1000
    for other in (pickle.loads(pickle.dumps(dataset)), copy.copy(dataset), copy.deepcopy(dataset)):
        assert all(same(other[i], dataset[i]) for i in range(23))


def test_dataset_without_rows(tmp_path: Path) -> None:
    write_dataset(tmp_path, [], max_length=LENGTH)
    dataset = ShardDataset(tmp_path)
    assert len(dataset) == 0
    assert list(dataset) == []
    assert dataset[[]][0].shape == (0, LENGTH - 1)
    assert dataset.__getitems__([]) == []


def test_numpy_alone_reads_the_arrays(folder: Path, rows: list[Row]) -> None:
    mapped = np.load(folder / "shard-00000.X.npy", mmap_mode="r", allow_pickle=False)
    assert mapped.dtype == np.uint16
    assert mapped.tolist() == [x.tolist() for x, _, _ in itertools.islice(expected(rows), 9)]


def test_import_needs_torch_and_numpy_only() -> None:
    code = "import sys, json, sftprep.reader; print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))"
    modules = json.loads(
        subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout
    )
    assert {"torch", "numpy"} <= set(modules)
    assert not {"transformers", "tokenizers", "fastokens", "pyarrow", "orjson", "msgspec", "rich", "click"} & set(
        modules
    )
    code = "import torch, sys; before = set(sys.modules); import sftprep.reader; print(*set(sys.modules) - before)"
    added = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout.split()
    assert "jinja2" not in added  # torch itself may bring it
    assert {name for name in added if name.startswith("sftprep")} == {
        "sftprep", "sftprep.dataset", "sftprep.dataset.manifest", "sftprep.dataset.safe_open", "sftprep.errors",
        "sftprep.layouts", "sftprep.layouts.kinds",
        "sftprep.reader", "sftprep.reader.dataset", "sftprep.reader.maps", "sftprep.reader.opened", "sftprep.reader.order",
        "sftprep.reader.sample", "sftprep.reader.tensors", "sftprep.regular_files",
    }  # fmt: skip


class SeedDataset:
    """MiniMind's SFTDataset, as of its commits of late 2025, with its loop over tokens."""

    def __init__(self, lines: list[bytes], tokenizer: Any, max_length: int) -> None:
        self.samples = [json.loads(line) for line in lines]
        self.tokenizer, self.max_length = tokenizer, max_length
        self.bos_id = tokenizer(f"{tokenizer.bos_token}assistant", add_special_tokens=False).input_ids
        self.eos_id = tokenizer(f"{tokenizer.eos_token}", add_special_tokens=False).input_ids

    def ids_and_mask(self, index: int) -> Row:
        """Ids padded to the maximal length, and the loop's mask over them; not shifted yet."""
        messages = self.samples[index]["conversations"]
        text = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=False)
        ids = self.tokenizer(text).input_ids[: self.max_length]
        ids += [self.tokenizer.pad_token_id] * (self.max_length - len(ids))
        mask = [0] * len(ids)
        i = 0
        while i < len(ids):
            if ids[i : i + len(self.bos_id)] != self.bos_id:
                i += 1
                continue
            start = i + len(self.bos_id)
            end = start
            while end < len(ids) and ids[end : end + len(self.eos_id)] != self.eos_id:
                end += 1
            for j in range(start + 1, min(end + len(self.eos_id) + 1, self.max_length)):
                mask[j] = 1
            i = end + len(self.eos_id) if end < len(ids) else len(ids)
        return ids, mask

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        ids, mask = self.ids_and_mask(index)
        return tuple(torch.tensor(each, dtype=torch.long) for each in (ids[:-1], ids[1:], mask[1:]))


@pytest.mark.parametrize("name", ["minimind-2", "minimind-3"])
def test_rows_of_a_build_equal_the_seeds(name: str, shared_data: Path, corpus: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    tokenizer_folder = shared_data / "tokenizers" / name
    source, folder = tmp_path / "some.jsonl", tmp_path / "data"
    with corpus.open("rb") as file:
        lines = list(itertools.islice(file, 0, 6000, 30))
    source.write_bytes(b"".join(lines))
    options = [
        "--mask",
        "minimind",
        "--max-length",
        "512",
        "--keep-untrained",
        "--control-tokens",
        "allow",
        "--workers",
        "1",
    ]
    command = [sys.executable, "-m", "sftprep", "build", source, "-o", folder, "-t", tokenizer_folder, *options]
    subprocess.run(command, check=True, capture_output=True)
    seed = SeedDataset(lines, transformers.AutoTokenizer.from_pretrained(tokenizer_folder), 512)
    dataset = ShardDataset(folder)
    assert verify_dataset(folder) == []
    assert len(dataset) == len(lines) == 200
    assert all(same(dataset[i], seed[i]) for i in range(200))
    assert sum(int(dataset[i][2].sum()) for i in range(200)) > 10_000
    order = np.random.default_rng(0).permutation(200).tolist()
    assert all(same(item, seed[i]) for item, i in zip(dataset.__getitems__(order[:32]), order[:32], strict=True))
