"""Published chat templates, such as those of the shared data, each with a small tokenizer that has its tokens."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from small_tokenizer import save
from tokenizers import AddedToken, Tokenizer

from sftprep.batches.both_ways import BothWays
from sftprep.batches.templates import Templates, probe
from sftprep.batches.toolbox import Toolbox
from sftprep.characters.offsets import ExactEncoder
from sftprep.characters.tiling import TiledEncoder
from sftprep.config import BuildConfig
from sftprep.tokens.ask_transformers import resolve_here
from sftprep.tokens.choose_engine import choose_engine

TODAY = "2026-01-02"
_SPECIAL = re.compile(
    r"<\|[^<>|\s'\"{}]+\|?>|<[a-z_]+\|>|<｜[^｜<>]+｜>|\[\|[a-z]+\|\]|\[/?[A-Z_]{3,}\]|\[gMASK\]|<sop>"
    r"|</?(?:start|end)_of_[a-z]+>|<image>|<(?:audio|image)_soft_token>|</?co>"
)
_PLAIN = re.compile(r"</?(?:think|tool_call|tool_response|arg_key|arg_value)>")  # special nowhere, and yet one token
_MADE = {  # tokens that a template puts together from a role's name
    "axolotl/exaone.jinja": ("[|user|]", "[|tool|]"),
    "chat_templates/phi-3.jinja": ("<|system|>", "<|user|>"),
    "chat_templates/phi-3-small.jinja": ("<|system|>", "<|user|>"),
}
_WORDS = {"chat_templates/zephyr.jinja": {"<|assistant|>"}}  # what is no token, though it looks like one
_ENDS = {"axolotl/gemma4.jinja": ("<turn|>",)}  # where tokens.json names tokens that the template never prints


@dataclass(frozen=True, slots=True)
class Published:
    """A chat template and the tokens of the tokenizer it was written for."""

    name: str
    source: str
    special: dict[str, str]  # bos_token, eos_token
    ends: tuple[str, ...]  # tokens that end a turn
    controls: tuple[str, ...]  # special tokens
    plain: tuple[str, ...]  # other added tokens


def published(shared_data: Path) -> list[Published]:
    """All templates, by name."""
    folder = shared_data / "templates"
    stated = json.loads((folder / "tokens.json").read_text(encoding="utf-8"))
    return [
        with_tokens(name, (folder / name).read_text(encoding="utf-8"), stated[name], stated[name]["plain"])
        for name in sorted(stated)
    ]


def with_tokens(name: str, source: str, stated: Mapping[str, Any], known_plain: Collection[str] = ()) -> Published:
    """A template with the tokens that stand in it. stated: bos, eos (or None), and eot, the tokens that end a turn;
    known_plain: tokens that are not special though they look it."""
    special = {f"{each}_token": stated[each] for each in ("bos", "eos") if stated[each]}
    ends = _ENDS.get(name, tuple(stated["eot"]))
    found = {*_SPECIAL.findall(source), *ends, *_MADE.get(name, ())} - {*known_plain} - _WORDS.get(name, set())
    deepseek = {token for token in found if token.startswith("<｜")} - {
        *special.values()
    }  # calls none of these special
    plain = {*_PLAIN.findall(source), *deepseek}
    controls = (found | {*special.values()}) - plain
    return Published(name, source, special, ends, tuple(sorted(controls)), tuple(sorted(plain)))


def minimind_words(shared_data: Path) -> str:
    """A tokenizer.json that loads in no time, and knows a little of every script."""
    return (shared_data / "tokenizers" / "minimind-3" / "tokenizer.json").read_text(encoding="utf-8")


def save_tokenizer(template: Published, words: str, folder: Path) -> Tokenizer:
    """A folder with the words of a tokenizer.json and the template's tokens, and no other added ones."""
    tokenizer = Tokenizer.from_str(json.dumps(json.loads(words) | {"added_tokens": []}))
    tokenizer.add_special_tokens([AddedToken(token, normalized=False) for token in template.controls])
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in template.plain])
    save(tokenizer, folder, {"chat_template": template.source, **template.special})
    return tokenizer


def open_both_ways(folder: Path, **options: Any) -> BothWays:
    """What a build with this tokenizer masks with. Raises SftprepError where it would end while it is planned."""
    config, resolved = BuildConfig(("unused",), str(folder), date=TODAY, **options), resolve_here(str(folder))
    if options:
        probe(config, resolved)
    engine = choose_engine(resolved, "fast")[0]
    templates = Templates(config, resolved)
    exact = ExactEncoder(resolved, templates.control_tokens, engine.reference)
    toolbox = Toolbox(resolved, templates, engine, exact, TiledEncoder(resolved, engine, exact), "")
    return BothWays(config, toolbox, lambda _: nullcontext())
