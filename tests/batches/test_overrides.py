"""A header or an end that is not the template's is refused before anything is built."""

from __future__ import annotations

from pathlib import Path

import pytest
from small_builds import GOOD, TOKENIZER, build, write

from sftprep.config import BuildConfig
from sftprep.errors import ConfigError
from sftprep.previews.examine_template import examine_template

pytestmark = pytest.mark.usefixtures("cache")
HEADER = "<|im_start|>assistant\n"


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"header": "<|assistant|>"}, r"--header '<\|assistant\|>': stands before no answer"),
        ({"header": ""}, "--header '': stands before no answer"),
        ({"header": HEADER + "x"}, "stands before no answer"),
        ({"end_of_turn": "<|endoftext|>"}, r"--end-of-turn '<\|endoftext\|>': ends no answer"),
        ({"end_of_turn": ""}, "--end-of-turn '': ends no answer"),
    ],
)
def test_what_the_template_does_not_have(options: dict[str, str], what: str, tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", GOOD)
    with pytest.raises(ConfigError, match=what):
        build(tmp_path / "out", source, max_length=64, **options)
    assert not (tmp_path / "out").exists()
    with pytest.raises(ConfigError, match=what):
        examine_template(BuildConfig((), TOKENIZER, **options))  # type: ignore[arg-type]


def test_what_it_has(tmp_path: Path) -> None:
    source = write(tmp_path / "a.jsonl", GOOD)
    plain = build(tmp_path / "plain", source, max_length=64)
    given = build(tmp_path / "given", source, max_length=64, header=HEADER, end_of_turn="<|im_end|>")
    assert given.totals == plain.totals
    assert {name: each.sha256 for name, each in given.files.items()} == {
        name: each.sha256 for name, each in plain.files.items()
    }


def test_a_template_without_answers_in_talk_is_not_asked(tmp_path: Path) -> None:
    """It refuses plain talk; what stands before its answers is known to who gives the option."""
    wants = (
        "{% if messages | length != 4 %}{{ raise_exception('four') }}{% endif %}"
        "{% for m in messages %}[{{ m.role }}] {{ m.content }}<|im_end|>{% endfor %}"
    )
    messages = [
        {"role": role, "content": f"Said {n}."} for n, role in enumerate(("user", "assistant", "user", "assistant"))
    ]
    source = write(tmp_path / "a.jsonl", {"messages": messages}, {"messages": messages[:2]})
    manifest = build(tmp_path / "out", source, max_length=64, chat_template=wants, header="[assistant] ")
    assert manifest.totals["conversations"] == 1
