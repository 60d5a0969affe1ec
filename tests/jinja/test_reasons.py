"""What a record or a template's own exceptions say never holds text of a message, and is of use nevertheless."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.errors import ConversationError
from sftprep.jinja.reasons import reason_of
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.records.messages import Reading
from sftprep.template.chat_template import open_template

# One of these always has a blank beside it, so that it is no one word.
_PIECES = [
    "'",
    '"',
    "\n",
    "{",
    "}",
    "{0}",
    "{x!r}",
    "%",
    "%s",
    "%(x)d",
    "\\",
    "' is undefined",
    '") to str',
    "é",
    "\x00",
]
secrets = st.lists(st.sampled_from(_PIECES), max_size=6).map(
    lambda pieces: "SECRET ".join(["", *pieces, ""]) + "SECRET x"
)
DEFINED = "{% macro f(a) %}{{ a }}{% endmacro %}{% set m = messages[0] %}{% set known = {'a': 1} %}"

FAILING = {
    # names that are looked up
    "{{ m.missing.x }}": "'dict object' has no attribute 'missing'",
    "{{ known[m.content].x }}": "'dict object' has no attribute ...",
    "{{ known[m.content][m.content] }}": "'dict object' has no attribute ...",
    "{{ m[m.content ~ 'z'].x }}": "'dict object' has no attribute ...",
    "{{ m.content[m.content].x }}": "'str object' has no attribute ...",
    "{{ messages[99].x }}": "list object has no element 99",
    "{{ nothing.x }}": "'nothing' is undefined",
    "{{ nothing() }}": "'nothing' is undefined",
    "{{ (m.content | attr(m.content)).x }}": "'str object' has no attribute ...",
    "{{ m.content.missing() }}": "'str object' has no attribute 'missing'",
    "{{ m.content.__class__.x }}": "access to attribute '__class__' of 'str' object is unsafe.",
    "{{ (messages | map(attribute=m.content ~ 'z') | first).x }}": "'dict object' has no attribute ...",
    "{{ messages | map(m.content) | list }}": "No filter named ....",
    "{{ messages | select(m.content) | list }}": "No test named ....",
    "{{ [] | first + 1 }}": "No first item, sequence was empty.",
    # calls
    "{{ m.content() }}": "'str' object is not callable",
    "{{ f(**{m.content: 1}) }}": "macro 'f' takes no keyword argument ...",
    "{{ f(b=m.content) }}": "macro 'f' takes no keyword argument 'b'",
    "{{ f(1, 2, m.content) }}": "macro 'f' takes not more than 1 argument(s)",
    "{{ f(**m.content) }}": "jinja2.sandbox.SandboxedEnvironment.call() argument after ** must be a mapping, not str",
    "{{ m.content.split(**{m.content: 1}) }}": None,  # in one version of Python otherwise than in another
    "{{ m.content.split(1) }}": "must be str or None, not int",
    "{{ m.content.startswith(1) }}": "startswith first arg must be str or a tuple of str, not int",
    "{{ m.content.replace('a') }}": None,
    "{{ range(m.content) }}": "'str' object cannot be interpreted as an integer",
    "{{ dict(m.content) }}": "ValueError",
    "{{ m.content.index('not in it') }}": "ValueError",
    "{{ namespace(**{'_' ~ m.content: 1}) }}": "a chat template may not store names that start with an underscore",
    # arithmetic and order
    "{{ m.content + 1 }}": 'can only concatenate str (not "int") to str',
    "{{ 1 + m.content }}": "unsupported operand type(s) for +: 'int' and 'str'",
    "{{ m.content - m.content }}": "unsupported operand type(s) for -: 'str' and 'str'",
    "{{ -m.content }}": "bad operand type for unary -: 'str'",
    "{{ m.content < 1 }}": "'<' not supported between instances of 'str' and 'int'",
    "{{ m.content in 1 }}": None,
    "{{ 1 in m.content }}": "'in <string>' requires string as left operand, not int",
    "{{ 1 // (m.content | int) }}": "ZeroDivisionError",
    "{{ {m: m.content} }}": None,
    "{% for c in 1 %}{{ m.content }}{% endfor %}": "'int' object is not iterable",
    # formats and filters
    "{{ '%d' % m.content }}": "%d format: a real number is required, not str",
    "{{ '%s' % (m.content, m.content) }}": "not all arguments converted during string formatting",
    "{{ '%s %s' % m.content }}": "not enough arguments for format string",
    "{{ ('%(' ~ m.content ~ ')s') % known }}": None,
    "{{ ('{' ~ m.content ~ '}').format(1) }}": None,
    "{{ '{:SECRET d}'.format(m.content) }}": "ValueError",
    "{{ 1 | tojson(indent=m.content) }}{{ m.content | length + m }}": None,
    "{{ f | tojson }}{{ m.content }}": "Object of type Macro is not JSON serializable",
    "{{ 1 | join(m.content) }}": "'int' object is not iterable",
    "{{ [1, m.content] | sort }}": "'<' not supported between instances of 'str' and 'int'",
    "{{ m.content | items | list }}": "Can only get item pairs from a mapping.",
    "{{ m.content | round }}": None,
    "{{ [m.content] | sum }}": "unsupported operand type(s) for +: 'int' and 'str'",
    "{{ m.content | indent(m.content) | indent(none) }}": None,
    "{{ strftime_now(m.content ~ '%') }}{{ 1 // 0 }}": None,
    # what it says itself
    "{{ raise_exception('Roles must alternate') }}": "Roles must alternate",
    "{{ raise_exception('No such role: ' ~ m.content) }}": "No such role: ...",
    "{{ raise_exception('No such role: ' + m.content + ' here') }}": "No such role: ...",
    "{{ raise_exception('Role %s, here' % m.content) }}": "Role ...",
    "{{ raise_exception('Role {}, here'.format(m.content)) }}": "Role ...",
    "{{ raise_exception(m.content) }}": "raise_exception",
    "{{ raise_exception(m) }}": "raise_exception",
    "{{ raise_exception(messages) }}": "raise_exception",
    "{{ raise_exception(m.content ~ ' is no role') }}": "raise_exception",
    "{{ raise_exception(tools | tojson) }}": "raise_exception",
    "{% for key, value in m.items() if key != 'role' %}{{ raise_exception(key if loop.last else value) }}{% endfor %}": None,
    "{% for key in m.tool_calls[0].function.arguments %}{{ known[key].x }}{% endfor %}": "'dict object' has no attribute ...",
    "{% for key in tools[0].function.parameters.properties %}{{ f(**{key: 1}) }}{% endfor %}": "macro 'f' takes no keyword argument ...",
}
COMPILED = {
    source: open_template(DEFINED + source, {}, control_tokens=[], roles=(), now=datetime(2025, 1, 1))
    for source in FAILING
}


def told(secret: str) -> Conversation:
    """A conversation in which every string is the secret, and every key that a record may choose."""
    arguments = {secret: secret, "a": {secret: [secret]}}
    calls = [{"type": secret, "id": secret, "function": {"name": secret, "arguments": arguments}}]
    parameters = {"type": secret, "properties": {secret: {"type": secret, "enum": [secret]}}, "required": [secret]}
    messages = [
        {"role": "user", "content": secret, "tool_calls": calls, "name": secret, secret: secret},
        {"role": "assistant", "content": secret, "reasoning_content": secret},
    ]
    tools = [{"type": secret, "function": {"name": secret, "description": secret, "parameters": parameters}}]
    return Conversation(messages, tools, {secret: secret, "documents": [{secret: secret}]}, None)


@pytest.mark.parametrize("source", FAILING)
@given(secret=secrets)
def test_a_template_that_fails_tells_nothing_of_a_message(source: str, secret: str) -> None:
    with pytest.raises(ConversationError) as caught:
        COMPILED[source].render(told(secret))

    assert "SECRET" not in str(caught.value)
    if FAILING[source] is not None:
        assert str(caught.value) == f"the chat template refuses it: line 1: {FAILING[source]}"


def test_what_python_versions_say_of_a_wrong_keyword() -> None:
    for said in ("split() got an unexpected keyword argument '{}'", "'{}' is an invalid keyword argument for split()"):
        assert reason_of(TypeError(said.format("sep")), "x.split(sep=1)", []) == said.format("sep")
        assert reason_of(TypeError(said.format("it's SECRET")), "x", []) == said.format("").replace("''", "...")
    assert reason_of(TypeError("SECRET's text"), "x", []) == "TypeError"
    assert reason_of(KeyError("x"), "x", ["x"]) == "KeyError"


# -- records --

CALL = {"type": "function", "function": {"name": "f", "arguments": {"a": "b"}}}
RECORDS = [
    {
        "messages": [
            {"role": "system", "content": "a", "train": "no"},
            {"role": "user", "content": [{"type": "text", "text": "a"}], "weight": 1},
            {"role": "assistant", "content": "a", "tool_calls": [CALL], "reasoning_content": "a"},
            {"role": "tool", "content": "a", "name": "f", "tool_call_id": "a"},
        ],
        "tools": '[{"type": "function"}]',
        "chat_template_kwargs": {"a": "b"},
        "documents": [{"a": "b"}],
    },
    {"messages": [{"role": "assistant", "content": "", "tool_calls": '[{"name": "f", "arguments": "{}"}]'}]},
    {"conversations": [{"role": "system", "content": "a", "functions": "[]"}, {"role": "user", "content": "a"}]},
    {
        "conversations": [{"from": "human", "value": "a"}, {"from": "function_call", "value": '{"name": "f"}'}],
        "system": "a",
    },
    {"instruction": "a", "input": "b", "output": "c", "history": [["a", "b"]], "system": "s"},
    {"prompt": [{"role": "user", "content": "a"}], "completion": "a"},
    {"prompt": "a", "completion": "b", "instruction": "a", "output": "b"},
    {"query": "a", "response": "b", "system_prompt": "a", "tools": ['{"name": "f"}'], "loss_mask": [0, 1, 1]},
    {"data": {"role": ["human", "gpt"], "value": ["a", "b"], "masked": [True, None]}, "functions": {"name": "f"}},
    [{"from": "human", "value": "a"}, {"role": "tool_call", "content": [{"name": "f", "arguments": {}}], "train": 1}],
]


def planted(value: Any, secret: Any) -> Iterator[Any]:
    """The value with the secret in place of each of its strings, of each of its keys, and of all that is in it."""
    if not isinstance(value, (dict, list)):
        yield secret
    elif isinstance(value, list):
        for number, item in enumerate(value):
            yield from ([*value[:number], other, *value[number + 1 :]] for other in planted(item, secret))
    else:
        for key, item in value.items():
            yield from ({**value, key: other} for other in planted(item, secret))
            yield {secret if name == key and isinstance(secret, str) else name: each for name, each in value.items()}
            yield {**value, str(secret): item}


@given(secret=secrets)
def test_a_record_that_is_refused_tells_nothing_of_itself(secret: str) -> None:
    said = []
    for record in RECORDS:
        for place, broken in enumerate(planted(copy.deepcopy(record), secret)):
            for data in (orjson.dumps(broken), orjson.dumps(broken)[: -1 - place % 9]):
                for name in ("auto", "messages", "conversations", "alpaca", "prompt-completion"):
                    try:
                        parse_conversation(data, Reading(name))
                    except ConversationError as error:
                        said.append(str(error))
    assert len(said) > 100
    assert "SECRET" not in "".join(said)


def test_a_value_of_a_closed_set_is_shown_where_it_is_one_short_word() -> None:
    for role, said in (
        ("robot", "role 'robot'; expected"),
        ("b" * 25, "role is a string of 25 characters"),
        ("my secret", "role is a string of 9 characters"),
        ("密码是多少", "role is a string of 5 characters"),
    ):
        with pytest.raises(ConversationError) as caught:
            parse_conversation(orjson.dumps({"messages": [{"role": role, "content": "x"}]}))
        assert said in str(caught.value)
