"""A model learns from the built-in sample: `python tests/benchmarks/train_sample.py` trains one on the CPU in a minute.

A decoder-only transformer in plain torch reads the dataset through `ShardDataset` and is trained with the masked loss
alone. At the end it has to answer questions of the sample word for word, greedily; the loss curve is drawn to the file
named as an argument, which may not be there yet, by matplotlib.
"""

from __future__ import annotations

import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - torch's own custom
from torch.utils.data import DataLoader

from sftprep.config import BuildConfig
from sftprep.jobs.build import build_dataset
from sftprep.reader import ShardDataset
from sftprep.sample import CONVERSATIONS, TOKENIZER

MAX_LENGTH = 400  # no conversation of the sample is cut
BATCH = 4  # conversations
LEARNING_RATE = 5e-3  # at its highest
QUESTIONS = ("What is a loss mask?", "Quelle est la capitale de la France ?", "什么是损失掩码？")


@dataclass(frozen=True, slots=True)
class Losses:
    """Mean loss of every step in nats per token."""

    trained: list[float]  # (steps,) targets with a mask of 1: what the optimizer sees
    prompt: list[float]  # (steps,) all other targets that are no padding: read, never trained
    epochs: int

    def by_epoch(self) -> tuple[list[float], list[float]]:
        """(epochs,) trained and prompt, each the mean over an epoch's steps."""
        trained, prompt = (np.reshape(each, (self.epochs, -1)).mean(1).tolist() for each in (self.trained, self.prompt))
        return trained, prompt


class Block(nn.Module):
    """Causal self-attention, then a perceptron, each added to what came in (pre-norm)."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norms = nn.ModuleList([nn.LayerNorm(width), nn.LayerNorm(width)])
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.qkv(self.norms[0](x)).view(batch, length, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        seen = F.scaled_dot_product_attention(*parts, is_causal=True)
        x = x + self.out(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.mlp(self.norms[1](x))


class TinyTransformer(nn.Module):
    """(B, T) ids to (B, T, vocabulary) logits; input and output embeddings are one matrix."""

    def __init__(self, vocabulary: int, context: int, width: int = 128, layers: int = 2, heads: int = 4) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocabulary, width)
        self.positions = nn.Embedding(context, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(layers)))
        self.norm = nn.LayerNorm(width)
        for embedding in (self.tokens, self.positions):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, ids: Tensor) -> Tensor:
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        return F.linear(self.norm(self.blocks(x)), self.tokens.weight)


def build_sample(folder: Path) -> ShardDataset:
    """Tokenize the sample into `folder` with sftprep's defaults and open it."""
    build_dataset(BuildConfig((str(CONVERSATIONS),), str(TOKENIZER), max_length=MAX_LENGTH), folder)
    return ShardDataset(folder)


def train(dataset: ShardDataset, rows: Sequence[int], epochs: int, *, seed: int = 0) -> tuple[TinyTransformer, Losses]:
    """Train a new model on some rows of the dataset. On one machine the same arguments give the same losses."""
    torch.manual_seed(seed)
    model = TinyTransformer(dataset.manifest.tokenizer["vocab_size"], MAX_LENGTH)
    pad = dataset.manifest.pad_id
    by_length = sorted(rows, key=lambda row: int((dataset[row][1] != pad).sum()))  # so that batches are little padding
    batches = [by_length[start : start + BATCH] for start in range(0, len(rows), BATCH)]
    loader = DataLoader(dataset, batch_sampler=batches)
    order = random.Random(seed)
    optimizer = torch.optim.AdamW(model.parameters(), LEARNING_RATE, betas=(0.9, 0.95), weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, epochs * len(batches), pct_start=0.1)
    losses = Losses([], [], epochs)
    for _ in range(epochs):
        order.shuffle(batches)
        for batch in loader:
            longest = int((batch[1] != pad).sum(1).max())  # padding is on the right: leave it out
            x, y, mask = (each[:, :longest] for each in batch)
            loss = F.cross_entropy(model(x).flatten(0, 1), y.flatten(), reduction="none").view_as(mask)
            trained = (loss * mask).sum() / mask.sum()
            optimizer.zero_grad()
            trained.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.trained.append(trained.item())
            losses.prompt.append(loss.detach()[(mask == 0) & (y != pad)].mean().item())
    return model, losses


def sample_answers() -> dict[str, str]:
    """First question -> answer of every conversation that starts with a plain one."""
    conversations = map(json.loads, CONVERSATIONS.read_text(encoding="utf-8").splitlines())
    openings = (each["messages"][:2] for each in conversations if "tools" not in each)
    return {ask["content"]: answer["content"] for ask, answer in openings if ask["role"] == "user"}


@torch.no_grad()
def answer(model: TinyTransformer, question: str) -> str:
    """What the model says to `question`, always taking the likeliest token, until it ends its turn."""
    tokenizer = Tokenizer.from_file(str(TOKENIZER / "tokenizer.json"))
    ids = tokenizer.encode(f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n").ids
    start, end = len(ids), tokenizer.token_to_id("<|im_end|>")
    while len(ids) < MAX_LENGTH and ids[start:][-1:] != [end]:
        ids.append(int(model(torch.tensor([ids]))[0, -1].argmax()))
    return str(tokenizer.decode(ids[start:], skip_special_tokens=False)).removesuffix("<|im_end|>")


def draw(losses: Losses, path: Path) -> None:
    """Both curves by epoch as a small picture without a ground, in shades for light and dark pages alike."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    grey, green = "#808890", "#2da44e"
    look = {"svg.fonttype": "none", "svg.hashsalt": "sftprep", "font.family": "sans-serif", "font.size": 11}
    look |= dict.fromkeys(("text.color", "axes.labelcolor", "axes.edgecolor", "xtick.color", "ytick.color"), grey)
    trained, prompt = losses.by_epoch()
    with mpl.rc_context(look):
        figure = Figure(figsize=(7, 3), layout="constrained")
        axes = figure.add_subplot()
        epochs = range(1, losses.epochs + 1)
        axes.plot(epochs, prompt, color=grey, linewidth=2)
        axes.plot(epochs, trained, color=green, linewidth=2)
        middle = losses.epochs // 2
        axes.annotate(
            "prompts: read, never trained",
            (middle, prompt[middle]),
            (-6, 8),
            ha="right",
            color=grey,
            textcoords="offset points",
        )
        axes.annotate(
            "answers: trained", (middle, trained[middle]), (6, 8), ha="left", color=green, textcoords="offset points"
        )
        axes.set(xlabel="epoch", ylabel="loss (nats per token)", ylim=(0, None), xlim=(0, losses.epochs))
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, transparent=True, metadata={"Date": None, "Creator": None})


def main(picture: str | None = None) -> int:
    """Train, ask, draw. Returns 1 where the model has not learned, 2 where the picture cannot be drawn."""
    if picture is not None and Path(picture).exists():
        print(f"{picture}: is there already; name another file", file=sys.stderr)
        return 2
    if picture is not None and find_spec("matplotlib") is None:
        print("matplotlib, which draws the picture, is not installed", file=sys.stderr)
        return 2
    begin = time.monotonic()
    torch.set_num_threads(1)  # so that the sums, and with them the picture, do not depend on the number of cores
    with tempfile.TemporaryDirectory() as folder:
        dataset = build_sample(Path(folder) / "sample")
        model, losses = train(dataset, range(len(dataset)), epochs=40)
    before, after = losses.trained[0], losses.by_epoch()[0][-1]
    print(f"{len(losses.trained)} steps in {time.monotonic() - begin:.0f} s")
    print(f"loss on trained tokens: {before:.2f} at first, {after:.2f} in the last epoch")
    right = sample_answers()
    said = {question: answer(model, question) for question in QUESTIONS}
    for question in QUESTIONS:
        print(
            f"\n{question}\n  {said[question]}\n  {'as in the sample' if said[question] == right[question] else 'WRONG'}"
        )
    if picture is not None:
        draw(losses, Path(picture))
    return int(after > before / 2 or any(said[question] != right[question] for question in QUESTIONS))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
