"""The reader beside its peers, in one run: `make bench-reader` prints the table and writes READER.md.

All read the same rows at random, 512 wide, 64 a batch, as X, Y and mask in int64 tensors, warm: their files are in memory. A
figure is the best of several rounds, in which all take turns: other work on the machine makes a round slower, never faster. The
start of worker processes does not count.

    python tests/benchmarks/bench_reader.py [--rows 19200] [--rounds 5] [--seconds 1]
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from reader_peers import PEERS, Opener
from torch.utils.data import BatchSampler, DataLoader, RandomSampler

FOLDER = Path(__file__).parent
sys.path[:0] = [str(FOLDER.parents[1]), str(FOLDER.parent)]

from small_dataset import write_dataset  # noqa: E402

from sftprep.reader import ShardDataset  # noqa: E402

WIDTH, BATCH, SHARDS, WARM = 512, 64, 48, 20
LIMIT, OURS = "np.take on one array each", "**sftprep**, `ds[indices]`"
Batches = Callable[[int], Iterable[Any]]  # of how many workers


def rate(batches: Iterable[Any], seconds: float) -> float:
    """Thousands of rows a second, after the first batches."""
    count, rest = 0, iter(batches)
    for _ in islice(rest, WARM):
        pass
    begin = time.perf_counter()
    for batch in rest:
        count += len(batch["labels"] if isinstance(batch, dict) else batch[0])
        if time.perf_counter() - begin > seconds:
            break
    return count / (time.perf_counter() - begin) / 1000


def at_random(count: int, read: Callable[[Any], Any]) -> Iterator[Any]:
    """Batches without a loader."""
    rng = np.random.default_rng(0)
    while True:
        yield read(rng.integers(0, count, BATCH))


def limit(ids: np.ndarray, mask: np.ndarray) -> Batches:
    """X, Y and mask lie in one array each, in memory: a take and a cast, nothing else."""
    arrays = [np.ascontiguousarray(each) for each in (ids[:, :-1], ids[:, 1:], mask)]  # else take copies all of them
    read = lambda p: tuple(torch.from_numpy(each.take(p, axis=0).astype(np.int64)) for each in arrays)  # noqa: E731
    return lambda _: at_random(len(ids), read)


def by_loader(dataset: ShardDataset, **how: Any) -> Batches:
    return lambda workers: DataLoader(
        dataset, num_workers=workers, multiprocessing_context="fork" if workers else None, **how
    )


def by_batch_sampler(dataset: ShardDataset) -> Batches:
    sampler = BatchSampler(RandomSampler(dataset), BATCH, drop_last=True)
    return by_loader(dataset, sampler=sampler, batch_size=None)


def of_peer(opener: Opener) -> Batches:
    return lambda workers: opener(BATCH, workers)


def installed(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def contenders(folder: Path, rows: int) -> dict[str, tuple[Batches, bool]]:
    """Who reads, by name, and whether workers make sense there. Writes the rows in everyone's form."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 50_000, (rows, WIDTH + 1)).astype(np.uint16)
    mask = rng.random((rows, WIDTH + 1)) < 0.4  # of ids; targets are all but the first
    conversations = list(zip(ids.tolist(), mask.tolist(), strict=True))
    write_dataset(folder / "sftprep", [conversations[n::SHARDS] for n in range(SHARDS)], max_length=WIDTH + 1)
    dataset, labelled = ShardDataset(folder / "sftprep"), ShardDataset(folder / "sftprep", labels=True)
    found: dict[str, tuple[Batches, bool]] = {
        LIMIT: (limit(ids, mask[:, 1:]), False),
        OURS: (lambda _: at_random(rows, dataset.__getitem__), False),
        "**sftprep**, `DataLoader(ds, batch_size=64, shuffle=True)`": (
            by_loader(dataset, batch_size=BATCH, shuffle=True),
            True,
        ),
        "**sftprep**, with a batch sampler": (by_batch_sampler(dataset), True),
        "**sftprep**, `labels=True`, a batch sampler": (by_batch_sampler(labelled), True),
    }
    for name, (package, prepare) in PEERS.items():
        if installed(package):
            own = folder / prepare.__name__
            own.mkdir()
            found[f"{name}, {package} {installed(package)}"] = of_peer(prepare(own, ids, mask[:, 1:])), True
    return found


def measure(found: dict[str, tuple[Batches, bool]], rounds: int, seconds: float) -> dict[tuple[str, int], float]:
    best: dict[tuple[str, int], float] = {}
    for _ in range(rounds):
        for name, (batches, works) in found.items():
            for workers in (0, 2) if works else (0,):
                best[name, workers] = max(best.get((name, workers), 0.0), rate(batches(workers), seconds))
    return best


def table(best: dict[tuple[str, int], float], rows: int) -> str:
    loop = next(value for (name, workers), value in best.items() if "memmap loop" in name and workers == 0)
    lines = [
        "# The reader beside its peers",
        "",
        f"`make bench-reader`: {rows:,} rows of {WIDTH}, uint16, {SHARDS} shards, {BATCH} at random as int64 tensors, warm. Thousands of rows",
        f"a second, best of several rounds in one run. {os.cpu_count()} cores, Python {platform.python_version()}, torch {torch.__version__}, numpy {np.__version__}.",
        "",
        "| | no workers | beside the loop | 2 workers |",
        "|---|---:|---:|---:|",
    ]
    for name in dict.fromkeys(name for name, _ in best):
        alone, two = best[name, 0], best.get((name, 2))
        lines.append(f"| {name} | {alone:,.0f} | {alone / loop:.1f} x | {f'{two:,.0f}' if two else ''} |")
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=19_200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1)
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        best = measure(contenders(Path(folder), options.rows), options.rounds, options.seconds)
    text = table(best, options.rows)
    (FOLDER / "READER.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    main()
