"""What is said of a template, on templates whose ways are known."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from small_builds import TOKENIZER

from sftprep.config import BuildConfig
from sftprep.errors import TemplateError
from sftprep.previews.examine_template import Examined, TemplateReport, examine_template

pytestmark = pytest.mark.usefixtures("cache")
BARE = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# the last answer has its reasoning, those before it lose theirs
THINKS = BARE.replace(
    "{{ m.content }}",
    "{% if loop.last and m.reasoning_content %}<t>{{ m.reasoning_content }}</t>{% endif %}{{ m.content }}",
)


def examined(template: str | None = None, **options: object) -> TemplateReport:
    return examine_template(BuildConfig((), TOKENIZER, chat_template=template, **options))  # type: ignore[arg-type]


def of(report: TemplateReport, name: str) -> Examined:
    return next(each for each in report.conversations if each.name == name)


def test_one_that_prints_role_and_content() -> None:
    report = examined(BARE)
    assert [each.name for each in report.conversations if each.refused] == []
    talk = of(report, "several turns")
    assert [talk.text[start:stop] for start, stop in talk.trained] == [
        "Answer two.<|im_end|>",
        "Answer four.<|im_end|>",
    ]
    assert (talk.left_out, talk.other_context, talk.not_served, talk.replayed) == ((), 0, 0, True)
    assert 0 < talk.seconds < 1
    assert report.control_tokens == ("<|im_end|>", "<|im_start|>")
    assert report.ends == ("<|im_end|>",)
    assert of(report, "reasoning").left_out == ("reasoning",)
    assert of(report, "a call of a tool").left_out == ("call of a tool", "list of tools")
    assert of(report, "a developer message").left_out == ()
    assert [(each.what.split(" (")[0], each.option) for each in report.advice] == [
        ("prints no reasoning", "--chat-template FILE"),
        ("prints no call of a tool", "--chat-template FILE"),
        ("prints no list of tools", "--chat-template FILE"),
    ]
    assert json.loads(json.dumps(asdict(report)))["ends"] == ["<|im_end|>"]


def test_one_that_drops_reasoning_later() -> None:
    report = examined(THINKS)
    turns = of(report, "reasoning in several turns")
    assert [turns.text[start:stop] for start, stop in turns.trained] == [
        "Answer two.<|im_end|>",
        "<t>Thought four.</t>Answer four.<|im_end|>",
    ]
    assert turns.left_out == ("reasoning of an earlier turn",)
    assert (turns.other_context, turns.not_served) == (1, 0)
    assert {
        "prints no reasoning of an earlier turn",
        "prints earlier turns, or what is before them, in another way",
    } <= {each.what.split(" (")[0].split(" than")[0] for each in report.advice if each.option == "--contexts served"}


def test_one_whose_past_depends_on_what_follows() -> None:
    """A user's message before the last one is shortened: the answer to it is trained behind another text."""
    report = examined(
        BARE.replace("{{ m.content }}", "{{ m.content if m.role != 'user' or loop.revindex < 3 else '...' }}")
    )
    talk = of(report, "several turns")
    assert (talk.left_out, talk.other_context, talk.not_served) == (("user message",), 1, 0)
    assert of(report, "one question").other_context == 0


def test_one_that_refuses_and_one_that_asks_for_the_day() -> None:
    refuses = BARE.replace(
        "{% for", "{% if messages[0].role == 'system' %}{{ raise_exception('No system here') }}{% endif %}{% for", 1
    )
    report = examined(refuses + "{{ strftime_now('%Y') and '' }}")
    assert of(report, "a system message").refused == "the chat template refuses it: line 1: No system here"
    assert of(report, "a system message").text == ""
    assert report.advice[0].what == f"refuses a system message: {of(report, 'a system message').refused}"
    assert report.asks_for_date
    assert any(each.option == "--date YYYY-MM-DD" for each in report.advice)


def test_ends_that_are_no_tokens() -> None:
    report = examined(BARE.replace("<|im_end|>", ""))
    assert of(report, "one question").ends == ()
    assert report.ends == ("<|im_start|>",)  # of the next turn, where there is one
    unended = "ends answers without a control token"
    assert [each.option for each in report.advice if each.what.startswith(unended)] == ["--chat-template FILE"]
    followed = BARE.replace("<|im_end|>\n", "<|endoftext|>!")
    advice = [each.option for each in examined(followed).advice if each.what.startswith(unended)]
    assert advice == ["--end-of-turn TOKEN"]
    ended = examined(followed, end_of_turn="<|endoftext|>")
    assert ended.ends == ("<|endoftext|>",)


@pytest.mark.parametrize("source", ["{% for i in range(10 ** 9) %}{% endfor %}", "{{ messages[0].nothing.more }}"])
def test_one_that_cannot_be_used(source: str) -> None:
    """Endless, or refusing everything: said in a typed error, or of each conversation."""
    try:
        report = examined(source)
    except TemplateError:
        return
    assert all(each.refused for each in report.conversations)


def test_every_published_tokenizer(shared_data: Path) -> None:
    for folder in sorted((shared_data / "tokenizers").iterdir())[::2]:
        if (folder / "tokenizer.json").exists():
            report = examine_template(BuildConfig((), str(folder)))
            assert of(report, "one question").trained, folder.name
