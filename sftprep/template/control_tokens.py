"""Control tokens that a tokenizer does not call special: those with which a chat template begins and ends turns."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection

from sftprep.errors import ConversationError, TemplateError
from sftprep.jinja.compiled import CompiledTemplate
from sftprep.records.conversation import Conversation
from sftprep.template.misplaced import assistants_of
from sftprep.template.probes import LAST_CALL, ONE_TOOL, TALK, with_tools
from sftprep.template.prompt import GenerationPrompts
from sftprep.template.turns import stretches, token_pattern
from sftprep.template.variables import Variables
from sftprep.workers.limits import LimitError


def structural_tokens(
    compiled: CompiledTemplate, variables: Variables, prompts: GenerationPrompts, added_tokens: Collection[str]
) -> set[str]:
    """The added tokens that begin turns of the template, or end turns that hold nothing but text.

    DeepSeek's `<｜User｜>` is one although its tokenizer does not call it special; `<think>` and `<tool_call>`, which
    stand inside turns, are not. Found by rendering a few conversations; those that the template refuses do not count.
    """
    pattern, found = token_pattern(added_tokens), set()
    if not added_tokens:
        return set()
    for messages in (*TALK, *ONE_TOOL):
        given = variables.of(Conversation(messages, with_tools(messages), {}, None))
        messages = given["messages"]
        try:
            marked = compiled.mark(given)
            starts = [prompts.after(given, i) for i in assistants_of(messages)]
        except LimitError:
            raise
        except (ConversationError, TemplateError):
            continue
        turns = [(messages[mark.message], marked.text[mark.start : mark.stop].strip()) for mark in marked.marks]
        starts += [turn for message, turn in turns if message["role"] != "assistant"]
        found |= {begin.group() for start in starts if (begin := pattern.match(start.lstrip()))}
        ends = [turn for message, turn in turns if message["role"] != "tool" and "tool_calls" not in message]
        found |= {
            turn[start:stop] for turn in ends for start, stop in stretches(pattern, turn)[-1:] if stop == len(turn)
        }
    paired = re.compile(r"</?(\w+)>")  # <tool_response> ... </tool_response> stands inside turns
    names = Counter(pair.group(1) for token in added_tokens if (pair := paired.fullmatch(token)))
    return {token for token in found if not (pair := paired.fullmatch(token)) or names[pair.group(1)] < 2}


def ending_tokens(compiled: CompiledTemplate, variables: Variables, controls: re.Pattern[str]) -> frozenset[str]:
    """The control tokens with which turns of the assistant end that say something, or that call a tool and are the last.

    Found by rendering a few conversations; those that the template refuses do not count.
    """
    found = set()
    for messages in (*TALK, LAST_CALL):
        given = variables.of(Conversation(messages, with_tools(messages), {}, None))
        try:
            marked = compiled.mark(given)
        except LimitError:
            raise
        except (ConversationError, TemplateError):
            continue
        assistants = assistants_of(messages)
        turns = [marked.text[mark.start : mark.stop].strip() for mark in marked.marks if mark.message in assistants]
        found |= {turn[a:b] for turn in turns for a, b in stretches(controls, turn)[-1:] if b == len(turn)}
    return frozenset(found)
