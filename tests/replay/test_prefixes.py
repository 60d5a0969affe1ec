"""Contexts as they are recorded, beside renderings of each prefix by Jinja."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
import template_zoo as zoo
from breeds import Breed
from conftest import FULL
from hypothesis import given, settings
from hypothesis import strategies as st
from kinds_of_conversation import KINDS
from replays import ASK, LOOP, breed_template, talk

from sftprep.errors import ConversationError, SftprepError
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.replay.replay_template import ReplayTemplate
from sftprep.template.chat_template import ChatTemplate, open_template

BREEDS = [name for name in dir(zoo) if isinstance(getattr(zoo, name), Breed)]


def texts(template: ChatTemplate, conversation: Conversation, message: int) -> tuple[str, list[str]]:
    """What stands before what is trained of a message, and what is trained of it."""
    rendering = template.render(conversation)
    spans = [span for span in rendering.spans if span.message == message]
    before = rendering.text[: spans[0].start] if spans else ""
    return before, [rendering.text[span.start : span.stop] for span in spans]


def others(template: ChatTemplate, conversation: Conversation) -> tuple[int, ...]:
    found = []
    for turn in (at for at, message in enumerate(conversation.messages) if at and message["role"] == "assistant"):
        try:
            asked = template.ask(conversation.until(turn)).text
        except ConversationError:
            continue
        before, now = texts(template, conversation, turn)
        try:
            _, then = texts(template, conversation.until(turn + 1), turn)
        except ConversationError:
            then = now
        late = [[*then[:-1], then[-1] + token] for token in template.control_tokens] if then else []
        if asked and ((now and before != asked) or now not in [then, *late]):
            found.append(turn)
    return tuple(found)


def check(template: ReplayTemplate, conversation: Conversation) -> bool:
    """Compare; whether contexts were known from a recording."""
    try:
        found = {template.render(conversation)[1][0].others for _ in range(5)} - {None}
    except SftprepError:
        return False
    assert found <= {others(template.template, conversation)}
    return bool(found)


@pytest.mark.parametrize("name", BREEDS)
def test_contexts_are_those_that_jinja_shows(name: str) -> None:
    template = breed_template(getattr(zoo, name), now=datetime(2026, 1, 2))
    records = list(KINDS.values())[:: 1 if FULL else 4]
    known = sum(check(template, parse_conversation(json.dumps(record).encode())) for record in records)
    assert known > 1


words = st.sampled_from(["", "a", "b", "<e>", "</think>", "Hm.</think>a", " a ", "a\n"])


@settings(deadline=None, max_examples=30)
@given(st.lists(st.lists(words, min_size=2, max_size=6), min_size=1, max_size=6))
@pytest.mark.parametrize(
    "printed",
    [
        "{{ m.content }}",
        "{{ m.content.split('</think>')[-1] if not loop.last else m.content }}",
        "{{ m.content.strip() if loop.index0 + 1 < messages | length else m.content }}",
        "{{ m.content ~ ('!' if messages[-1].content == 'a' else '') }}",
    ],
)
def test_what_depends_on_the_words_is_told_for_each_conversation(printed: str, talks: list[list[str]]) -> None:
    source = f"{LOOP}<s>{{{{ m.role }}}}\n{printed}<e>{{% endfor %}}{ASK}<s>assistant\n{{% endif %}}"
    template = ReplayTemplate(open_template(source, {}, control_tokens=["<s>", "<e>"], roles={"assistant"}))
    for said in talks * 2:
        check(template, talk(*said))


def test_steps_that_differ_are_compared_by_what_they_give() -> None:
    """Whether the past is printed as the present was depends on blanks: both ways are known from one shape."""
    source = f"{LOOP}<s>{{{{ m.role }}}}\n{{{{ m.content if loop.last else m.content.strip() }}}}<e>{{% endfor %}}{ASK}<s>assistant\n{{% endif %}}"
    template = ReplayTemplate(open_template(source, {}, control_tokens=["<s>", "<e>"], roles={"assistant"}))
    for _ in range(4):
        for said in (("Q", "A", "R", "B"), ("Q", "A ", "R", "B"), ("Q ", "A", "R", "B")):
            template.render(talk(*said))
    assert template.replayed > 3
    for said, expected in ((("q", "a", "r", "b"), ()), (("q", " a", "r", "b"), (1,)), (("q", "a", "r", " b"), ())):
        _, (places, _) = template.render(talk(*said))
        assert places.others == expected


@pytest.mark.parametrize("header", ["<h>", "<h></h>", "<h>\\n"])
def test_headers_that_end_inside_what_is_made_of_the_answer(header: str) -> None:
    thought = "((m.content if '<h>' in m.content else '<h></h>' ~ m.content) | trim)"
    source = f"{LOOP}<s>{{{{ m.role }}}}\n{{{{ {thought} if m.role == 'assistant' else m.content }}}}<e>{{% endfor %}}"
    source += f"{{% if messages[-1].x %}}!{{% endif %}}{ASK}<s>assistant\n{header}{{% endif %}}"
    tokens = ["<s>", "<e>", "<h>", "</h>"]
    template = ReplayTemplate(
        open_template(source, {}, control_tokens=tokens[:2], added_tokens=tokens, roles={"assistant"})
    )
    talks = [talk("q", one, "r", other) for one in ("a", "b", "<h>c</h>d", "", "<h>", " </h>") for other in ("e", one)]

    assert sum(check(template, each) for each in talks * 2) > len(talks)
