"""Other people's training loops over a dataset: they get the sampler's batches in its order, and go on where they stopped."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_builds import build, write
from small_dataset import random_rows, write_dataset

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, default_collate  # noqa: E402

from sftprep.reader import Collator, PackedDataset, ResumableSampler, ShardDataset  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("rows")
    rows = [random_rows(np.random.default_rng(count), count, 12, highest=100) for count in (20, 17, 13)]
    write_dataset(target, rows, max_length=9)
    return target


def wanted(folder: Path, batch_size: int) -> list[list[list[int]]]:
    """X of an epoch's batches."""
    dataset = ShardDataset(folder)
    return [dataset[batch][0].tolist() for batch in ResumableSampler(dataset, batch_size)]


def test_transformers_trainer(folder: Path, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    seen: list[list[list[int]]] = []

    def collate(samples: list[Any]) -> Any:
        batch = default_collate(samples)
        seen.append(batch["input_ids"][:, :-1].tolist())
        return batch

    class Trainer(transformers.Trainer):  # type: ignore[misc, name-defined]
        def get_train_dataloader(self) -> DataLoader[Any]:
            return DataLoader(self.train_dataset, batch_sampler=sampler, collate_fn=collate)

    config = transformers.LlamaConfig(
        vocab_size=100, hidden_size=16, intermediate_size=16, num_hidden_layers=1, num_attention_heads=2
    )
    model = transformers.LlamaForCausalLM(config)
    state = None
    for steps in (3, 9):  # an epoch has 12
        options = transformers.TrainingArguments(
            tmp_path, max_steps=steps, use_cpu=True, report_to=[], save_strategy="no", disable_tqdm=True
        )
        dataset = ShardDataset(folder, labels=True)
        sampler = ResumableSampler(dataset, 4)
        if state:
            sampler.load_state_dict(state)
        had = len(seen)
        trained = Trainer(model=model, args=options, train_dataset=dataset).train()
        assert np.isfinite(trained.training_loss)
        del seen[had + steps :]  # asked for ahead, and not trained
        state = sampler.state_dict(steps)
    assert seen == wanted(folder, 4)


SCRIPT = """
import json, sys
from accelerate import Accelerator
from torch.utils.data import DataLoader
from sftprep.reader import ResumableSampler, ShardDataset

accelerator = Accelerator(cpu=True)
dataset = ShardDataset(sys.argv[1])
sampler = ResumableSampler(dataset, 2, accelerator.process_index, accelerator.num_processes)
loader = DataLoader(dataset, batch_sampler=sampler)
seen = []
for step, (x, y, mask) in enumerate(loader, 1):
    mine = x[:, None].contiguous()  # a rank's first sample, the other rank's first, ...
    seen.append(accelerator.gather(mine).view(2, 2, -1).transpose(0, 1).reshape(4, -1).tolist())
    if step == 5:
        break
if accelerator.is_main_process:
    print(json.dumps([seen, sampler.state_dict(step)]))
accelerator.end_training()
"""


def test_accelerate_on_two_processes(folder: Path) -> None:
    """And one process goes on."""
    pytest.importorskip("accelerate")
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    fixed = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "ACCELERATE_USE_CPU": "true"}
    running = [
        subprocess.Popen(
            [sys.executable, "-c", SCRIPT, str(folder)],
            env={**os.environ, **fixed, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    ended = [each.communicate(timeout=120) for each in running]
    assert [each.returncode for each in running] == [0, 0], ended[0][1][-2000:]
    seen, state = json.loads(ended[0][0].splitlines()[-1])
    dataset = ShardDataset(folder)
    sampler = ResumableSampler(dataset, 4)
    sampler.load_state_dict(state)
    assert seen + [dataset[batch][0].tolist() for batch in sampler] == wanted(folder, 4)


FORMS = [
    ("padded", None),
    ("padded", "flat"),
    *((kind, form) for kind in ("packed", "ragged") for form in ("rows", "flat")),
]


@pytest.fixture(scope="module")
def layouts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four short conversations in each layout, easy to learn by heart."""
    at = tmp_path_factory.mktemp("layouts")
    talk = [
        ("Hello?", "Hello!"),
        ("Who are you?", "A model, and a small one."),
        ("And now?", "We wait."),
        ("1 + 1?", "2"),
    ]
    said = [[{"role": "user", "content": one}, {"role": "assistant", "content": other}] for one, other in talk]
    source = write(at / "a.jsonl", *({"messages": each} for each in said))
    for layout in ("padded", "packed", "ragged"):
        build(at / layout, source, layout=layout, max_length=65)
    return at


def rows(folder: Path) -> ShardDataset | PackedDataset:
    return PackedDataset(folder, 64, labels=True) if folder.name == "ragged" else ShardDataset(folder, labels=True)


def test_transformers_trainer_learns_the_same_from_each_layout(layouts: Path, tmp_path: Path) -> None:
    """With all conversations in a batch, the loss of each step is the same: none is left out, and none reads another."""
    transformers = pytest.importorskip("transformers")
    pytest.importorskip("accelerate")
    config = transformers.LlamaConfig(
        vocab_size=4096,
        hidden_size=16,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        initializer_range=0.3,
    )
    options = transformers.TrainingArguments(
        tmp_path, max_steps=4, learning_rate=0.05, per_device_train_batch_size=4, logging_steps=1, use_cpu=True, report_to=[],
        save_strategy="no", disable_tqdm=True,
    )  # fmt: skip
    losses = {}
    for layout, form in FORMS:
        torch.manual_seed(0)
        trainer = transformers.Trainer(
            transformers.LlamaForCausalLM(config), options, Collator(form) if form else None, rows(layouts / layout)
        )
        trainer.train()
        losses[layout, form] = [each["loss"] for each in trainer.state.log_history if "loss" in each]
    assert len(rows(layouts / "packed")) == len(rows(layouts / "ragged")) == 2
    expected = losses["padded", None]
    assert expected == sorted(expected, reverse=True)
    assert expected[-1] < expected[0] * 0.8
    for found in losses.values():
        assert found == pytest.approx(expected, rel=1e-3), losses
