"""Chat templates of many families against Qwen 3's: each a whole job, cold, with one worker, on some 2,000 conversations.

Every tokenizer has the same words and its template's tokens, so that what differs is the template and what is made of it.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from published_templates import published, save_tokenizer

CONVERSATIONS, ROUNDS = 2000, 3
BASE = "trl/qwen3.jinja"
FAMILIES = {
    "Aya": "axolotl/aya.jinja",
    "Command A": "axolotl/command_a.jinja",
    "DeepSeek V3": "axolotl/deepseek_v3.jinja",
    "EXAONE 4": "axolotl/exaone4.jinja",
    "Falcon H1": "axolotl/falcon_h1.jinja",
    "Gemma 3": "axolotl/gemma3.jinja",
    "Gemma 4": "axolotl/gemma4.jinja",
    "GLM 4.5": "trl/glm4moe.jinja",
    "gpt-oss": "trl/gptoss.jinja",
    "Granite 3.0": "chat_templates/granite-3.0-instruct.jinja",
    "Jamba": "axolotl/jamba.jinja",
    "LFM 2": "trl/lfm2.jinja",
    "Llama 2": "chat_templates/llama-2-chat.jinja",
    "Llama 3.1": "trl/llama3_1.jinja",
    "Llama 3.2 Vision": "axolotl/llama3_2_vision.jinja",
    "Mistral v1": "axolotl/mistral_v1.jinja",
    "Nemotron 3": "trl/nemotron_3_nano.jinja",
    "Phi 4": "axolotl/phi_4.jinja",
    "Qwen 3.5": "trl/qwen3_5_think.jinja",
    "Zephyr": "chat_templates/zephyr.jinja",
}


HEADER = "family | rendered without Jinja | job, s | x Qwen 3"


def rows(data: Path, source: Path, run_job: Callable[..., dict[str, float]], profile: Callable[..., str]) -> list[str]:
    """The families' jobs, each by turns with Qwen 3's. run_job, profile: as in `bench`."""
    templates = {template.name: template for template in published(data)}
    words = (data / "tokenizers" / "qwen3" / "tokenizer.json").read_text(encoding="utf-8")
    few = source.with_name("few.jsonl")
    lines = source.read_bytes().splitlines(keepends=True)
    few.write_bytes(b"".join(lines[:: len(lines) // CONVERSATIONS]))
    found = []
    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        folders = {name: Path(folder) / str(number) for number, name in enumerate([BASE, *FAMILIES.values()])}
        for name, own in folders.items():
            save_tokenizer(templates[name], words, own)
        profile(few, folders[BASE], workers=1)
        for family, name in FAMILIES.items():
            closing = profile(
                few, folders[name], workers=1
            )  # the first job of a tokenizer proves the engine: not timed
            pairs = [
                [run_job(few, folders[each], workers=1)["seconds"] for each in (name, BASE)] for _ in range(ROUNDS)
            ]
            seconds, base = map(statistics.median, zip(*pairs, strict=True))
            (share,) = re.findall(r"rendered fast (\S+)", closing)
            found.append(f"{family} | {share} | {seconds:.2f} | {seconds / base:.2f}")
            print(found[-1], file=sys.stderr)
    return found
