"""What a template sees of a conversation."""

from __future__ import annotations

import pytest
import template_zoo as zoo
from breeds import talk, template_of

from sftprep.errors import ConversationError
from sftprep.records.conversation import Conversation
from sftprep.template.variables import Variables


def test_a_record_may_not_replace_the_messages() -> None:
    with pytest.raises(ConversationError, match="add_generation_prompt, messages"):
        template_of(zoo.CHATML).render(
            Conversation(talk("Hi"), None, {"messages": [], "add_generation_prompt": True}, None)
        )


def test_a_records_variables_go_before_those_of_all() -> None:
    shared = Variables({"bos_token": "<s>", "think": True, "documents": ["a"]})
    given = Conversation(talk("Hi"), [{"name": "f"}], {"think": False, "documents": None}, None)
    assert shared.of(given) == {
        "bos_token": "<s>",
        "think": False,
        "documents": None,
        "messages": talk("Hi"),
        "tools": [{"name": "f"}],
        "add_generation_prompt": False,
    }
    assert Variables({}).of(Conversation(talk("Hi"), None, {}, None))["documents"] is None


def test_equal_messages_are_objects_of_their_own() -> None:
    same = talk("Hi")[0]
    given = Conversation([same, same], None, {}, None)
    first, second = Variables({}).of(given)["messages"]
    assert first == second == same
    assert len({id(first), id(second), id(same)}) == 3
