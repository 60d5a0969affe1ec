"""Which prompts depend on the messages before them."""

from __future__ import annotations

import odd_templates as odd
import pytest
import template_zoo as zoo
from breeds import breeds_of

from sftprep.jinja.after_messages import epilogue_of
from sftprep.jinja.compiled import CompiledTemplate


@pytest.mark.parametrize(
    ("name", "names"),
    [
        ("CHATML", {"add_generation_prompt"}),
        ("PHI_3", {"add_generation_prompt", "eos_token"}),
        ("QWEN_3", {"add_generation_prompt", "enable_thinking"}),
        ("LLAMA_2", set()),
        ("DEEPSEEK_R1", None),
        ("GPT_OSS", None),
        ("ZEPHYR", None),
        ("MACROS", None),
        ("SET_BLOCK", None),
        ("LAST_APART", None),
    ],
)
def test_which_prompts_no_message_has_a_part_in(name: str, names: set[str] | None) -> None:
    epilogue = epilogue_of(CompiledTemplate("").environment.parse(breeds_of(zoo, odd)[name].source))

    assert (None if epilogue is None else set(epilogue.names)) == names


LOOP = "{% for m in messages %}{{ m.content }}{% set x = m %}{% set ns.y = m %}{% endfor %}"


@pytest.mark.parametrize(
    ("rest", "fixed"),
    [
        ("{{ 'a' }}{% if b %}c{% endif %}", True),
        ("{{ messages[0].content }}", False),
        ("{{ ns.z }}", False),
        ("{% if x %}a{% endif %}", False),
        ("{{ given }}", True),
        ("{{ taken }}", False),
        ("{{ f() }}", False),
        ("{{ g() }}", True),
        ("{{ kept.a }}", False),
        ("{% for t in tools %}{{ t }}{% endfor %}", True),
        ("{% set messages = [] %}{{ messages }}", False),
    ],
)
def test_what_flows_into_the_last_statements(rest: str, fixed: bool) -> None:
    source = (
        "{% set ns = namespace() %}{% set kept = namespace() %}{% set given = tools %}{% set taken = messages | length %}"
        "{% macro f() %}{{ messages }}{% endmacro %}{% macro g() %}a{% endmacro %}{% macro h(a) %}{% set kept.a = a %}{% endmacro %}"
        + LOOP.replace("{{ m.content }}", "{{ h(m.content) }}")
        + rest
    )

    assert (epilogue_of(CompiledTemplate("").environment.parse(source)) is not None) == fixed
