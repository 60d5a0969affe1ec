"""Options are checked, wherever they come from."""

from __future__ import annotations

import re
from typing import Any

import pytest
from small_builds import TOKENIZER

from sftprep.config import BuildConfig, template_value
from sftprep.errors import ConfigError


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"template_kwargs": {"x": float("nan")}}, "template_kwargs has text that is not UTF-8, or a number that is"),
        ({"template_kwargs": {"x": ["\ud800"]}}, "template_kwargs has text that is not UTF-8"),
        (
            {"template_kwargs": {"x": template_value("[" * 100 + "]" * 100)}},
            "template_kwargs is nested deeper than 100",
        ),
        (
            {"template_kwargs": {"x": template_value("[" * 900 + "]" * 900)}},
            "template_kwargs is nested deeper than 100",
        ),
        ({"template_kwargs": {"x": {1, 2}}}, "template_kwargs has "),
        ({"template_kwargs": ["x"]}, "template_kwargs is of type list; expected dict"),
        ({"header": "\udcff"}, "header has text that is not UTF-8"),
        ({"chat_template": 7}, "chat_template is of type int; expected str"),
        ({"chat_template": "x" * (1 << 20 | 1)}, "a chat template of 1,048,577 characters; expected 1,048,576 at most"),
        ({"max_length": True}, "max_length is of type bool; expected int"),
        ({"keep_untrained": 1}, "keep_untrained is of type int; expected bool"),
        ({"mask": ["turns"]}, "mask is of type list; expected str"),
        ({"date": "tomorrow"}, "--date tomorrow: expected YYYY-MM-DD"),
        (
            {"role_map": {"agent": "me"}},
            "--role-map agent=me: expected NAME=ROLE, of system, developer, user, assistant, tool, t",
        ),
        ({"role_map": {1: "user"}}, "--role-map 1=user: expected NAME=ROLE"),
        ({"by": "prompt"}, "--by prompt: conversations are read from this key"),
        ({"by": "chat", "messages_key": "chat"}, "--by chat: conversations are read from this key"),
        ({"by": 3}, "by is of type int; expected str"),
        (
            {"messages_key": "chat", "record_format": "alpaca"},
            "--messages-key belongs to --format messages, not to --format",
        ),
    ],
)
def test_options_that_no_manifest_can_hold(options: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(said)}"):
        BuildConfig(("a.jsonl",), TOKENIZER, **options)


def test_a_template_kwarg_that_is_no_json_is_text() -> None:
    assert template_value("[" * 100_000) == "[" * 100_000
