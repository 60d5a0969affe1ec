"""The conversations with which a template is tried are such as any template may be given."""

from __future__ import annotations

import orjson
import pytest

from sftprep.records.conversation import parse_conversation
from sftprep.template.probes import ONE_TOOL, OTHERS, QUESTION, TALK, Messages, with_tools


@pytest.mark.parametrize("messages", [*TALK, *ONE_TOOL, *OTHERS])
def test_a_probe_is_a_sound_conversation(messages: Messages) -> None:
    record = {"messages": messages, "tools": with_tools(messages)}
    read = parse_conversation(orjson.dumps(record))
    assert [message["role"] for message in read.messages] == [message["role"] for message in messages]
    said = [message["content"] for message in messages if message["content"]]
    assert len({*said}) == len(said)  # whose text it is can be told
    asked = [call["id"] for message in messages for call in message.get("tool_calls", ())]
    assert [message["tool_call_id"] for message in messages if message["role"] == "tool"] == asked
    assert (with_tools(messages) is not None) == bool(asked)


def test_talk_is_nothing_but_roles_and_text() -> None:
    assert {key for messages in (*TALK, QUESTION) for message in messages for key in message} == {"role", "content"}
