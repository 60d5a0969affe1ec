"""Draws the pictures of README and docs from real builds: python tests/benchmarks/pictures.py [NAME ...]

Of what a picture shows, nothing is painted by hand: a conversation is built under a model's own chat template (as TRL ships
it, with a small tokenizer that has its tokens), and the rows are drawn as `sftprep inspect` shows them.
"""

from __future__ import annotations

import io
import json
import re
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.resources import files
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))

from published_templates import save_tokenizer
from rich.console import Console
from rich.text import Text
from tokenizers import Tokenizer
from trl_pairs import pairs

from sftprep.config import BuildConfig
from sftprep.jobs.build import build_dataset
from sftprep.look.rows import HEADER_STYLE, render_tokens
from sftprep.tokens.resolve import resolve_tokenizer
from sftprep.views.conversations import load_rows

PICTURES = Path(__file__).parents[2] / "docs" / "pictures"
SAMPLE = Path(str(files("sftprep") / "sample"))
WIDTH = 100  # columns

Messages = list[dict[str, Any]]


def _said(*texts: str) -> Messages:
    return [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]


TALK = _said("What is 2 + 2?", "4.", "And 3 + 3?", "6.")
THOUGHT: Messages = [
    {"role": "user", "content": "What is 17 + 25?"},
    {"role": "assistant", "reasoning_content": "17 + 25 is 42.", "content": "42."},
    {"role": "user", "content": "And twice that?"},
    {"role": "assistant", "reasoning_content": "2 times 42 is 84.", "content": "84."},
]
_CALL = {"type": "function", "id": "call_1", "function": {"name": "weather", "arguments": {"city": "Rome"}}}
_PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
TOOL = {"type": "function", "function": {"name": "weather", "description": "Weather now.", "parameters": _PARAMETERS}}
CALLED: Messages = [
    {"role": "user", "content": "Is it warm in Rome?"},
    {"role": "assistant", "content": "", "tool_calls": [_CALL]},
    {"role": "tool", "name": "weather", "tool_call_id": "call_1", "content": '{"celsius": 31}'},
    {"role": "assistant", "content": "Yes, 31 degrees."},
]


@dataclass(frozen=True)
class Picture:
    """Rows of one build."""

    title: str  # the line above
    template: str | None  # of those that TRL ships; None: the sample's own tokenizer
    messages: Messages
    options: dict[str, Any] = field(default_factory=dict)
    tools: list[dict[str, Any]] = field(default_factory=list)
    training: bool = False  # TRL's other template, with {% generation %} blocks
    special: dict[str, str] = field(default_factory=dict)  # bos_token, eos_token, if not those of the template


DRAWN = {
    "chatml": Picture("Qwen 2.5 (ChatML)", "qwen2_5", TALK),
    "llama": Picture("Llama 3", "llama3", TALK),
    "glm": Picture("GLM 4.5: a turn has no end of its own; the next header's first token is trained", "glm4moe", TALK),
    "gptoss": Picture(
        "gpt-oss: the analysis channel of the last turn is trained", "gptoss", THOUGHT, {"date": "2026-01-02"}
    ),
    "tools": Picture("Qwen 3: a call of a tool is trained, its result is not", "qwen3", CALLED, tools=[TOOL]),
    "whole": Picture("Qwen 3, --contexts whole: the first turn has lost its reasoning", "qwen3", THOUGHT),
    "served": Picture("Qwen 3, --contexts served: an example for each turn", "qwen3", THOUGHT, {"contexts": "served"}),
    "generation": Picture(
        "--mask generation: what the template's {% generation %} blocks say",
        "qwen2_5",
        TALK,
        {"mask": "generation"},
        training=True,
    ),
    "minimind": Picture(
        "--mask minimind: the loop also trains the newline behind the end",
        "qwen2_5",
        TALK,
        {"mask": "minimind"},
        special={"bos_token": "<|im_start|>", "eos_token": "<|im_end|>"},
    ),
}
_SAMPLE_ROWS = (28, 35)


def main(names: list[str]) -> None:
    """Draw all of them, or those named."""
    PICTURES.mkdir(parents=True, exist_ok=True)
    for name in names or ["rows", *DRAWN]:
        with tempfile.TemporaryDirectory() as folder:
            texts, title = _sample(Path(folder)) if name == "rows" else _rows(DRAWN[name], Path(folder))
        (PICTURES / f"{name}.svg").write_text(_drawn(texts, title), encoding="utf-8")


def _sample(folder: Path) -> tuple[list[Text], str]:
    config = BuildConfig((str(SAMPLE / "conversations.jsonl"),), str(SAMPLE / "tokenizer"), max_length=512)
    build_dataset(config, folder / "demo")
    return _texts(
        folder / "demo", _SAMPLE_ROWS, config.tokenizer, headed=True
    ), f"sftprep inspect demo {' '.join(map(str, _SAMPLE_ROWS))}"


def _rows(picture: Picture, folder: Path) -> tuple[list[Text], str]:
    """A build of one conversation."""
    tokenizer = SAMPLE / "tokenizer"
    if picture.template:
        pair = next(each for each in pairs() if each.name == picture.template)
        tokenizer = folder / "tokenizer"
        stock = replace(pair.stock, special=picture.special or pair.stock.special)
        save_tokenizer(stock, (SAMPLE / "tokenizer" / "tokenizer.json").read_text(encoding="utf-8"), tokenizer)
        if picture.training:
            (folder / "training.jinja").write_text(pair.training, encoding="utf-8")
    template = (folder / "training.jinja").read_text(encoding="utf-8") if picture.training else None
    record = {"messages": picture.messages} | ({"tools": picture.tools} if picture.tools else {})
    (folder / "chat.jsonl").write_text(json.dumps(record, ensure_ascii=False) + "\n", encoding="utf-8")
    config = BuildConfig(
        (str(folder / "chat.jsonl"),), str(tokenizer), chat_template=template, workers=1, **picture.options
    )
    manifest = build_dataset(config, folder / "out")
    return _texts(folder / "out", range(manifest.totals["rows"]), str(tokenizer)), picture.title


def _texts(dataset: Path, rows: Sequence[int], tokenizer: str, *, headed: bool = False) -> list[Text]:
    """The conversations in rows, as `sftprep inspect` colours them. headed: with a line that says which each is."""
    library = Tokenizer.from_str(resolve_tokenizer(tokenizer).backend)
    texts = []
    for shown in load_rows(dataset, rows):
        text = Text().append(f"row {shown.row} · {shown.source}:{shown.line}\n" if headed else "", HEADER_STYLE)
        decode = partial(library.decode, skip_special_tokens=False)
        text.append_text(render_tokens(shown.ids.tolist(), shown.trained.tolist(), decode))
        texts.append(text if text.plain.endswith("\n") else text.append("\n"))
    return texts


def _drawn(texts: list[Text], title: str) -> str:
    console = Console(record=True, width=WIDTH, file=io.StringIO(), force_terminal=True)
    for text in texts:
        console.print(text)
    drawn = console.export_svg(title=title, unique_id="p")
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.S)  # fonts from elsewhere: the reader's own will do
    return re.sub(r"[ \t]+\n", "\n", drawn)


if __name__ == "__main__":
    main(sys.argv[1:])
