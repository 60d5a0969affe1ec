"""What a template prints, as steps, places and marks."""

from __future__ import annotations

from typing import Any

import pytest

from sftprep.jinja.compiled import CompiledTemplate
from sftprep.records.conversation import Conversation
from sftprep.template.variables import Variables
from sftprep.tracing.recorder import INPUTS, Printed, RecordingTemplate, traced_conversation
from sftprep.tracing.steps import Forms, Recording, Steps, Untraceable

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


HELD_BACK = "{% set s %}{% for m in messages %}[{{ m.content }}]{% endfor %}{% endset %}"


def test_marks_in_the_text_are_taken_out() -> None:
    found = printed(HELD_BACK + "{{ s }}.")
    assert found.text == "[Hi ][Yo]."
    assert found.texts(0, len(found.parts)) == ["[", None, "]", "[", None, "]", "."]
    assert (found.events, found.over) == (((0, 0), (3, None), (3, 1), (6, None)), 6)
    assert found.held_back
    assert printed(HELD_BACK + "{{ s }}.", held_back=False).events == ()


def test_marks_in_a_text_that_is_looked_at() -> None:
    measured = "{{ s | length > 9 }}"
    with pytest.raises(Untraceable):
        printed(HELD_BACK + measured)  # it prints something else with marks in it
    with pytest.raises(Untraceable):
        printed(HELD_BACK + "{{ s | trim }}")  # marks may be in what is trimmed
    assert printed(HELD_BACK + "{{ s }}{% if 'zz' in s %}!{% endif %}").text == "[Hi ][Yo]"
    assert printed(HELD_BACK + measured, held_back=False).text == "False"


@pytest.mark.parametrize("made_of", ["{{ s }}", "{{ s | replace('x', 'y') }}", "a"])
def test_the_characters_of_marks_are_looked_for_where_they_would_be_taken_for_marks(made_of: str) -> None:
    given = Conversation([{"role": "user", "content": "\U0001fffe"}], None, {}, None)
    found = printed("{% for m in messages %}{% set s %}{{ m.content }}{% endset %}" + made_of + "{% endfor %}", given)
    found.observe_marks()
    assert not any("is_unmarked" in found.recording.steps.forms[step] for step in found.recording.observed)
    found = printed(HELD_BACK + "{{ s }}", given)
    found.observe_marks()
    assert False in found.recording.observed.values()
