"""Hypothesis strategies for all rooms' tests, in one place."""

from __future__ import annotations

import json
import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

from hypothesis import strategies as st

from sftprep.masks.scan import ScanRule
from sftprep.records.conversation import Conversation

# -- patterns in ids (test_scan) --


def scan_rules() -> st.SearchStrategy[ScanRule]:
    """Short patterns over a tiny alphabet, so that they overlap themselves and each other; offsets of both signs."""
    pattern = st.lists(st.integers(0, 3), min_size=1, max_size=3).map(tuple)
    offset = st.integers(-6, 6)
    return st.builds(ScanRule, pattern, pattern, offset, offset)


@st.composite
def rows_with_patterns(draw: st.DrawFn, rule: ScanRule) -> list[list[int]]:
    """Rows of ids (some empty) in which the rule's patterns stand whole, cut, nested, next to each other, or not at all."""
    pieces = st.sampled_from([rule.header, rule.end, rule.header[:-1], rule.end[1:], (0,), (1,), (2, 3)])
    row = st.lists(pieces, max_size=12).map(lambda parts: [token for part in parts for token in part])
    return draw(st.lists(row, max_size=6))


def json_values() -> st.SearchStrategy[Any]:
    """Any JSON value, with keys and texts that a manifest has."""
    words = st.sampled_from(["format", "sftprep", "version", "checksum", "files", "shards", "width", "uint16"])
    scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | words | st.text(max_size=20)
    return st.recursive(
        scalars,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(words | st.text(max_size=9), inner),
        max_leaves=20,
    )


# -- tokens with a mask (test_padded) --


@st.composite
def masked_conversations(draw: st.DrawFn) -> tuple[list[list[int]], list[list[float]]]:
    """Ids of a few conversations, some empty or of one id, and a weight for every id."""
    pair = st.tuples(st.integers(0, 9), st.sampled_from([0.0, 0.0, 1.0, 0.5]))
    drawn = draw(st.lists(st.lists(pair, max_size=14), max_size=6))
    return [[token for token, _ in row] for row in drawn], [[weight for _, weight in row] for row in drawn]


# -- tokens that cover characters (test_spans, test_generation) --


@st.composite
def covered_texts(draw: st.DrawFn) -> list[list[tuple[int, int]]]:
    """Conversations as the (start, stop) characters of their tokens, in text order.

    Tokens hold several characters, or a byte of one, or a character and the first byte of the next, or none; some
    characters are in no token.
    """
    kinds = st.sampled_from(["one", "three", "bytes", "reaches", "empty", "skip"])
    conversations = []
    for steps in draw(st.lists(st.lists(kinds, max_size=8), max_size=4)):
        tokens: list[tuple[int, int]] = []
        at = 0
        for step in steps:
            pieces = {
                "one": [(0, 1)],
                "three": [(0, 3)],
                "bytes": [(0, 1), (0, 1)],
                "reaches": [(0, 2), (1, 2)],
                "empty": [(0, 0)],
                "skip": [],
            }[step]
            tokens += [(at + start, at + stop) for start, stop in pieces]
            at += max((stop for _, stop in pieces), default=1)
        conversations.append(tokens)
    return conversations


def separate_spans(weights: st.SearchStrategy[float]) -> st.SearchStrategy[list[tuple[int, int, float]]]:
    """(start, stop, weight) in order, next to each other at most, some empty."""
    cuts = st.lists(st.integers(0, 20), max_size=8).map(sorted)
    pairs = cuts.map(lambda at: list(zip(at[::2], at[1::2], strict=False)))
    return pairs.flatmap(
        lambda spans: st.tuples(*(st.tuples(st.just(a), st.just(b), weights) for a, b in spans)).map(list)
    )


# -- inputs (test_json_text, test_splits) --


def texts_of_lines() -> st.SearchStrategy[bytes]:
    """Files of short and long lines: blank ones, carriage returns, byte order marks in odd places, no last newline."""
    pieces = [b"\n", b"\n", b"\n\n", b"\r\n", b" ", b"\t", b'{"a": 1}']
    pieces += [b"x", b"x" * 35, b" " * 45, b"\xef\xbb\xbf", b"\xff\0"]
    return st.lists(st.sampled_from(pieces), max_size=25).map(b"".join)


def cut_points() -> st.SearchStrategy[list[int]]:
    """Where a text is cut into chunks, bytes from its start."""
    return st.lists(st.integers(0, 300), max_size=12)


def json_documents() -> st.SearchStrategy[Any]:
    """JSON values whose strings hold what JSON itself is made of."""
    text = st.text('[]{},:"\\ \n\ta\u00e9\U0001f600', max_size=8)
    scalars = st.none() | st.booleans() | st.integers() | text
    return st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(text, inner, max_size=4))


# -- turns between control tokens (test_by_controls) --


@dataclass(frozen=True)
class Turn:
    """`<s>` or `<u>`, header, content, `<e>` (or nothing: the next turn's first token ends it), text that follows."""

    opens: str
    header: str
    content: str
    closes: bool
    follows: str
    weight: float


def chats_of_turns() -> st.SearchStrategy[list[list[Turn]]]:
    """Conversations whose headers may merge with their contents, and whose contents may spell a control token."""
    content = st.text("hxy\n", max_size=4) | st.sampled_from(["", "x<e>", "<s>h\ny"])
    turn = st.builds(
        Turn,
        opens=st.sampled_from(["<s>", "<u>"]),
        header=st.sampled_from(["", "h", "h\n", "\n", "hy\n"]),
        content=content,
        closes=st.booleans(),
        follows=st.sampled_from(["", "\n"]),
        weight=st.sampled_from([0.0, 1.0, 0.5]),
    )
    return st.lists(st.lists(turn, max_size=5), max_size=5)


# -- chat records of every format (test_conversation) --

_CALL = st.fixed_dictionaries({"name": st.sampled_from(["add", "get"]), "arguments": st.dictionaries(st.text(max_size=3), json_documents(), max_size=2)})  # fmt: skip


def chat_messages() -> st.SearchStrategy[dict[str, Any]]:
    """A message in role/content form, with any of the forms that content, tool calls and weights come in."""
    text = st.text(max_size=12)
    parts = st.lists(st.fixed_dictionaries({"type": st.just("text"), "text": text}), max_size=3)
    plain = st.fixed_dictionaries(
        {"role": st.sampled_from(["system", "user", "tool", "developer", "assistant"]), "content": text | parts},
        optional={"name": text | st.none(), "train": st.booleans(), "extra": json_documents()},
    )
    calls = st.lists(_CALL | _CALL.map(lambda call: {"type": "function", "function": call}), min_size=1, max_size=2)
    calling = st.fixed_dictionaries(
        {"role": st.just("assistant"), "tool_calls": calls | calls.map(json.dumps)},
        optional={"content": text | st.none(), "reasoning_content": text, "weight": st.floats(0, 2)},
    )
    value_part = st.one_of(
        st.fixed_dictionaries({"type": st.sampled_from(["text", "reasoning"]), "value": text}),
        st.fixed_dictionaries({"type": st.just("tool_call"), "value": _CALL.map(json.dumps)}),
    )
    in_parts = st.fixed_dictionaries({"role": st.just("assistant"), "content": st.lists(value_part, max_size=3)})
    return plain | calling | in_parts


def chat_records() -> st.SearchStrategy[dict[str, Any]]:
    """Valid records of every format."""
    text = st.text(min_size=1, max_size=12)
    messages = st.lists(chat_messages(), min_size=1, max_size=4)
    tools = st.lists(st.dictionaries(text, json_documents(), max_size=2), max_size=2)
    extras: dict[str, st.SearchStrategy[Any]] = {"tools": tools | tools.map(json.dumps) | st.none(), "source": text}
    kwargs = st.fixed_dictionaries({}, optional={"enable_thinking": st.booleans()})
    turn = st.fixed_dictionaries(
        {"from": st.sampled_from(["human", "gpt", "observation"]), "value": text}, optional={"weight": st.floats(0, 1)}
    )
    calling = st.fixed_dictionaries({"from": st.just("function_call"), "value": _CALL.map(json.dumps)})
    pair = st.lists(text, min_size=2, max_size=2)
    return st.one_of(
        st.fixed_dictionaries({"messages": messages}, optional={**extras, "chat_template_kwargs": kwargs}),
        st.fixed_dictionaries({"conversations": messages}, optional=extras),
        st.fixed_dictionaries(
            {"conversations": st.lists(turn | calling, min_size=1, max_size=4)}, optional={**extras, "system": text}
        ),
        st.fixed_dictionaries(
            {"instruction": text, "output": text},
            optional={**extras, "input": text, "system": text, "history": st.lists(pair, max_size=2)},
        ),
        st.fixed_dictionaries({"prompt": text, "completion": text}, optional=extras),
        st.fixed_dictionaries({"prompt": messages, "completion": messages}, optional=extras),
    )


@st.composite
def damaged_records(draw: st.DrawFn) -> Any:
    """A valid record in which up to three values, anywhere, are replaced by others, and keys swapped or lost."""
    record = draw(chat_records())
    literals = f'null "" [] {{}} -1 {2**70} 0.5 true "[" "[]" "{{}}" "user" "gpt" [[]] [{{}}]'.split()
    odd = st.sampled_from(literals).map(json.loads)
    for _ in range(draw(st.integers(1, 3))):
        place: Any = record
        while True:
            keys = list(place) if type(place) is dict else list(range(len(place)))
            if not keys:
                break
            key = draw(st.sampled_from(keys))
            if type(place[key]) in (dict, list) and draw(st.booleans()):
                place = place[key]
                continue
            what = draw(st.sampled_from(["replace", "replace", "remove", "swap"]))
            if what == "replace":
                place[key] = draw(odd | json_documents() | chat_messages())
            elif what == "swap":
                other = draw(st.sampled_from(keys))
                place[key], place[other] = place[other], place[key]
            else:
                del place[key]
            break
    return record


def odd_records(keys: Collection[str], roles: Collection[str]) -> st.SearchStrategy[Any]:
    """Values of any kind under keys that mean something, with what Python writes that is no JSON."""
    names, speakers = st.sampled_from(sorted(keys)), st.sampled_from(sorted(roles))
    odd = st.sampled_from([math.nan, -math.inf, "\ud800", 10**400, 2**70, 0, 1, -0.5])
    values = st.recursive(
        odd | speakers | json_documents(),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    )
    more = st.dictionaries(names, values, max_size=2)
    message = st.builds(
        lambda role, said, more: {"from": role, "value": said, **more}, speakers, speakers | values, more
    )
    messages = st.lists(message | more, min_size=1, max_size=3)
    places = st.sampled_from(["messages", "conversations", "data"]) | names
    record = st.builds(
        lambda key, said, more: {key: said, **more}, places, messages | messages.map(json.dumps) | values, more
    )
    return record | messages | values


@st.composite
def damaged_bytes(draw: st.DrawFn) -> bytes:
    """The JSON of a valid record with a few bytes lost, doubled or replaced."""
    data = json.dumps(draw(chat_records()), ensure_ascii=draw(st.booleans())).encode("utf-8", "surrogatepass")
    pieces = st.sampled_from(
        [b"", b'"', b"\\", b"{", b"]", b",", b"null", b"1e999", b"NaN", b"9" * 30, b"\\ud800", b"\xff", b"\0"]
    )
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 6)))
        data = data[:start] + draw(pieces) + data[stop:]
    return data


# -- conversations for chat templates (test_chat_template) --


def message_texts() -> st.SearchStrategy[str]:
    """Texts of messages: any script, white space at the ends, and pieces that templates and tokenizers look for."""
    pieces = [
        "<|im_end|>",
        "<|im_",
        "end|>",
        "<think>",
        "</think>",
        "<tool_response>",
        "</s>",
        "<",
        "[INST]",
        "\n\n",
        "  ",
    ]
    words = st.text(max_size=12) | st.sampled_from([*pieces, "Hi.", "答案", "👍🏽", "a  b"])
    return st.lists(words, max_size=4).map("".join).filter(_is_text)


def _is_text(text: str) -> bool:
    """No lone surrogates, and none of the noncharacters by which loops are marked whose text is held back."""
    return not any(0xD800 <= ord(c) <= 0xDFFF or ord(c) & 0xFFFE == 0xFFFE for c in text)


@st.composite
def chats(draw: st.DrawFn, texts: st.SearchStrategy[str], *, system: bool = True) -> list[dict[str, Any]]:
    """Messages of a user and an assistant who take turns, perhaps after a system message."""
    first = [{"role": "system", "content": draw(texts)}] if system and draw(st.booleans()) else []
    turns = draw(st.lists(texts, min_size=2, max_size=7))
    return [*first, *({"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(turns))]


@st.composite
def tool_chats(draw: st.DrawFn, texts: st.SearchStrategy[str]) -> list[dict[str, Any]]:
    """Messages with reasoning, calls of functions and their results."""
    arguments = st.dictionaries(st.text("abc<|", min_size=1, max_size=3), st.none() | st.integers() | texts, max_size=2)
    messages: list[dict[str, Any]] = [{"role": "user", "content": draw(texts)}]
    for _ in range(draw(st.integers(0, 2))):
        function = {"name": draw(st.sampled_from(["weather", "add"])), "arguments": draw(arguments)}
        call = {"type": "function", "id": "abcdefghi", "function": function}
        messages.append({"role": "assistant", "content": draw(st.just("") | texts), "tool_calls": [call]})
        messages.append({"role": "tool", "name": function["name"], "tool_call_id": "abcdefghi", "content": draw(texts)})
    answer = {"role": "assistant", "content": draw(texts)}
    if draw(st.booleans()):
        answer["reasoning_content"] = draw(texts)
    return [*messages, answer]


# -- texts for tokenizers (characters/, test_engines) --


def texts_for_tokenizers() -> st.SearchStrategy[str]:
    """Text of every script, with control tokens whole, cut and nested, white space and marks at their edges."""
    tokens = ["<|im_start|>", "<|im_end|>", "<|endoftext|>", "<|eot_id|>", "<think>", "</think>", "<｜User｜>"]
    pieces = [*tokens, *(token[: len(token) // 2] for token in tokens)]
    pieces += ["|>", "'s", "'\u017f", "\u180e", "e\u0301", "\u200d"]
    spaces = [" ", "  ", "\n", "\r\n", "\t", "\u3000", "\xa0", "\ufdd0", "\U0010ffff"]
    words = st.sampled_from([*pieces, *spaces]) | st.text(max_size=8)
    return st.lists(words, max_size=12).map("".join)


# -- conversations of one shape (test_replay_template) --


@st.composite
def families(draw: st.DrawFn) -> list[Conversation]:
    """Conversations with the same roles, keys and types whose texts hold what templates look for and print."""
    pieces = ["<|im_end|>", "<|im_start|>", "<|im_", "end|>", "<|eot_id|>", "<｜User｜>", "<｜Assistant｜>"]
    pieces += ["<think>", "</think>", "<think>\nr\n</think>\n\ny", "<tool_response>", "</tool_response>", "<tool_call>"]
    pieces += ["<", "\n", "\n\n", "  ", "Hi", "答案", "👍", "é", '{"', "\\", "\u2028", "\ufdd0"]
    nasty = st.lists(st.sampled_from(pieces), max_size=5).map("".join)
    texts = st.sampled_from(["Plain words.", "Other words: 1 < 2."]) | nasty | st.text(max_size=6).filter(_is_text)
    first = draw(_skeletons())
    return [_refilled(draw, texts, first) for _ in range(draw(st.integers(3, 8)))]


@st.composite
def _skeletons(draw: st.DrawFn) -> Conversation:
    """A conversation without words."""
    few = st.sampled_from([False, False, False, True])
    messages: list[dict[str, Any]] = [{"role": "system", "content": ""}] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(1, 3))):
        messages.append({"role": "user", "content": [{"type": "text", "text": ""}] if draw(few) and draw(few) else ""})
        while draw(few):
            functions = [{"name": "", "arguments": draw(st.sampled_from(["", {"": "", "n": 3}]))}]
            functions += functions if draw(few) else []
            calls = functions if draw(few) else [{"type": "function", "function": function} for function in functions]
            messages.append({"role": "assistant", "tool_calls": calls})
            messages[-1] |= {} if draw(few) else {"content": ""}
            messages[-1] |= {"reasoning_content": ""} if draw(few) else {}
            messages += [{"role": "tool", "content": ""} for _ in functions]
        messages.append({"role": "assistant", "content": ""})
        messages[-1] |= {draw(st.sampled_from(["reasoning_content", "thinking", "name"])): ""} if draw(few) else {}
    tools = [{"type": "function", "function": {"name": "", "parameters": {"a": {"type": "x"}}}}] if draw(few) else None
    return Conversation(messages, tools, {"enable_thinking": draw(st.booleans())} if draw(few) else {}, None)


def _refilled(draw: st.DrawFn, texts: st.SearchStrategy[str], value: Any) -> Any:
    """The value with other words in it."""
    if isinstance(value, Conversation):
        messages = [
            {key: item if key == "role" else _refilled(draw, texts, item) for key, item in message.items()}
            for message in value.messages
        ]
        return replace(value, messages=messages, tools=_refilled(draw, texts, value.tools))
    if isinstance(value, str):
        return draw(texts)
    if isinstance(value, list):
        return [_refilled(draw, texts, item) for item in value]
    if isinstance(value, dict):
        return {key: item if key == "type" else _refilled(draw, texts, item) for key, item in value.items()}
    return value


# -- loops of a template over messages (test_message_marks) --

Loop = list[tuple[int | None, list[Any]]]  # its turns: the message it is at, None if at none; what is printed there


def loops() -> st.SearchStrategy[list[str | Loop]]:
    """What a template prints: texts, and loops, one in another, over messages and other things."""
    texts = st.sampled_from(["", "a", "bc", "\n"])
    turns = st.recursive(
        st.lists(texts, max_size=3),
        lambda inside: st.lists(texts | st.lists(st.tuples(st.none() | st.integers(0, 11), inside), max_size=3)),
        max_leaves=8,
    )
    return st.lists(texts | st.lists(st.tuples(st.none() | st.integers(0, 11), turns), max_size=3), max_size=4)


def chunks_of(text: bytes, points: list[int]) -> list[bytes]:
    bounds = [0, *sorted({point for point in points if 3 <= point < len(text)}), len(text)]
    return [text[start:stop] for start, stop in pairwise(bounds) if start < stop]
