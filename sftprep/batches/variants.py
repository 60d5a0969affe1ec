"""A conversation in the variants that a chat template may take it in, and the one that it takes.

A template may refuse what a record says as the record says it, or print it so that a model would learn the wrong thing: a
server gives it the same in another variant then. Tried in this order, the first that the template prints well is taken:
content parts as they are, then joined to a text; missing content as it is, then null, then ""; tool arguments as they
are, then decoded (or, for a template that refuses objects, as JSON). Printed badly are: arguments that are quoted a second
time, parts that are shown as code or left out. Where the template prints no variant well, the first that it does not
refuse is taken. A template that looks into a text as into parts, or prints no word, gets each text as one part.
Which one depends on the conversation and the template alone.
Cost: a rendering for each variant tried; conversations with neither parts nor calls have one variant.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice, product
from typing import Any, TypeVar

from sftprep.errors import ConversationError, RefusedError
from sftprep.records.conversation import Conversation
from sftprep.records.messages import function_of, texts_of
from sftprep.workers.limits import LimitError

Message = dict[str, Any]
Change = Callable[[Message], Message]
T = TypeVar("T")
_REASONING = ("reasoning_content", "thinking", "reasoning")
_CODE = ("'text': ", '"text": ', '"text":"')  # how a part's text is introduced where it is shown as code
_NULL = re.compile(r"\b(?:None|null)\b")
_LOOKS_INTO_TEXT = "str object"  # Jinja's name of a text of which a template wants an attribute or an item, as of parts
_MOST_LINES = 10_000  # of a conversation, that are looked for
_BEGINNING = 24  # characters of a line: a template may cut or wrap what is longer


def take(
    conversation: Conversation,
    tool_arguments: str,
    render: Callable[[Conversation], tuple[str, T]],
    text_of: Callable[[Conversation], str],
    speaks: Callable[[Conversation, str], bool],
) -> tuple[str, T, bool]:
    """What `render` gives of the variant that the template takes: text, the rest, and whether it is another one than the
    conversation's own.

    tool_arguments: as the option has it. render: raises RefusedError where the template refuses, another
    ConversationError where it cannot be followed. text_of: what it prints, followed or not. speaks: whether any of a
    variant's messages says something in the text, which takes long to tell. Raises as `render` does for
    the variant taken, or for the first where the template refuses all; ConversationError where the text holds no word of
    the conversation.
    """
    reason = ConversationError("the chat template prints none of its words; give another one with --chat-template")
    try:
        text, rest, variant = _taken(conversation, tool_arguments, render, text_of)
    except RefusedError as error:
        if _LOOKS_INTO_TEXT not in str(error):
            raise
        reason = error
    else:
        if has_words(text, conversation) or speaks(variant, text):
            return text, rest, variant is not conversation
    given = in_parts(conversation)
    try:
        text, rest, variant = _taken(given, tool_arguments, render, text_of)
    except LimitError:
        raise
    except ConversationError:
        raise reason from None
    if not has_words(text, given) or not is_well_printed(text, given, variant, arguments=tool_arguments == "auto"):
        raise reason
    return text, rest, True


def _taken(
    conversation: Conversation,
    tool_arguments: str,
    render: Callable[[Conversation], tuple[str, T]],
    text_of: Callable[[Conversation], str],
) -> tuple[str, T, Conversation]:
    if varies(conversation):
        return _first_good(conversation, tool_arguments, render, text_of)
    return *render(conversation), conversation


def _first_good(
    conversation: Conversation,
    tool_arguments: str,
    render: Callable[[Conversation], tuple[str, T]],
    text_of: Callable[[Conversation], str],
) -> tuple[str, T, Conversation]:
    refused: list[ConversationError] = []
    printed: list[tuple[str, T, Conversation] | ConversationError] = []
    for variant in variants(conversation, tool_arguments):
        found: tuple[str, T, Conversation] | ConversationError
        try:
            found = (*render(variant), variant)
            text = found[0]
        except RefusedError as error:
            refused.append(error)
            continue
        except LimitError:
            raise
        except ConversationError as error:
            found, text = error, text_of(variant)
        printed.append(found)
        if is_well_printed(text, conversation, variant, arguments=tool_arguments == "auto"):
            break
    else:
        printed = [*printed, *refused][:1]
    if isinstance(printed[-1], ConversationError):
        raise printed[-1]
    return printed[-1]


def varies(conversation: Conversation) -> bool:
    """Whether there may be more variants than the conversation itself."""
    return conversation.plain_roles is None and any(
        "tool_calls" in message or type(message.get("content")) is not str for message in conversation.messages
    )


def variants(conversation: Conversation, tool_arguments: str) -> Iterator[Conversation]:
    """The conversation itself, unless its arguments are to be objects, and its other variants in the order to be tried."""
    messages = conversation.messages
    parts: list[Change | None] = [None]
    if any(type(message.get("content")) is list for message in messages):
        parts.append(_joined)
    contents: list[Change | None] = [None]
    if any("content" not in message for message in messages):
        contents += [lambda message: {"content": None, **message}, lambda message: {"content": "", **message}]
    for changes in product(parts, contents, _of_arguments(messages, tool_arguments)):
        changed = messages
        for change in filter(None, changes):
            changed = list(map(change, changed))
        yield conversation if changed is messages else replace(conversation, messages=changed)


def _of_arguments(messages: Sequence[Message], tool_arguments: str) -> list[Change | None]:
    """What may be done to the arguments of calls."""
    kinds = {type(arguments) for message in messages for arguments in _arguments_of(message)}
    if not kinds or tool_arguments == "as-is":
        return [None]
    if tool_arguments == "object":
        return [_decoded if str in kinds else None]
    return [None, _decoded if str in kinds else _encoded]


def _arguments_of(message: Message) -> list[Any]:
    """The arguments of a message's calls, objects or JSON."""
    functions = map(function_of, message.get("tool_calls", ()))
    return [function["arguments"] for function in functions if "arguments" in function]


def _joined(message: Message) -> Message:
    """Parts without anything between them, as most templates that take parts print them."""
    return {**message, "content": "".join(texts_of(message))} if type(message.get("content")) is list else message


def in_parts(conversation: Conversation) -> Conversation:
    """The conversation, each text a list of one part."""
    messages = [
        {**message, "content": [{"type": "text", "text": message["content"]}]}
        if type(message.get("content")) is str
        else message
        for message in conversation.messages
    ]
    return replace(conversation, messages=messages, plain_roles=None)


def _decoded(message: Message) -> Message:
    return _with_arguments(message, lambda given: json.loads(given) if type(given) is str else given)


def _encoded(message: Message) -> Message:
    return _with_arguments(
        message, lambda given: given if type(given) is str else json.dumps(given, ensure_ascii=False)
    )


def _with_arguments(message: Message, change: Callable[[Any], Any]) -> Message:
    if "tool_calls" not in message:
        return message
    calls = []
    for call in message["tool_calls"]:
        function = function_of(call)
        if "arguments" in function:
            function = {**function, "arguments": change(function["arguments"])}
        calls.append({**call, "function": function} if "function" in call else function)
    return {**message, "tool_calls": calls}


def is_well_printed(text: str, conversation: Conversation, variant: Conversation, *, arguments: bool = True) -> bool:
    """Whether the text, which the template printed of the variant, quotes none of the conversation's arguments (if these
    are looked at) a second time, shows no part and no null as code, and leaves no part out. What messages say themselves
    is no fault."""
    said = list(chain.from_iterable(map(texts_of, conversation.messages)))
    for message in conversation.messages:
        for given in _arguments_of(message) if arguments else ():
            if type(given) is str and any(
                _more(json.dumps(given, ensure_ascii=on), text, said) for on in (True, False)
            ):
                return False
        if type(message.get("content")) is list:
            if not all(each.strip() in text for each in texts_of(message)):
                return False
            if any(_more(code, text, said) for code in _CODE):
                return False
    return not _shows_null(text, conversation, variant, said)


def _more(piece: str, text: str, said: Sequence[str]) -> bool:
    """Whether a piece stands more often in the text than messages say it."""
    return piece in text and text.count(piece) > sum(each.count(piece) for each in said)


def _shows_null(text: str, conversation: Conversation, variant: Conversation, said: Sequence[str]) -> bool:
    """Whether content that is null in the variant is printed as a word: more such words stand there than are said."""
    if not any(message.get("content", "") is None for message in variant.messages):
        return False
    given = [arguments for message in conversation.messages for arguments in _arguments_of(message)]
    known = "\n".join(
        [*said, *(each if type(each) is str else json.dumps(each) for each in [*given, conversation.tools or ""])]
    )
    return len(_NULL.findall(text)) > len(_NULL.findall(known))


def has_words(text: str, conversation: Conversation) -> bool:
    """Whether the text holds anything that the conversation says, thinks or calls, as it says it; True if it has nothing to
    say."""
    for message in conversation.messages:
        content = message.get("content")
        if type(content) is str and content and content in text:
            return True
    silent = True
    for line in islice(_lines(conversation), _MOST_LINES):
        if line[:_BEGINNING].rstrip() in text:
            return True
        silent = False
    return silent


def _lines(conversation: Conversation) -> Iterator[str]:
    """What messages say, think and call, without white space around it."""
    for message in conversation.messages:
        said = [*texts_of(message), *(message.get(key, "") for key in _REASONING)]
        said += [function_of(call)["name"] for call in message.get("tool_calls", ())]
        for each in said:
            yield from filter(None, map(str.strip, each.splitlines()))
