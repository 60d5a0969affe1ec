"""The forms that chat data comes in, in order of precedence: a record is read as the first whose keys it has with values
that are not null, whatever else is in it. A new one is a function and a line of FORMS.

`messages`              {"messages": [{"role", "content", ...}]}, as OpenAI and Transformers have it
`conversations`         the same under "conversations" (MiniMind), or [{"from", "value"}] (ShareGPT, its other name)
`conversation`          the same under "conversation" (LMSYS-Chat, WildChat)
`prompt-completion`     {"prompt", "completion"}, texts or lists of messages, as TRL has it
`alpaca`                {"instruction", "input", "output", "history": [[question, answer], ...]}
`question-answer`, `question-response` (OpenOrca), `query-response` (ms-swift), `prompt-response`, `instruction-response`
(Dolly)                 two texts under these names, with input and history, too
`data`                  {"data": [question, answer, ...]} (UltraChat), or messages

A list of messages may be the record itself, be JSON in a string, or lie in columns: {"role": [...], "content": [...]}.
What may stand beside the messages is the same in every form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from sftprep.errors import ConfigError, ConversationError
from sftprep.exact_json import decode_json
from sftprep.records.messages import SWITCHES, Reading, kind_of

SYSTEM_KEYS = ("system", "system_prompt", "system_message")
TOOL_KEYS = ("tools", "functions")  # beside the messages, and on a system message
BESIDE = frozenset({*SYSTEM_KEYS, *TOOL_KEYS, "chat_template_kwargs", "documents", *SWITCHES})  # keys beside messages
_SWITCHES = frozenset(SWITCHES)
_TEMPLATE_NAMES = frozenset({"messages", "tools", "documents", "add_generation_prompt"})  # set from elsewhere

Read = tuple[list[Any], int]  # messages, and how many of the first are only seen: their assistant's are not trained


@dataclass(frozen=True, slots=True)
class Form:
    """How records of one form are told, and read."""

    keys: tuple[str, ...]  # that a record has, none of them null
    read: Callable[[dict[str, Any]], Read]
    also: tuple[str, ...] = ()  # other keys that it reads


def form_of(record: dict[str, Any], reading: Reading) -> tuple[str, Form]:
    """The form that a record is read as, and its name. Raises ConversationError where it is none, ConfigError for an unknown
    one."""
    if reading.messages_key is not None:
        return "messages", _listed(reading.messages_key)
    if reading.record_format != "auto":
        if reading.record_format not in FORMS:
            raise ConfigError(f"record format {reading.record_format!r}; expected auto or one of {', '.join(FORMS)}")
        return reading.record_format, FORMS[reading.record_format]
    for name, form in FORMS.items():
        for key in form.keys:
            if record.get(key) is None:
                break
        else:
            return name, form
    known = dict.fromkeys(" and ".join(form.keys) for form in FORMS.values())
    raise ConversationError(f"has none of {', '.join(known)}; --messages-key says where else messages are")


def _listed(key: str) -> Form:
    """A form whose messages are under one key."""
    return Form((key,), lambda record: (_messages_in(record.get(key), key), 0))


def _messages_in(value: Any, key: str) -> list[Any]:
    """Messages in a list, in the JSON of one, or in columns."""
    if type(value) is str:
        value = decode_json(value, key)
    if type(value) is dict and any(type(value.get(name)) is list for name in ("role", "from")):
        value = _rows(value, key)
    if type(value) is not list:
        raise ConversationError(f"{key} is {_said(value)}; expected a list of messages, or its JSON")
    return value


def _rows(columns: dict[str, Any], key: str) -> list[dict[str, Any]]:
    """{"role": [...], "content": [...]} -> [{"role", "content"}, ...]"""
    columns = {name: column for name, column in columns.items() if column is not None}
    if any(type(column) is not list for column in columns.values()) or len({*map(len, columns.values())}) > 1:
        raise ConversationError(f"{key} is an object whose values are not all lists of one length")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _said(value: Any) -> str:
    return "missing" if value is None else kind_of(value)


def text_of(record: dict[str, Any], key: str, default: str | None = None) -> str:
    """The text under a key, `default` where that is missing. Raises ConversationError."""
    value = record.get(key)
    if value is None and default is not None:
        return default
    if type(value) is not str:
        raise ConversationError(f"{key} is {_said(value)}; expected a string")
    return value


def _asked(question_key: str, answer_key: str, *inputs: str) -> Form:
    """A question and its answer, perhaps after others. The question is its text, then the input on a line of its own, as
    LLaMA-Factory joins them. inputs: keys of that."""

    def read(record: dict[str, Any]) -> Read:
        question = "\n".join(
            filter(None, (text_of(record, question_key), *(text_of(record, key, "") for key in inputs)))
        )
        if not question:
            raise ConversationError(f"{' and '.join((question_key, *inputs))} are all empty")
        history = record.get("history")
        if history is not None and type(history) is not list:
            raise ConversationError(f"history is {kind_of(history)}; expected a list of pairs")
        messages: list[Any] = []
        for number, pair in enumerate([*(history or ()), [question, text_of(record, answer_key)]]):
            if type(pair) is not list or len(pair) != 2:
                raise ConversationError(f"history[{number}]: expected a pair of question and answer")
            messages += _in_turn(pair)
        return messages, 0

    return Form((question_key, answer_key), read, (*inputs, "history"))


def _from_prompt(record: dict[str, Any]) -> Read:
    """Strings are a user's and an assistant's message. In lists, assistant messages of the prompt are not trained."""
    prompt, completion = record.get("prompt"), record.get("completion")
    if type(prompt) is str and type(completion) is str:
        return _in_turn([prompt, completion]), 0
    if type(prompt) is not list or type(completion) is not list:
        raise ConversationError("prompt and completion are not both strings or both lists of messages")
    return [*prompt, *completion], len(prompt)


def _from_data(record: dict[str, Any]) -> Read:
    turns = _messages_in(record.get("data"), "data")
    return _in_turn(turns) if all(type(turn) is str for turn in turns) else turns, 0


def _in_turn(texts: list[Any]) -> list[Any]:
    """What a user and an assistant say, who take turns."""
    return [{"role": ("user", "assistant")[number % 2], "content": text} for number, text in enumerate(texts)]


FORMS = {
    "messages": _listed("messages"),
    "conversations": _listed("conversations"),
    "sharegpt": _listed("conversations"),
    "conversation": _listed("conversation"),
    "prompt-completion": Form(("prompt", "completion"), _from_prompt),
    "alpaca": _asked("instruction", "output", "input"),
    "question-answer": _asked("question", "answer", "input"),
    "question-response": _asked("question", "response", "input"),
    "query-response": _asked("query", "response", "input"),
    "prompt-response": _asked("prompt", "response", "input"),
    "instruction-response": _asked("instruction", "response", "input", "context"),
    "data": Form(("data",), _from_data),
}


def system_prompts(record: dict[str, Any]) -> dict[str, str]:
    """Text -> key of system prompts beside the messages, empty ones aside. Raises ConversationError."""
    return {text: key for key in SYSTEM_KEYS if (text := text_of(record, key, ""))}


def listed_switches(record: dict[str, Any], messages: int) -> dict[str, list[Any]]:
    """Switches of the messages in lists beside them, one entry a message."""
    if _SWITCHES.isdisjoint(record):
        return {}
    listed = {key: record[key] for key in SWITCHES if type(record.get(key)) is list}
    for key, values in listed.items():
        if len(values) != messages:
            raise ConversationError(f"{key} has {len(values):,} entries for {messages:,} messages")
    return listed


def read_tools(value: Any, key: str) -> list[dict[str, Any]] | None:
    """A list of tools, one of them, their JSON, or a list of such; None if there are none. Raises ConversationError."""
    if type(value) is str:
        value = decode_json(value, key) if value.strip() else None
    if type(value) is dict and not {"name", "function"}.isdisjoint(value):
        value = [value]
    if value in (None, [], {}):
        return None
    if type(value) is not list:
        raise ConversationError(f"{key} is {kind_of(value)}; expected a list of tools, a tool, or their JSON")
    tools = [decode_json(tool, f"{key}[{number}]") if type(tool) is str else tool for number, tool in enumerate(value)]
    for number, tool in enumerate(tools):
        if type(tool) is not dict:
            raise ConversationError(f"{key}[{number}] is {kind_of(tool)}; expected an object")
    return tools


def wrapped(functions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Functions, which is how tools were written before there were `tools`, as such; those that are tools stay as they are."""
    return [each if "function" in each else {"type": "function", "function": each} for each in functions]


def template_kwargs(record: dict[str, Any]) -> dict[str, Any]:
    """Template variables that a record gives, its documents among them. Raises ConversationError."""
    given = record.get("chat_template_kwargs")
    if given is not None and type(given) is not dict:
        raise ConversationError(f"chat_template_kwargs is {kind_of(given)}; expected an object")
    kwargs = dict(given or {})
    if not _TEMPLATE_NAMES.isdisjoint(kwargs):
        raise ConversationError(
            f"chat_template_kwargs may not set {', '.join(sorted(_TEMPLATE_NAMES & kwargs.keys()))}"
        )
    documents = record.get("documents")
    if documents is not None:
        if type(documents) is not list or any(type(document) is not dict for document in documents):
            raise ConversationError("documents is not a list of objects")
        kwargs["documents"] = documents
    return kwargs
