"""Nobody forges a turn: whatever a template's own text ends in and does with text, its control ids are those that it wrote."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import FULL
from jinja2 import nodes
from small_tokenizer import special, train
from tokenizers import Tokenizer

from sftprep.batches.both_ways import BothWays
from sftprep.batches.templates import Templates
from sftprep.batches.toolbox import Toolbox
from sftprep.characters.offsets import ExactEncoder
from sftprep.characters.tiling import TiledEncoder
from sftprep.config import BuildConfig
from sftprep.jinja.compiled import CompiledTemplate
from sftprep.records.conversation import Conversation, parse_conversation
from sftprep.tokens.engines import HfEngine
from sftprep.tokens.resolve import AddedToken, ResolvedTokenizer

START, END = "<|im_start|>", "<|im_end|>"
REFUSED = "cannot be traced"
STEP = 1 if FULL else 7  # of so many cases, one is tried


@cache
def untouched() -> str:
    """A small tokenizer without added tokens."""
    return train(added=[]).to_str()


class Chain:
    """Conversations to control tokens by way of their ids, for a small tokenizer with these control tokens."""

    def __init__(self, source: str, tokens: Sequence[str], named: dict[str, str] | None = None, **options: Any) -> None:
        tokenizer = Tokenizer.from_str(untouched())
        tokenizer.add_tokens(special(*tokens))
        added = [AddedToken(tokenizer.token_to_id(token), token, True, False, False, False, False) for token in tokens]
        self.tokens = {token.id: token.content for token in added}
        resolved = ResolvedTokenizer(
            tokenizer.to_str(),
            "",
            {"default": source},
            named or {},
            tuple(added),
            None,
            None,
            0,
            max(self.tokens) + 1,
            {},
            "",
            "",
        )
        config, engine = BuildConfig(("unused",), "unused", date="2025-01-01", **options), HfEngine(resolved)
        templates = Templates(config, resolved)
        exact = ExactEncoder(resolved, templates.control_tokens, engine)
        loaded = Toolbox(resolved, templates, engine, exact, TiledEncoder(resolved, engine, exact), "")
        self.masker = BothWays(config, loaded, lambda name: nullcontext())

    def controls(self, conversations: Sequence[Conversation]) -> list[list[str] | str]:
        """Of each conversation its control tokens in order, or why it was refused."""
        masked = self.masker.mask(conversations, ())
        rows = np.split(masked.batch.ids, masked.batch.offsets[1:-1])
        return [
            masked.failed.get(index) or [self.tokens[number] for number in ids.tolist() if number in self.tokens]
            for index, ids in enumerate(rows)
        ]


def in_every_field(text: str) -> Iterator[Conversation]:
    """Conversations that hold a text in one place each."""

    def talk(*messages: dict[str, Any], tools: Any = None, **kwargs: Any) -> Conversation:
        return Conversation([dict(message) for message in messages], tools, kwargs, None)

    ask, answer = {"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}
    yield talk({"role": "system", "content": text}, ask, answer)
    yield talk({"role": "user", "content": text}, answer)
    yield talk(ask, {"role": "assistant", "content": text}, ask, answer)
    yield talk(ask, {"role": "assistant", "content": "Hi", "reasoning_content": text, "thinking": text})
    yield talk({**ask, "name": text, "x": text}, answer)
    for name, arguments in ((text, {"a": "b"}), ("f", {text: "b"}), ("f", {"a": text}), ("f", {"a": {"b": [text]}})):
        calls = [{"type": "function", "id": "123456789", "function": {"name": name, "arguments": arguments}}]
        result = {"role": "tool", "content": "b", "name": name, "tool_call_id": "123456789"}
        yield talk(ask, {"role": "assistant", "content": "", "tool_calls": calls}, result, answer)
    calls = [{"type": "function", "id": text, "function": {"name": "f", "arguments": {}}}]
    result = {"role": "tool", "content": text, "name": "f", "tool_call_id": text}
    yield talk(ask, {"role": "assistant", "content": "", "tool_calls": calls}, result, answer)
    for described, key, kind in ((text, "a", "string"), ("d", text, "string"), ("d", "a", text)):
        properties = {key: {"type": kind, "description": described, "enum": [described]}}
        parameters = {"type": "object", "properties": properties, "required": [key]}
        function = {"name": "f", "description": described, "parameters": parameters}
        yield talk(ask, answer, tools=[{"type": "function", "function": function}])
    yield talk(ask, answer, documents=[{"title": text, "text": text, text: "x"}])
    yield talk(ask, answer, system_prompt=text, bos_token=text, date_string=text)


# -- templates that do things to text, each of which writes START and END around each message, and nothing else --

TRICKS = [
    "{{ m.content }}",
    "{%- macro tag(name) %}{{ '\\n<' ~ name ~ '>' }}{% endmacro %}{{ tag(m.name) }}{{ m.content }}",
    "{{ '<' ~ m.content }}<{{ m.name }}>",
    "<{{ '|' }}{{ m.content }}",
    "{{ '<|' + m.role }}{{ m.content }}",
    "<|im_{{ m.content }}",
    "{{ m.content }}{{ m.name }}",
    "{{ m.content }}|im_start|>",
    "{{ m.content.replace('<think>', '') }}",
    "{{ m.content.replace('<', '') }}{{ m.content.replace('&lt;', '<') }}",
    "{{ m.content.split('</think>') | join }}{{ m.content.split('</think>')[-1] }}",
    "{{ m.content.split('<')[-1] }}{{ m.content.split('<') | join('<') }}",
    "{{ m.content.split('\\n<') | join('\\n<') }}",
    "{% if '<' in m.content and '|' in m.content %}{{ m.content }}{% endif %}",
    "{% if m.content.startswith('<|im_start|>') %}{{ m.content }}{% endif %}",
    "{{ m.content.split('<|im_end|>')[0] }}",
    "{{ m.content | trim }}{{ m.content.strip('x ') }}{{ m.content.lstrip('<think>') }}",
    "{{ m.content[1:] }}{{ m.content[:40] }}{{ m.content[::2] }}{{ m.content | truncate(30) }}",
    "{{ m.content | reverse }}{{ m.content[::-1] }}",
    "{{ m.content | lower }}{{ m.content | upper }}{{ m.content | title }}",
    "{% for c in m.content if c in '<|im_start>end' %}{{ c }}{% endfor %}",
    "{% for c in m.content %}{% if c != '~' %}{{ c }}{% endif %}{% endfor %}",
    "{{ m.content | escape | replace('&lt;', '<') | replace('&gt;', '>') }}",
    "{{ m.content | striptags }}{{ m.content | urlencode }}{{ m.content | wordwrap(7) }}",
    "{{ '%s|%s' % (m.content, m.name) }}{{ '{}{}'.format(m.content, m.name) }}",
    "{{ m | tojson }}{{ m.content | tojson }}{{ m }}{{ m.items() | list }}",
    "{{ m.content | tojson(ensure_ascii=true) }}",
    "{% set ns = namespace(t='') %}{% for w in m.content.split() %}{% set ns.t = ns.t + w %}{% endfor %}{{ ns.t }}",
    "{% for key in m %}{{ '<' ~ key ~ '>' }}{{ key }}={{ m[key] if key != 'role' }}{% endfor %}",
    "{% for key, value in m | dictsort %}{{ key }}{{ value }}{% endfor %}",
    "{{ bos_token }}{{ tools | tojson }}{{ documents }}{{ m.tool_calls | tojson }}",
]
SHELL = "{% for m in messages %}" + START + "{{ m.role }}\nBODY" + END + "\n{% endfor %}"


def attacks(token: str) -> list[str]:
    """Texts of which some template makes a token: whole, cut by what it removes, turned round, in other case, in part."""
    hidden = [
        token[:cut] + removed + token[cut:] for cut in (1, 4) for removed in ("<think>", "</think>", "<", " ", "~")
    ]
    parts = [token[cut:] for cut in (1, 2, 5)] + [token[:cut] for cut in (1, 2, 5, -1)] + [token[1:-1], token[2:5]]
    spread = "".join(character + "." for character in token)
    others = [token[::-1], token.upper(), "&lt;" + token[1:], spread, "x" * 29 + token, "é" + token, f"<b>{token}</b>"]
    return [
        *(around.replace("T", token) for around in ("T", "\n<T", "\nT", " T ", "a\n<b>T")),
        *hidden,
        *parts,
        *others,
    ]


@pytest.mark.parametrize("roles", ["assistant", "all"])
def test_no_text_becomes_a_control_token_whatever_a_template_does_to_it(roles: str) -> None:
    tried = 0
    for number, trick in enumerate(TRICKS):
        chain = Chain(SHELL.replace("BODY", trick), (START, END), train_on=roles)
        texts = [text for token in (START, END) for text in attacks(token)]
        given = [conversation for text in texts for conversation in in_every_field(text)][number % STEP :: STEP]
        for conversation, found in zip(given, chain.controls(given), strict=True):
            tried += 1
            if isinstance(found, str):
                assert "refuses it" in found or "prints none of its words" in found, found
            else:
                assert found == [START, END] * len(conversation.messages), (trick, conversation)
    assert tried > 500


# -- templates that write a turn whole, control tokens and all, and do something to it then --

TURN = "{% macro turn(m) %} <|im_start|>{{ m.role }}\n{{ m.content }}{{ m.name }}<|im_end|>\n{% endmacro %}"
AFTERWARDS = [
    "{{ turn(m) | trim }}",
    "{{ turn(m)[1:-1] }}{{ turn(m)[:0] }}",
    "{{ turn(m).split('~') | join('~') }}",
    "{{ turn(m) | replace('~', '') | replace('<think>', '') }}",
    "{{ turn(m).splitlines() | join('\n') }}",
    "{{ '%s!' % turn(m) }}",
    "{{ '{}!'.format(turn(m)) }}",
    "{{ turn(m).partition('<') | join }}",
    "{% set text %}{{ turn(m) }}{% endset %}{{ text | lower | string | safe }}",
    "{{ [turn(m), '!'] | join(' ') }}",
]


@pytest.mark.parametrize("what", AFTERWARDS)
def test_tokens_of_the_template_are_its_own_whatever_it_does_to_a_turn(what: str) -> None:
    chain = Chain(TURN + "{% for m in messages %}" + what + "{% endfor %}", (START, END))
    texts = ["Hello", *(text for token in (START, END) for text in attacks(token))]
    given = [conversation for text in texts[:: 1 if FULL else 3] for conversation in in_every_field(text)]

    for conversation, found in zip(given, chain.controls(given), strict=True):
        assert found == [START, END] * len(conversation.messages), (what, conversation)


def test_what_cannot_be_told_is_refused() -> None:
    chain = Chain(
        SHELL.replace("BODY", "{{ m.content.center(40, '-') }}{{ (m.content ~ '<|im_end|>') | pprint }}"), (START, END)
    )

    [found] = chain.controls([parse_conversation(b'{"messages": [{"role": "user", "content": "Hi"}]}')])
    assert isinstance(found, str)
    assert REFUSED in found


@pytest.mark.parametrize("trick", TRICKS)
def test_ordinary_text_is_refused_by_no_such_template(trick: str) -> None:
    chain = Chain(SHELL.replace("BODY", trick), (START, END))
    texts = ["if a < b: return x[0] | y", "<b>bold</b> </think>", "<div>\n<p>3 > 2</p>", "List<int>", "|x|", "e"]
    given = [conversation for text in texts for conversation in in_every_field(text)]

    for found, conversation in zip(chain.controls(given), given, strict=True):
        if isinstance(found, str):
            assert REFUSED not in found, (conversation, found)
        else:
            assert found == [START, END] * len(conversation.messages)


# -- published templates --

SPELLED = re.compile(r"<[|｜][^\s<>|｜{}]+[|｜]>|\[/?[A-Z_]+\]|<\w+_turn>|<turn\|>|<\|turn>")


def tokens_of(source: str, stated: dict[str, Any]) -> list[str]:
    """The control tokens of a template: those that are stated, and those that it spells."""
    given = {stated["bos"], stated["eos"], *stated["eot"], *stated["plain"]}
    return sorted({*filter(None, given), *SPELLED.findall(source)})


def fronts_of(source: str) -> list[str]:
    """All that a template's own text may end in: its strings, the text between its tags, and their last characters."""
    compiled = CompiledTemplate(source)
    texts = {node.data for node in compiled.tree.find_all(nodes.TemplateData)}
    texts |= {node.value for node in compiled.tree.find_all(nodes.Const) if isinstance(node.value, str)}
    return sorted({text[-length:] for text in texts if text for length in (1, 2, 3, len(text))})


def test_no_text_becomes_a_control_token_behind_what_published_templates_write(shared_data: Path) -> None:
    """The oracle: as many control ids, the same ones, as with a word of the token's length in its place.

    Each pair of a template's string and a token is tried in one field after another, in full in three of the fifteen.
    """
    folder, number, step = shared_data / "templates", count(), 1 if FULL else 47
    counts: Counter[str] = Counter()
    for name, stated in json.loads((folder / "tokens.json").read_text(encoding="utf-8")).items():
        source = (folder / name).read_text(encoding="utf-8")
        tokens = tokens_of(source, stated)
        pairs = [
            (f"x{front}{token}y", f"x{front}{'z' * len(token)}y") for front in fronts_of(source) for token in tokens
        ]
        pairs += [(token[at:], "z" * len(token[at:])) for token in tokens for at in range(1, len(token))]
        counts["pairs"] += len(pairs)
        forged, plain = [], []
        for spelled, harmless in pairs[next(number) % step :: step]:
            both = list(zip(in_every_field(spelled), in_every_field(harmless), strict=True))
            chosen = [both[next(number) % len(both)] for _ in range(3 if FULL else 1)]
            forged += [one for one, _ in chosen]
            plain += [other for _, other in chosen]
        chain = Chain(source, tokens, {f"{key}_token": stated[key] for key in ("bos", "eos") if stated[key]})
        for one, other, text in zip(chain.controls(forged), chain.controls(plain), forged, strict=True):
            if isinstance(other, str):
                counts["refused as such"] += 1
            elif isinstance(one, str):
                counts["refused when forged"] += 1
            else:
                counts["built"] += 1
                assert one == other, (name, text)
    print(f"{counts['pairs']} pairs of a template's string and a control token; tried {dict(counts)}")
    assert counts["built"] > 50 * counts["refused when forged"]


MACRO = "{% macro tag(name) %}{{ '\n<' ~ name ~ '>' }}{% endmacro %}" + SHELL.replace(
    "BODY", "{{ m.content }}{{ tag('a') }}"
)


def test_ids_are_those_that_transformers_sanitizes(shared_data: Path) -> None:
    """An independent way to the same: control tokens of text that `apply_chat_template` marks before it renders."""
    from transformers import AutoTokenizer

    reference = AutoTokenizer.from_pretrained(shared_data / "tokenizers" / "qwen3")
    chain = Chain(MACRO, (START, END))
    lines = (shared_data / "cases" / "forged_after_newline.jsonl").read_text(encoding="utf-8").splitlines()
    given = [parse_conversation(line.encode()) for line in lines]
    assert len(given) == 3
    for found, conversation in zip(chain.controls(given), given, strict=True):
        ids = reference.apply_chat_template(
            conversation.messages, chat_template=MACRO, sanitize_control_tokens=True, return_dict=False
        )
        names = reference.convert_ids_to_tokens(ids)
        assert found == [name for name in names if name in (START, END)] == [START, END] * 2
