"""One message of a record -> the message that a chat template sees, and its loss weight.

Who speaks is said by `role`, else by `from`, in any of the known spellings; what is said by `content`, else by `value`.
The message keeps its own keys in their order, and no key of any other message; content parts and arguments of calls stay
as the record has them. Changed are: keys with a null value (dropped, as Transformers does), content with parts that no
template knows (joined), JSON-string tool calls (decoded), a legacy `function_call` and a turn that is the JSON of calls
(tool calls of the assistant), older names for reasoning (aliased, as Transformers does), and switches (taken out).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sftprep.errors import ConversationError
from sftprep.exact_json import decode_json

ROLES = ("system", "developer", "user", "assistant", "tool")
CALLING = "tool_call"  # the role of a turn of the assistant whose text is the JSON of calls
SPELLINGS = {  # of roles, in any case
    "user": ("human",),
    "assistant": ("gpt", "model", "bot", "chatgpt", "bing", "ai"),
    "tool": ("tool_response", "function_response", "function", "observation", "ipython"),
    CALLING: ("function_call",),
}
_KNOWN_ROLES = {name: name for name in ROLES} | {
    name: role for role, names in SPELLINGS.items() for name in (role, *names)
}
MASKED = "masked"  # a switch that says what the others say the other way round
SWITCHES = (
    *("train", "weight", "loss", "loss_weight", "loss_mask", "loss_scale", "step_loss_mask", "trainable", "training"),
    MASKED,
)
_SWITCHES = frozenset(SWITCHES)
_REASONING_KEYS = ("reasoning_content", "thinking", "reasoning")
KNOWN_KEYS = frozenset(  # of a message that was read
    {"role", "content", "name", "tool_calls", "tool_call_id", *_REASONING_KEYS}
)
_OPENAI_KEYS = {"from": "role", "value": "content"}
_PLAIN_KEYS = {
    "auto": ("messages", "conversations"),
    "messages": ("messages",),
    **dict.fromkeys(("conversations", "sharegpt"), ("conversations",)),
}
_WORD = re.compile(r"[A-Za-z0-9_.-]{1,24}")
_LARGEST_WEIGHT = 3.4028234e38  # float32
_KINDS = {bool: "a boolean", int: "a number", float: "a number", str: "a string", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True)
class Reading:
    """How records are read."""

    record_format: str = "auto"  # of `forms.FORMS`; auto: what the record's keys say
    messages_key: str | None = None  # where the messages are, if that is told
    role_map: Mapping[str, str] = field(
        default_factory=dict
    )  # names of roles that win over the known ones -> ROLES, CALLING
    keep_calls_apart: bool = False  # turns of calls stay turns of their own
    by: str | None = None  # a key of the record whose value is its group
    roles: Mapping[str, str] = field(
        init=False, repr=False, compare=False
    )  # all names, in lower case -> ROLES, CALLING
    # Where the messages of a record are that has nothing but roles and texts, which are known as they stand.
    plain_keys: tuple[str, ...] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = _KNOWN_ROLES | {name.lower(): role for name, role in self.role_map.items()}
        object.__setattr__(self, "roles", names)
        keys = _PLAIN_KEYS.get(self.record_format, ()) if self.messages_key is None else (self.messages_key,)
        object.__setattr__(self, "plain_keys", keys if all(names[role] == role for role in ROLES) else ())

    @property
    def list_key(self) -> str:
        """What a record that is a list of messages is read as, if it had that key."""
        return self.messages_key or _PLAIN_KEYS.get(self.record_format, _PLAIN_KEYS["auto"])[0]


READING = Reading()


def read_message(raw: Any, reading: Reading = READING) -> tuple[dict[str, Any], float | None]:
    """Check a message and bring it into the form that templates see.

    Returns the message and its loss weight, None if it gives none. Raises ConversationError.
    """
    if type(raw) is not dict:
        raise ConversationError(f"{kind_of(raw)}; expected an object with role and content")
    message = {key: value for key, value in raw.items() if value is not None}
    role = role_of(message, reading)
    if "role" not in message or "content" not in message:
        message = _in_openai_keys(message)
    message["role"] = "assistant" if role == CALLING else role
    weight = None
    if not _SWITCHES.isdisjoint(message):
        weight = one_weight(switches_of(message))
        message = {key: value for key, value in message.items() if key not in _SWITCHES}
    if role == CALLING:
        _read_calling(message)
    elif type(message.get("content")) is list:
        _read_parts(message)
    if "function_call" in message:
        _read_function_call(message)
    if "tool_calls" in message:
        _read_tool_calls(message)
    content = message.get("content")
    if content is None and not (role == "assistant" and message.get("tool_calls")):
        raise ConversationError("content is missing; only an assistant message with tool_calls may do without")
    if content is not None and type(content) not in (str, list):
        raise ConversationError(f"content is {kind_of(content)}; expected a string or a list of parts")
    return _alias_reasoning(message), weight


def spelled_role(message: dict[str, Any]) -> Any:
    """Who speaks, as the record says it."""
    speaker = message.get("role")
    return message.get("from") if speaker is None else speaker


def role_of(message: dict[str, Any], reading: Reading) -> str:
    """Who speaks: one of ROLES, or CALLING. Raises ConversationError for whom nobody knows."""
    speaker = spelled_role(message)
    role = reading.roles.get(speaker) or reading.roles.get(speaker.lower()) if type(speaker) is str else None
    if role is None:
        what = shown("from" if message.get("role") is None and speaker is not None else "role", speaker)
        raise ConversationError(f"{what}; expected one of {', '.join(ROLES)}, or a name that --role-map says")
    return role


def switches_of(message: Mapping[str, Any]) -> dict[str, float]:
    """The loss weight that each switch of a message gives, by its name. Raises ConversationError where it is none."""
    if _SWITCHES.isdisjoint(message):
        return {}
    return {key: weight_of(key, message[key]) for key in SWITCHES if message.get(key) is not None}


def weight_of(switch: str, value: Any) -> float:
    """The loss weight that a value of a switch means. Raises ConversationError where it is none."""
    if type(value) not in (bool, int, float) or not 0 <= value <= (1 if switch == MASKED else _LARGEST_WEIGHT):
        is_short = type(value) is float or (type(value) is int and abs(value) < _LARGEST_WEIGHT)
        kind = f"{value:g}" if is_short else kind_of(value)
        expected = "true or false" if switch == MASKED else "true, false, or a weight of 0 or more"
        raise ConversationError(f"{switch} is {kind}; expected {expected}")
    return 1.0 - value if switch == MASKED else float(value)


def one_weight(given: Mapping[str, float]) -> float | None:
    """What all switches say, None if there is none. Raises ConversationError where they disagree."""
    weights = set(given.values())
    if len(weights) > 1:
        raise ConversationError(f"{' and '.join(given)} disagree; expected one weight")
    return weights.pop() if weights else None


def kind_of(value: Any) -> str:
    """What a JSON value is, in words that show nothing of it."""
    return _KINDS.get(type(value), "null")


def function_calls(value: Any, what: str) -> list[dict[str, Any]]:
    """A call or a list of calls, as {name, arguments}, perhaps under `function`, or its JSON -> tool_calls as templates expect
    them."""
    if type(value) is str:
        value = decode_json(value, what)
    calls = value if type(value) is list else [value]
    if not calls:
        raise ConversationError(f"{what} holds no call")
    for call in calls:
        function = function_of(call) if type(call) is dict else call
        _check_function(function, what)
        if "arguments" not in function:
            raise ConversationError(f"{what} has no arguments")
    return [call if "function" in call else {"type": "function", "function": call} for call in calls]


def texts_of(message: dict[str, Any]) -> list[str]:
    """The texts of a message's content: one, one for each part, or none."""
    content = message.get("content")
    if type(content) is str:
        return [content]
    return [part["text"] for part in content or ()]


def function_of(call: dict[str, Any]) -> dict[str, Any]:
    """Name and arguments of a call, which may stand in it or be it."""
    function: dict[str, Any] = call.get("function", call)
    return function


def shown(what: str, value: Any) -> str:
    """A value from a closed vocabulary, for a message: itself where it is one short word, else its kind and length."""
    if value is None:
        return f"{what} is missing"
    if type(value) is not str:
        return f"{what} is {kind_of(value)}"
    return f"{what} {value!r}" if _WORD.fullmatch(value) else f"{what} is a string of {len(value)} characters"


def _in_openai_keys(message: dict[str, Any]) -> dict[str, Any]:
    """`from` is who speaks where there is no role, and `value` what is said where there is no content."""
    keys = _OPENAI_KEYS
    says = "content" not in message and type(message.get("value")) in (str, list, dict)
    if "role" in message or not says:
        keys = {"value": "content"} if says else {} if "role" in message else {"from": "role"}
    return {keys.get(key, key): value for key, value in message.items()}


def _read_calling(message: dict[str, Any]) -> None:
    """A turn whose text is the JSON of one call or several."""
    if message.get("tool_calls"):
        raise ConversationError("tool_calls beside a turn of calls; expected one of them")
    message["tool_calls"] = function_calls(message.get("content"), "content")
    message["content"] = ""


def _read_parts(message: dict[str, Any]) -> None:
    """Content given as parts: OpenAI's ({"type": "text", "text": ...}), which templates may know, stay as they are.

    LLaMA-Factory's ({"type": "text" | "reasoning" | "tool_call", "value": ...}) become content, reasoning_content and
    tool_calls, text parts without anything between them.
    """
    text: list[str] = []
    reasoning: list[str] = []
    calls: list[dict[str, Any]] = []
    for number, part in enumerate(message["content"]):
        what = f"content[{number}]"
        if type(part) is not dict:
            raise ConversationError(f"{what} is {kind_of(part)}; expected an object with type and text")
        kind = part.get("type")
        value = part.get("text", part.get("value"))
        if kind == "tool_call" and message["role"] == "assistant":
            calls += function_calls(value, what)
        elif kind == "text" or (kind == "reasoning" and message["role"] == "assistant"):
            if type(value) is not str:
                raise ConversationError(f"{what} is {kind_of(value)}; expected a string")
            (text if kind == "text" else reasoning).append(value)
        else:
            raise ConversationError(
                f"{what}: {shown('type', kind)}; expected text, or the assistant's reasoning or tool_call"
            )
    for key, found in (("reasoning_content", reasoning), ("tool_calls", calls)):
        if found and message.get(key):
            raise ConversationError(f"{key} is given in the content's parts and beside them")
    if not text or not all(part["type"] == "text" and "text" in part for part in message["content"]):
        message["content"] = "".join(text)
    if reasoning:
        message["reasoning_content"] = "".join(reasoning)
    if calls:
        message["tool_calls"] = calls


def _read_function_call(message: dict[str, Any]) -> None:
    """A call as it was written before there were tool_calls."""
    if message.get("tool_calls"):
        raise ConversationError("function_call beside tool_calls; expected one of them")
    call = message.pop("function_call")
    _check_function(call, "function_call")
    message["tool_calls"] = [{"type": "function", "function": call}]


def _read_tool_calls(message: dict[str, Any]) -> None:
    """Decode tool_calls given as a JSON string, and check their form. Arguments stay an object or a JSON string."""
    calls = message["tool_calls"]
    if type(calls) is str:
        calls = decode_json(calls, "tool_calls") if calls else []
    if not calls:
        del message["tool_calls"]
        return
    if type(calls) is not list:
        raise ConversationError(f"tool_calls is {kind_of(calls)}; expected a list")
    for number, call in enumerate(calls):
        what = f"tool_calls[{number}]"
        _check_function(function_of(call) if type(call) is dict else call, what)
    message["tool_calls"] = calls


def _check_function(function: Any, what: str) -> None:
    if type(function) is not dict or type(function.get("name")) is not str:
        raise ConversationError(f"{what} has no function name; expected an object with name and arguments")
    arguments = function.get("arguments", {})
    if type(arguments) is str:
        if not arguments.strip():
            raise ConversationError(f"{what}: arguments is an empty string; expected an object or its JSON")
        arguments = decode_json(arguments, f"{what}: arguments")
    if type(arguments) is not dict:
        raise ConversationError(f"{what}: arguments is {kind_of(arguments)}; expected an object or its JSON")


def _alias_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """Give reasoning the names that templates read, as Transformers' `apply_chat_template` does."""
    for key in _REASONING_KEYS:
        if key in message:
            reasoning = message[key]
            if type(reasoning) is not str:
                raise ConversationError(f"{key} is {kind_of(reasoning)}; expected a string")
            return {"thinking": reasoning, **message, "reasoning_content": reasoning}
    return message
