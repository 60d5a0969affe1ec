"""What cannot be followed is refused with a remedy in its message, and the remedy works."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from odd_templates import DELAYED
from published_templates import open_both_ways
from small_builds import TOKENIZER
from tokenizers import Tokenizer

from sftprep.errors import SftprepError
from sftprep.masks.scan import scan_flat
from sftprep.records.conversation import parse_conversation

Options = dict[str, Any]
TURN = "'<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n'"
SCAN = {"mask": "scan", "scan_header": "<|im_start|>assistant\n", "scan_end": "<|im_end|>"}
DERIVED, BLOCKS = {"mask": "scan"}, {"mask": "generation"}
ALLOWED = {"control_tokens": "allow"}
NONCHARACTER = chr(0x2FFFE)


def chatml(template: str) -> str:
    """A template, TURN in it a turn of ChatML, ANSWER one with a block if it is the assistant's."""
    answer = (
        "{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}{% generation %}{{ m.content + '<|im_end|>' }}"
        "{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}{% endif %}{{ '\n' }}"
    )
    return template.replace("ANSWER", answer).replace("TURN", TURN)


ASK = "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
LOOP = chatml("{% for m in messages %}{{ TURN }}{% endfor %}") + ASK
GATHERED = "{% set ns = namespace(s='') %}{% for m in messages %}{% set ns.s = ns.s OF (TURN) %}{% endfor %}{{ ns.s }}"
SPELLED = LOOP.replace("m.content", "m.content.encode().decode()")
PAIRS = (
    "{% for m in messages %}{% if m.role == 'user' %}{{ TURN + '<|im_start|>assistant\n' + loop.nextitem.content + "
    "'<|im_end|>\n' }}{% endif %}{% endfor %}"
)
TWICE = "{% for m in messages %}ANSWER{% endfor %}{% for m in messages[1:] %}ANSWER{% endfor %}"
OUTSIDE = "{% set m = messages[1] %}ANSWER"
CASES: dict[str, tuple[str, Options, str, str, list[Options]]] = {
    # template, options, the answer, what the message says, remedies: each with what its message names
    "in no branch of its own": (chatml(PAIRS), {}, "Yes.", "in no branch of its own", [SCAN]),
    "gathered": (chatml(GATHERED.replace("OF", "+")), {}, "Yes.", "outside all branches", [SCAN]),
    "measured": (chatml(GATHERED.replace("OF", "~") + "{{ ns.s | length }}"), {}, "Yes.", "that is changed afterwards", [SCAN]),
    "no header for a scan": (chatml(PAIRS), DERIVED, "Yes.", "in no branch of its own", [SCAN]),
    "no end for a scan": (LOOP.replace("<|im_end|>", ""), DERIVED, "Yes.", "no header or no end token", [SCAN | {"scan_end": "\n"}]),
    "two places": (chatml(TWICE), {}, "Yes.", "in two places", [SCAN, BLOCKS]),
    "no words": (DELAYED.source.replace("<|assistant|>", "<|im_start|>assistant\n"), {}, "", "no text by which to find it", [SCAN | {"scan_end": "<|end|>"}]),
    "a block outside": (chatml(OUTSIDE), BLOCKS, "Yes.", "outside every loop", [SCAN]),
    "noncharacters": (chatml("{% set text %}" + LOOP + "{% endset %}{{ text }}"), {}, f"{NONCHARACTER}Yes.", "noncharacters", [DERIVED]),
    "untraceable": (SPELLED, {}, "Yes.", "cannot be traced", [SCAN | ALLOWED]),
    "untraceable blocks": (chatml("{% for m in messages %}ANSWER{% endfor %}").replace("m.content", "m.content.encode().decode()"), BLOCKS, "Yes.", "cannot be traced", [SCAN | ALLOWED, BLOCKS | ALLOWED]),
    "escaped": ("{% autoescape true %}" + LOOP + "{% endautoescape %}", {}, "Yes.", "{% autoescape %}", [{"chat_template": LOOP}]),
    "no word": (LOOP.replace("m.content", "''"), {}, "Yes.", "none of its words", [{"chat_template": LOOP}]),
}  # fmt: skip


def trained(source: str, answer: str, **options: Any) -> str:
    """What a build would train of a question and this answer. Raises SftprepError where it is refused."""
    both_ways = open_both_ways(Path(TOKENIZER), **{"chat_template": source, **options})
    messages = [{"role": "user", "content": "Is it?"}, {"role": "assistant", "content": answer}]
    found = both_ways.mask([parse_conversation(json.dumps({"messages": messages}).encode())], range(1))
    for reason in found.failed.values():
        raise SftprepError(reason)
    ids, rule = found.batch.ids, found.mask
    mask = rule if isinstance(rule, np.ndarray) else scan_flat(ids, found.batch.offsets, rule)
    tokenizer = Tokenizer.from_file(str(Path(TOKENIZER) / "tokenizer.json"))
    return tokenizer.decode(ids[mask.astype(bool)].tolist(), skip_special_tokens=False)


@pytest.mark.parametrize("case", CASES)
def test_the_remedy_that_a_refusal_names_works(case: str) -> None:
    source, options, answer, said, remedies = CASES[case]
    with pytest.raises(SftprepError, match=re.escape(said)) as refusal:
        print(trained(source, answer, **options))
    named = set(re.findall(r"--[a-z-]+(?: (?:scan|generation|allow))?", str(refusal.value)))
    spelled = {_flag(each) for remedy in remedies for each in remedy.items() - options.items()}
    assert spelled <= named <= spelled | {*map(_flag, options.items()), "--mask generation"}
    for remedy in remedies:
        found = trained(source, answer, **options | remedy)
        assert found.startswith(answer)
        assert found[len(answer) :] in ("<|im_end|>", "<|end|>", "\n", f"<|im_end|>{answer}<|im_end|>"), remedy


def _flag(option: tuple[str, str]) -> str:
    """How an option is spelled in a message, with its value if that is one of a few."""
    name, value = option
    return f"--{name.replace('_', '-')}" + f" {value}" * (name in ("mask", "control_tokens"))


@pytest.mark.parametrize("options", [DERIVED, SCAN | {"scan_header": "assistant: "}])
def test_a_scan_for_a_header_that_ends_in_a_blank_finds_it(options: Options) -> None:
    source = LOOP.replace("'<|im_start|>' + m.role + '\n'", "m.role + ': '").replace(
        "<|im_start|>assistant\n", "assistant: "
    )
    assert trained(source, "Yes.", **options) == " Yes.<|im_end|>"
