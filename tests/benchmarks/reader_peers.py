"""The peers of bench_reader: each writes the same rows in its own way, and reads them at random, as its manual says.

A peer is a function of a folder and of X (N, W + 1 ids, so Y as well) and mask (N, W); it returns what opens it: a function of
the batch size and of how many worker processes, to an iterable of batches (X, Y, mask), int64, (B, W) each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

Opener = Callable[[int, int], Iterable[Any]]


class _Items(Dataset):  # type: ignore[type-arg]
    """What a trainer writes around a reader: ids and mask of a row, by its number, as three tensors."""

    def __init__(self, count: int, read: Callable[[int], tuple[np.ndarray, np.ndarray]]) -> None:
        self.count, self.read = count, read

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> tuple[torch.Tensor, ...]:
        ids, mask = self.read(index)
        ids = ids.astype(np.int64)
        return torch.from_numpy(ids[:-1]), torch.from_numpy(ids[1:]), torch.from_numpy(mask.astype(np.int64))


def _loader(dataset: Any, batch: int, workers: int) -> Iterable[Any]:
    context = "fork" if workers else None
    return DataLoader(dataset, batch_size=batch, shuffle=True, num_workers=workers, multiprocessing_context=context)


def memmap_loop(folder: Path, ids: np.ndarray, mask: np.ndarray) -> Opener:
    """Two np.memmap, an item at a time."""
    np.save(folder / "ids.npy", ids)
    np.save(folder / "mask.npy", mask)
    mapped = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("ids", "mask")]
    return lambda batch, workers: _loader(_Items(len(ids), lambda i: (mapped[0][i], mapped[1][i])), batch, workers)


def megatron(folder: Path, ids: np.ndarray, mask: np.ndarray) -> Opener:
    """Megatron-core's IndexedDataset; the mask in a second one, as its users do."""
    from megatron.core.datasets.indexed_dataset import IndexedDataset, IndexedDatasetBuilder

    for name, rows in (("ids", ids), ("mask", mask.astype(np.uint8))):
        builder = IndexedDatasetBuilder(str(folder / f"{name}.bin"), dtype=rows.dtype.type)
        for row in rows:
            builder.add_document(torch.from_numpy(row.astype(np.int64)), [len(row)])
        builder.finalize(str(folder / f"{name}.idx"))
    read = [IndexedDataset(str(folder / name), mmap=True) for name in ("ids", "mask")]
    return lambda batch, workers: _loader(_Items(len(ids), lambda i: (read[0][i], read[1][i])), batch, workers)


def hugging_face(folder: Path, ids: np.ndarray, mask: np.ndarray) -> Opener:
    """`datasets`, saved to disk, in its torch format, a batch at a time."""
    import datasets
    import pyarrow as pa

    columns = {
        name: pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
        for name, rows in (("X", ids[:, :-1]), ("Y", ids[:, 1:]), ("mask", mask.astype(np.uint8)))
    }
    datasets.Dataset(pa.table(columns)).save_to_disk(folder / "hf")
    read = datasets.load_from_disk(folder / "hf").with_format("torch", dtype=torch.int64)
    return lambda batch, workers: ((each["X"], each["Y"], each["mask"]) for each in _loader(read, batch, workers))


def _lit_row(folder: Path, index: int) -> dict[str, Any]:
    return {name: np.array(np.load(folder / f"{name}.npy", mmap_mode="r")[index]) for name in ("ids", "mask")}


def _lit_tokens(folder: Path, index: int) -> torch.Tensor:
    return torch.from_numpy(np.load(folder / "ids.npy", mmap_mode="r")[index].astype(np.int32))


def litdata_rows(folder: Path, ids: np.ndarray, mask: np.ndarray) -> Opener:
    """LitData's StreamingDataset and its StreamingDataLoader, an item a row."""
    import litdata

    np.save(folder / "ids.npy", ids)
    np.save(folder / "mask.npy", mask.astype(np.uint8))
    out = str(folder / "rows")
    litdata.optimize(partial(_lit_row, folder), list(range(len(ids))), out, num_workers=1, chunk_bytes="16MB")

    def opened(batch: int, workers: int) -> Iterable[Any]:
        read = litdata.StreamingDataset(out, shuffle=True, drop_last=True)
        for each in litdata.StreamingDataLoader(read, batch_size=batch, num_workers=workers):
            wide = torch.as_tensor(each["ids"]).long()
            yield wide[:, :-1], wide[:, 1:], torch.as_tensor(each["mask"]).long()

    return opened


def litdata_tokens(folder: Path, ids: np.ndarray, mask: np.ndarray) -> Opener:
    """LitData's TokensLoader: ids only, it knows no mask."""
    import litdata

    np.save(folder / "ids.npy", ids)
    width, out = ids.shape[1], str(folder / "tokens")
    litdata.optimize(
        partial(_lit_tokens, folder), list(range(len(ids))), out, num_workers=1, chunk_size=width * 4096,
        item_loader=litdata.TokensLoader(block_size=width),
    )  # fmt: skip

    def opened(batch: int, workers: int) -> Iterable[Any]:
        loader = litdata.TokensLoader(block_size=width)
        read = litdata.StreamingDataset(out, item_loader=loader, shuffle=True, drop_last=True)
        for each in litdata.StreamingDataLoader(read, batch_size=batch, num_workers=workers):
            wide = each.long()
            yield wide[:, :-1], wide[:, 1:], None

    return opened


def mosaicml(folder: Path, ids: np.ndarray, mask: np.ndarray) -> Opener:
    """MosaicML streaming, from a local folder, read by number."""
    from streaming import MDSWriter, StreamingDataset

    columns = {"ids": f"ndarray:uint16:{ids.shape[1]}", "mask": f"ndarray:uint8:{mask.shape[1]}"}
    with MDSWriter(out=str(folder / "mds"), columns=columns) as writer:
        for row, trained in zip(ids, mask.astype(np.uint8), strict=True):
            writer.write({"ids": row, "mask": trained})
    read = StreamingDataset(local=str(folder / "mds"), batch_size=64, shuffle=True)

    def one(index: int) -> tuple[np.ndarray, np.ndarray]:
        sample = read[index]
        return sample["ids"], sample["mask"]

    return lambda batch, workers: _loader(_Items(len(ids), one), batch, workers)


def grain(folder: Path, ids: np.ndarray, mask: np.ndarray) -> Opener:
    """grain's MapDataset over two np.memmap, shuffled and batched by grain; it hands over numpy arrays."""
    import grain.python as pygrain

    np.save(folder / "ids.npy", ids)
    np.save(folder / "mask.npy", mask)
    mapped = [np.load(folder / f"{name}.npy", mmap_mode="r") for name in ("ids", "mask")]

    def opened(batch: int, workers: int) -> Iterable[Any]:
        rows = pygrain.MapDataset.range(len(ids)).shuffle(seed=0)
        rows = rows.map(lambda i: (mapped[0][i].astype(np.int64), mapped[1][i].astype(np.int64))).batch(batch)
        read = rows.to_iter_dataset()
        if workers:
            read = read.mp_prefetch(pygrain.MultiprocessingOptions(num_workers=workers))
        for each, trained in read:
            wide = torch.from_numpy(each)
            yield wide[:, :-1], wide[:, 1:], torch.from_numpy(trained)

    return opened


PEERS: dict[str, tuple[str, Callable[[Path, np.ndarray, np.ndarray], Opener]]] = {  # by what it is called: its package
    "a memmap loop": ("numpy", memmap_loop),
    "Megatron IndexedDataset": ("megatron-core", megatron),
    "LitData TokensLoader (ids only)": ("litdata", litdata_tokens),
    "LitData StreamingDataset": ("litdata", litdata_rows),
    "Hugging Face datasets": ("datasets", hugging_face),
    "MosaicML streaming": ("mosaicml-streaming", mosaicml),
    "grain": ("grain", grain),
}
