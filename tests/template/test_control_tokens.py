"""Which tokens begin or end turns."""

from __future__ import annotations

import odd_templates as odd
import pytest
import template_zoo as zoo
from breeds import Breed, template_of


@pytest.mark.parametrize(
    ("breed", "expected"),
    [
        (zoo.DEEPSEEK_R1, {"<｜User｜>", "<｜Assistant｜>", "<｜tool▁outputs▁begin｜>", "<｜tool▁outputs▁end｜>"}),
        (zoo.GLM_45, set()),
        (zoo.QWEN_3, set()),
        (zoo.QWQ, set()),
        (Breed(zoo.CHATML.source, plain=zoo.CHATML.controls), {"<|im_start|>", "<|im_end|>"}),
        (Breed(zoo.GLM_4.source, plain=zoo.GLM_4.controls), {"<|user|>", "<|assistant|>", "<|observation|>", "<|system|>"}),
        (Breed(zoo.MISTRAL_3.source, zoo.MISTRAL_3.special, plain=zoo.MISTRAL_3.controls), {"[INST]", "[/INST]", "[TOOL_RESULTS]", "[AVAILABLE_TOOLS]"}),
    ],
)  # fmt: skip
def test_tokens_that_begin_or_end_turns_are_control_tokens(breed: Breed, expected: set[str]) -> None:
    assert template_of(breed).control_tokens == expected | {*breed.controls, *breed.special.values()}


@pytest.mark.parametrize(
    ("breed", "expected"),
    [
        (zoo.GPT_OSS, {"<|end|>", "<|return|>", "<|call|>"}),
        (zoo.GLM_4, set()),
        (zoo.QWEN_3, {"<|im_end|>"}),
        (odd.OPEN_CALL, {"<turn|>", "<|result>"}),
        (odd.EARLY_RESULTS, {"<|end|>", "<|call|>"}),
    ],
)
def test_tokens_that_are_known_to_end_turns(breed: Breed, expected: set[str]) -> None:
    assert template_of(breed).ends.known == expected
