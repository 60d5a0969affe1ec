"""What a chat template sees of a conversation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sftprep.errors import ConversationError
from sftprep.records.conversation import Conversation

_RESERVED = frozenset({"messages", "tools", "add_generation_prompt"})


@dataclass(frozen=True, slots=True)
class Variables:
    """A template's variables: those of all conversations, and what each adds."""

    constants: Mapping[str, Any]  # bos_token and the like, and options of the build

    def of(self, conversation: Conversation) -> dict[str, Any]:
        """Message objects are new, so that each is known by its identity. Raises ConversationError for names it may not set."""
        clash = _RESERVED & conversation.template_kwargs.keys()
        if clash:
            raise ConversationError(f"a record may not set the template variables {', '.join(sorted(clash))}")
        return {
            "documents": None,
            **self.constants,
            **conversation.template_kwargs,
            "messages": [dict(message) for message in conversation.messages],
            "tools": conversation.tools,
            "add_generation_prompt": False,
        }
