"""What a template sees of a conversation."""

from __future__ import annotations

import pytest
import template_zoo as zoo
from breeds import talk, template_of

from sftprep.errors import ConversationError
from sftprep.records.conversation import Conversation


def test_a_record_may_not_replace_the_messages() -> None:
    with pytest.raises(ConversationError, match="add_generation_prompt, messages"):
        template_of(zoo.CHATML).render(
            Conversation(talk("Hi"), None, {"messages": [], "add_generation_prompt": True}, None)
        )
