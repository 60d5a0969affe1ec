"""Random chat templates and conversations for them: every way in which a template may look at a value or change it."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from sftprep.records.conversation import Conversation

PIECES = [
    "",
    "a",
    "B",
    " ",
    "\n",
    "1",
    "%s",
    "{{",
    "É",
    "ß",
    "<think>",
    "</think>",
    "x,y",
    "a-b",
    "<e>",
    "tool",
    "0",
    "<",
]
_SEPARATORS = ["a", "<think>", ",", "\n", " ", "1", "<e>"]
_TEXTS = [
    *("m.content", "m['content']", "m.role", "messages[0].content", "messages[-1]['content']", "t", "ns.s", "cap"),
    *("(m.reasoning_content | default('q'))", "m.get('name', 'd')", "(p | string)", "(kw | default(''))"),
    *("messages[loop.index0 - 1].content", "((m.meta or {}).k | string)", "((tools or [{}])[0].name | string)"),
]
_VALUES = [
    "m.name",
    "m.reasoning_content",
    "p",
    "loop.index",
    "(m.meta or {}).k",
    "m.n",
    "tools[0].name",
    "m.flag",
    "m.keys",
]
_LISTS = [
    *("messages", "(tools or [])", "(m.parts or ['z'])", "(m.parts or [])[1:]", "(m.meta or {})", "m.keys()"),
    *("(m.meta or {}).values()", "m.values() | list", "messages | map(attribute='content') | list"),
    *("messages[::-1] | map(attribute='role') | list", "(m.parts or []) | map(attribute='text') | list"),
    "messages | selectattr('role', 'equalto', 'user') | map(attribute='content') | list",
    "messages | rejectattr('name') | map(attribute='content') | list",
    "(m.parts or []) | selectattr('text', 'defined') | list",
]
_FACTS = [
    *("loop.first", "loop.last", "m.role == 'user'", "'name' in m", "'k' in (m.meta or {})", "m.name is defined"),
    *(
        "m.zzz is defined",
        "m.meta.k is none",
        "m.content is none",
        "m.flag is true",
        "(m.n or 0) > 2",
        "m.flag",
        "tools",
    ),
]
# What may be done with texts {0} and {1}, a literal {l}, a separator {s}, a number {n}, a list {v} and a condition {c}.
_MAKE = [
    *("({0} | trim)", "({0}).strip()", "({0}).strip({l})", "({0}).lstrip({l}).rstrip()", "({0} ~ {1})", "({0} + {1})"),
    *("({0} | upper)", "({0} | lower)", "({0} | title)", "({0} | capitalize)", "({0} | string)", "({0} | reverse)"),
    *(
        "({0} | replace({l}, {l}))",
        "({0}).replace({l}, {1})",
        "({0})[{n}:]",
        "({0})[:{n}]",
        "(({0})[{n}] | default(''))",
    ),
    *("({0}).split({s})[0]", "({0}).split({s})[-1]", "({0}).rsplit({s}, 1)[0]", "({0}).partition({s})[2]", "mac({0})"),
    *(
        "({0} | default({l}))",
        "({0} | default({l}, true))",
        "({0} if {c} else {1})",
        "({0} | tojson)",
        "({v} | join({l}))",
    ),
    *("({l}).join({v})", "('%s-%s' % ({0}, {1}))", "({0} | length | string)", "({0}).find({l}) | string", "({0} | e)"),
    *("({0}).count({l}) | string", "({v} | first | string)", "({v} | last | string)", "({v})[{n}] | string"),
    *("({0} | int | string)", "({0} | indent(2))", "({v} | tojson(indent=1))", "'{}'.format({0})", "({0} | wordcount)"),
]
_ASK = [
    *("({0} == {1})", "({0} != {l})", "({0} in {1})", "({l} in {0})", "({0}).startswith({l})", "({0}).endswith({1})"),
    *("({0} is string)", "({0} | length > {n})", "(not {c})", "({c} and {c})", "({c} or {c})", "{0}", "({0} < {1})"),
    *(
        "({0} is mapping)",
        "({0} is sequence)",
        "({0}).isdigit()",
        "({0} is number)",
        "({0} in {v})",
        "({0} is iterable)",
    ),
    *("({0} is upper)", "({v})", "({v} == {v})", "({0} is sameas {1})", "({0} is divisibleby 2)", "({0} is callable)"),
]


@dataclass(slots=True)
class _Grammar:
    random: Random

    def fill(self, form: str, depth: int) -> str:
        def literal(words: list[str]) -> str:
            return json.dumps(self.random.choice(words))

        makers: dict[str, Callable[[], str]] = {
            "{0}": lambda: self.text(depth + 1),
            "{1}": lambda: self.text(depth + 1),
            "{l}": lambda: literal([*PIECES, "-"]),
            "{s}": lambda: literal(_SEPARATORS),
            "{n}": lambda: str(self.random.choice([0, 1, 2, -1, 3])),
            "{v}": lambda: self.values(depth + 1),
            "{c}": lambda: self.condition(depth + 1),
        }
        for name, make in makers.items():
            while name in form:
                form = form.replace(name, make().replace("{", "\0"), 1)
        return form.replace("\0", "{")

    def text(self, depth: int = 0) -> str:
        if depth > 2 or self.random.random() < 0.3:
            return self.random.choice(_VALUES if self.random.random() < 0.06 else [*_TEXTS, json.dumps("a-b")])
        return self.fill(self.random.choice(_MAKE), depth)

    def values(self, depth: int) -> str:
        form = self.random.choice([*_LISTS, "[{0}, {1}]", "({0}, {1})", "({0}).split({s})", "({0}).splitlines()"])
        return self.fill(form, depth) if form not in _LISTS else form

    def condition(self, depth: int = 0) -> str:
        return self.random.choice(_FACTS) if depth > 2 else self.fill(self.random.choice(_ASK), depth)

    def body(self, depth: int) -> str:
        return "".join(self.statement(depth) for _ in range(self.random.randint(1, 3)))

    def statement(self, depth: int) -> str:
        printed = ["{{ " + self.text() + " }}", "{{- " + self.text() + " -}}", self.random.choice(["<s>", " x\n", "A"])]
        if depth > 3 or self.random.random() < 0.4:
            return self.random.choice(printed)
        inside, condition = self.body(depth + 1), self.condition()
        start = self.random.choice(["", "[1:]", "[::-1]", " if m.content"])
        pairs = self.random.choice(["m.items()", "(m.meta or {}).items()", "(m.meta or {}) | items"])
        return self.random.choice(
            [
                f"{{% if {condition} %}}{inside}{{% endif %}}",
                f"{{% if {condition} %}}{inside}{{% else %}}{self.body(depth + 1)}{{% endif %}}",
                f"{{% set t = {self.text()} %}}{{{{ t }}}}",
                f"{{% set ns.s = {self.text()} %}}",
                f"{{% set cap %}}{inside}{{% endset %}}{{% if cap %}}{{{{ cap | trim }}}}{{% endif %}}",
                f"{{% for m in messages{start} %}}{inside}{{% endfor %}}",
                f"{{% for p in {self.values(1)} %}}{inside}{{% endfor %}}",
                f"{{% for t, p in {pairs} %}}{inside}{{% endfor %}}",
                f"{{% with t = {self.text()} %}}{inside}{{% endwith %}}",
                f"{{% if {condition} %}}{{% break %}}{{% endif %}}",
            ]
        )


def random_template(random: Random) -> str:
    """A template that prints something for every message."""
    macro = [
        "{{ x }}",
        "[{{ x }}]",
        "{% if x %}{{ x | trim }}{% endif %}",
        "{% for c in messages %}{{ c.content }}{{ x }}{% endfor %}",
    ]
    head = "{% set ns = namespace(s='') %}{% set t = '' %}{% set p = 'p' %}{% set cap %}{{ messages[0].content }}{% endset %}"
    head += "{% macro mac(x) %}" + random.choice(macro) + "{% endmacro %}"
    return head + "{% for m in messages %}<s>" + _Grammar(random).body(1) + "<e>{% endfor %}"


def random_family(random: Random, size: int) -> list[Conversation]:
    """Conversations with the same keys whose values are of the same types, but for a few."""
    first = Conversation(
        [_message(random) for _ in range(random.randint(1, 3))],
        random.choice([None, [{"name": ""}], [{"name": "", "x": {"y": [1, ""]}}]]),
        random.choice([{}, {"kw": ""}]),
        None,
    )
    return [_refilled(random, first) for _ in range(size)]


def _message(random: Random) -> dict[str, Any]:
    message: dict[str, Any] = {"role": random.choice(["user", "assistant", "system"]), "content": random.choice([""] * 14 + [[""]])}  # fmt: skip
    parts = [random.choice([{"type": "text", "text": ""}, {"type": "image"}, ""]) for _ in range(random.randrange(3))]
    meta = {
        key: random.choice(["", "", 1, None, True, [""]])
        for key in random.sample(["k", "j", "items"], random.randrange(3))
    }
    others = {"name": "", "meta": meta, "parts": parts, "n": 1, "flag": True, "reasoning_content": ""}
    return message | {key: value for key, value in others.items() if random.random() < 0.7}


def _refilled(random: Random, value: Any) -> Any:
    if isinstance(value, Conversation):
        return Conversation(
            *(_refilled(random, part) for part in (value.messages, value.tools, value.template_kwargs)), None
        )
    if isinstance(value, dict):
        return {key: item if key in ("role", "type") else _refilled(random, item) for key, item in value.items()}
    if isinstance(value, list):
        return [_refilled(random, item) for item in (value if random.random() < 0.95 else value[:-1])]
    if isinstance(value, str):
        return "".join(random.choice(PIECES) for _ in range(random.choice([0, 1, 1, 2, 3])))
    return (
        random.choice([0, 1, 3, 2.5, True, False])
        if isinstance(value, (int, float)) and random.random() < 0.1
        else value
    )
