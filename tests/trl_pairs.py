"""The pairs of chat templates that TRL ships: a model's own, and the one that its trainer puts in its place, with blocks."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import pytest
from published_templates import Published, with_tokens

_SUFFIX = "_training"
_TOKENS = {  # how a name begins -> bos, eos, tokens that end a turn
    "cohere": ("<BOS_TOKEN>", "<|END_OF_TURN_TOKEN|>", ["<|END_OF_TURN_TOKEN|>"]),
    "deepseek": ("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>", ["<｜end▁of▁sentence｜>"]),
    "diffusion_gemma": ("<bos>", "<turn|>", ["<turn|>"]),
    "gemma": ("<bos>", "<eos>", ["<end_of_turn>"]),
    "glm": (None, "<|endoftext|>", ["<|user|>", "<|observation|>", "<|system|>"]),
    "gptoss": ("<|startoftext|>", "<|return|>", ["<|return|>", "<|end|>", "<|call|>"]),
    "idefics": ("<|begin_of_text|>", "<end_of_utterance>", ["<end_of_utterance>"]),
    "lfm": ("<|startoftext|>", "<|im_end|>", ["<|im_end|>"]),
    "llama": ("<|begin_of_text|>", "<|eot_id|>", ["<|eot_id|>"]),
    "llava": ("<s>", "</s>", ["</s>"]),
    "muse": ("<|begin_of_text|>", "<|eot|>", ["<|eot|>", "<|eom|>"]),
    "phi": ("<s>", "<|endoftext|>", ["<|end|>"]),
    "smolvlm": ("<|im_start|>", "<end_of_utterance>", ["<end_of_utterance>"]),
    "": (None, "<|im_end|>", ["<|im_end|>"]),  # nemotron, qwen
}


@dataclass(frozen=True, slots=True)
class Pair:
    """Both have the tokens that stand in the stock one."""

    name: str
    stock: Published
    training: str  # the source


@cache
def pairs() -> list[Pair]:
    """All of the installed wheel, by name. Skips the test where there is none: nothing of TRL is loaded for it."""
    found = find_spec("trl")
    if found is None or found.submodule_search_locations is None:
        pytest.skip("needs TRL's chat templates: pip install -e '.[peers]'")
    folder = Path(found.submodule_search_locations[0]) / "chat_templates"
    names = sorted(path.stem.removesuffix(_SUFFIX) for path in folder.glob(f"*{_SUFFIX}.jinja"))
    return [_pair(folder, name) for name in names]


def _pair(folder: Path, name: str) -> Pair:
    stock, training = ((folder / f"{name}{suffix}.jinja").read_text(encoding="utf-8") for suffix in ("", _SUFFIX))
    bos, eos, eot = next(tokens for start, tokens in _TOKENS.items() if name.startswith(start))
    return Pair(name, with_tokens(f"trl/{name}.jinja", stock, {"bos": bos, "eos": eos, "eot": eot}), training)
