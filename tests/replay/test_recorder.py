"""What a template prints, as steps, places and marks."""

from __future__ import annotations

from typing import Any

import pytest

from sftprep.jinja.compiled import CompiledTemplate
from sftprep.records.conversation import Conversation
from sftprep.replay.recorder import INPUTS, Printed, RecordingTemplate, traced_conversation
from sftprep.replay.steps import Forms, Recording, Steps, Untraceable
from sftprep.template.variables import Variables

TALK = Conversation([{"role": "user", "content": "Hi "}, {"role": "assistant", "content": "Yo"}], None, {}, None)
TURNS = "<s>{% for m in messages %}[{{ m.role }}]{{ m.content | trim }}{{ '' }}{% endfor %}end"


def printed(source: str, given: Conversation = TALK, **options: Any) -> Printed:
    recording = Recording(Steps(Forms({})), {name: getattr(given, name) for name in INPUTS})
    variables = Variables({}).of(traced_conversation(given, recording))
    return RecordingTemplate(CompiledTemplate(source), None).printed(variables, recording, **options)


def test_parts_and_places() -> None:
    found = printed(TURNS)
    assert found.text == "<s>[user]Hi[assistant]Yoend"
    assert found.texts(0, len(found.parts)) == ["<s>", "[", "user", "]", None, "[", "assistant", "]", None, "end"]
    assert found.offsets == (0, 3, 4, 8, 9, 11, 12, 21, 22, 24, 27)
    assert found.events == ((1, 0), (5, None), (5, 1), (9, None))
    assert found.over == 9


def test_stretches_that_the_template_wrote() -> None:
    found = printed(TURNS)
    assert list(found.runs()) == [(0, 4), (5, 8), (9, 10)]
    assert [found.run_at(place) for place in (0, 2, 4, 5, 8, 10)] == [(0, 4), (0, 4), (0, 4), (5, 8), (5, 8), (9, 10)]
    assert (found.literal(1, 4), found.literal(4, 4)) == ("[user]", "")
    with pytest.raises(Untraceable):
        found.literal(3, 5)


def test_which_part_holds_a_character() -> None:
    found = printed(TURNS)
    for offset in range(len(found.text)):
        part = found.part_at(offset)
        assert found.offsets[part] <= offset < found.offsets[part + 1]


def test_roles_keys_and_types_are_as_they_are() -> None:
    given = Conversation([{"role": "user", "content": [1], "name": None}], [{"a": "b"}], {"think": True}, None)
    recording = Recording(Steps(Forms({})), {name: getattr(given, name) for name in INPUTS})
    traced = traced_conversation(given, recording)
    assert [*traced.messages[0]] == ["role", "content", "name"]
    assert (traced.messages[0]["role"], traced.messages[0]["name"]) == ("user", None)
    assert (traced.messages[0]["content"].__class__, traced.tools.__class__) == (list, list)
    assert traced.template_kwargs["think"].value is True


@pytest.mark.parametrize("source", ["{% filter upper %}a{% endfilter %}", "{% block x %}{% endblock %}"])
def test_statements_that_cannot_be_recorded(source: str) -> None:
    with pytest.raises(Untraceable):
        printed(source)


def test_marks_in_the_text_cannot_be_recorded() -> None:
    held_back = "{% set s %}{% for m in messages %}{{ m.content }}{% endfor %}{% endset %}{{ s }}"
    with pytest.raises(Untraceable):
        printed(held_back)
    assert printed(held_back, held_back=False).text == "Hi Yo"
