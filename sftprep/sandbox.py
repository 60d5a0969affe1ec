"""The Jinja environment chat templates run in: what Transformers gives them, in a sandbox with limits.

A chat template is a program from a stranger. Jinja's sandbox keeps it away from Python's internals; it does not keep it
from asking for a terabyte. So whatever makes something long out of something short (`*`, `+`, `~`, `%`, widths,
`replace`, `join`, nested lists printed as text) is charged to an allowance before it runs, and every turn of a loop and
every call of a macro looks at the clock.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from types import BuiltinMethodType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context
from jinja2.visitor import NodeTransformer

from sftprep.errors import ConversationError, TemplateError

ALLOWANCE = " allowance"  # among the template's variables: the blank keeps it out of the template's reach
_CONCAT, _CLOCK = " concat", " clock"  # filters a template cannot name
_CONTAINERS = (list, dict, tuple)
_FREE = 4096  # results up to this length are not worth counting
_MAX_DIGITS = 1 << 16  # bits of an integer


class LimitError(ConversationError):
    """The template asked for more characters or more time than one conversation may have."""


class Refusal(jinja2.exceptions.TemplateError):
    """The template called `raise_exception`."""


class Allowance:
    """Time and characters that one conversation may use; `max_chars` bounds each run's output, and all that is built on
    the way may be four times that."""

    __slots__ = ("chars", "deadline", "max_chars")

    def __init__(self, max_chars: int, max_seconds: float) -> None:
        self.max_chars = max_chars
        self.chars = 4 * max_chars
        self.deadline = time.monotonic() + max_seconds

    def tick(self) -> None:
        """Raise LimitError when the time is over."""
        if time.monotonic() > self.deadline:
            raise LimitError("the chat template ran out of time on this conversation")

    def spend(self, chars: int) -> None:
        """Charge for characters (or list items) about to be made; raises LimitError when there are not so many left."""
        if chars > _FREE:
            self.chars -= chars
            if self.chars < 0:
                raise LimitError(f"the chat template builds far more than {self.max_chars} characters")

    def weigh(self, value: Any) -> None:
        """Charge for turning lists and dictionaries into text, where shared parts count each time they are met."""
        todo, count = [value], 0
        while todo:
            value = todo.pop()
            count += len(value) if isinstance(value, str) else 8
            if isinstance(value, (list, tuple)):
                todo.extend(value)
            elif isinstance(value, dict):
                todo.extend(value)
                todo.extend(value.values())
            if count + len(todo) > self.chars:
                self.spend(count + len(todo))
        self.spend(count)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja as chat templates expect it (that is, as Transformers sets it up), within limits.

    now: what `strftime_now` tells the template; templates that ask for it are refused without.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(
        self, now: datetime | None = None, extensions: Sequence[str | type[jinja2.ext.Extension]] = ()
    ) -> None:
        super().__init__(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", *extensions], finalize=_weighed
        )
        self.filters["tojson"] = _tojson
        self.filters |= {_CONCAT: _concat, _CLOCK: _look_at_clock}
        for name, cost in _FILTER_COSTS.items():
            self.filters[name] = _charged(self.filters[name], cost)
        self.filters["random"] = self.globals["lipsum"] = _no_chance
        self.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": lambda form: _strftime(now, form),
            "dict": _Dict(),
            "namespace": _Namespace,
        }

    def compile_tree(self, tree: nodes.Template) -> jinja2.Template:
        """Compile a syntax tree of `parse`; it is changed on the way."""
        return self.from_string(_Charge().visit(tree))

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`left operator right`, charged to the run."""
        kind, other = type(left), type(right)
        if operator == "+":
            if kind is other and (kind is str or kind is list or kind is tuple):
                context.parent[ALLOWANCE].spend(len(left) + len(right))
        elif operator == "%":
            if kind is str:
                context.parent[ALLOWANCE].spend(_format_cost(left, right if other is tuple else (right,)))
        elif kind is int and other is int:
            bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
            if bits > _MAX_DIGITS:
                raise LimitError("the chat template computes with numbers of thousands of digits")
        elif operator == "*":
            times, value = (left, right) if isinstance(left, int) else (right, left)
            if isinstance(times, int) and isinstance(value, (str, list, tuple)):
                context.parent[ALLOWANCE].spend(times * len(value))
        return self.binop_table[operator](left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as in jinja2
        """Call an object, charging methods of strings that make them longer."""
        if type(__obj) is BuiltinMethodType and type(__obj.__self__) is str and __obj.__name__ in _METHOD_COSTS:
            if __obj.__name__ == "join" and args:
                args = (list(args[0]), *args[1:])
            __context.parent[ALLOWANCE].spend(_METHOD_COSTS[__obj.__name__](__obj.__self__, *args, **kwargs))
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format` of a template, kept from huge widths."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def format_(*args: Any, **kwargs: Any) -> str:
            if _format_cost(value.__self__, (*args, *kwargs.values())) > 1 << 20:
                raise LimitError("the chat template formats text to a width of millions")
            return wrapped(*args, **kwargs)

        return format_


class _Charge(NodeTransformer):
    """`a ~ b` cannot be intercepted as operators can: it becomes a filter. Loops and macros look at the clock."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 - named by jinja2
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes, "load"), _CONCAT, [], [], None, None, lineno=node.lineno)

    def visit_For(self, node: nodes.For) -> nodes.For:  # noqa: N802
        self.generic_visit(node)
        node.body.insert(0, _clock(node.lineno))
        return node

    def visit_Macro(self, node: nodes.Macro) -> nodes.Macro:  # noqa: N802
        self.generic_visit(node)
        node.body.insert(0, _clock(node.lineno))
        return node


def _clock(line: int) -> nodes.ExprStmt:
    look = nodes.Filter(nodes.Const(None), _CLOCK, [], [], None, None, lineno=line)
    return nodes.ExprStmt(look, lineno=line)


@pass_context
def _look_at_clock(context: Context, _: None) -> None:
    context.parent[ALLOWANCE].tick()


@pass_context
def _concat(context: Context, values: list[Any]) -> str:
    """`~`"""
    for value in values:
        if type(value) in _CONTAINERS:
            context.parent[ALLOWANCE].weigh(value)
    context.parent[ALLOWANCE].spend(sum(len(value) for value in values if type(value) is str))
    return markup_join(values) if context.eval_ctx.autoescape else str_join(values)


@pass_context
def _weighed(context: Context, value: Any) -> Any:
    """What is about to be printed."""
    if type(value) in _CONTAINERS:
        context.parent[ALLOWANCE].weigh(value)
    return value


@pass_context
def _tojson(context: Context, value: Any, *args: Any, **kwargs: Any) -> str:
    if type(value) in _CONTAINERS:
        context.parent[ALLOWANCE].weigh(value)
    return to_json(value, *args, **kwargs)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter `tojson`: no HTML escapes, and the options of `json.dumps`."""
    if indent is not None and (indent > 64 if isinstance(indent, int) else len(indent) > 64):
        raise LimitError("the chat template indents JSON by more than 64 characters")
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _charged(function: Callable[..., Any], cost: Callable[..., int]) -> Callable[..., Any]:
    """The filter, charging what it is about to make."""
    passes = getattr(function, "jinja_pass_arg", None)

    @pass_context
    def charged(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        run = context.parent[ALLOWANCE]
        if not isinstance(value, (str, Mapping, Sequence)) and isinstance(value, Iterable):
            value = list(value)
        if type(value) in _CONTAINERS:
            run.weigh(value)
        run.spend(cost(value, *args, **kwargs))
        first: tuple[Any, ...] = ()
        if passes is not None:
            first = (context.eval_ctx if passes.name == "eval_context" else context.environment,)
        return function(*first, value, *args, **kwargs)

    return charged


def _format_cost(form: str, args: Sequence[Any]) -> int:
    """At most so many characters come out of `form % args` or `form.format(*args)`, give or take the text around."""
    fields = form.count("%") + form.count("{")
    longest = max((len(value) for value in args if isinstance(value, str)), default=0)
    widest = max((abs(value) for value in args if isinstance(value, int)), default=0)
    given = widest if "*" in form or re.search(r"\{[^{}]*\{", form) else 0
    return sum(int(digits[:12]) for digits in re.findall(r"\d+", form)) + fields * (longest + given)


def _replace_cost(text: Any, old: Any, new: Any, *_: Any) -> int:
    return len(text) + text.count(old) * len(new) if isinstance(text, str) else 0


def _join_cost(items: Sequence[Any], between: Any = "", *_: Any, **__: Any) -> int:
    return sum(len(item) + len(between) for item in items if isinstance(item, str))


def _indent_cost(text: Any, width: Any = 4, *_: Any, **__: Any) -> int:
    return (str(text).count("\n") + 1) * (width if isinstance(width, int) else len(width))


def _no_chance(*_: Any, **__: Any) -> None:
    raise jinja2.exceptions.SecurityError("a chat template may not use chance: the same input gives the same text")


def _raise_exception(message: Any) -> None:
    raise Refusal(message)


def _strftime(now: datetime | None, form: str) -> str:
    if now is None:
        raise TemplateError("the chat template prints the date of the day; give the date it should print")
    return now.strftime(form)


class _Dict:
    """`dict(...)` without the attributes of Python's."""

    def __call__(self, *args: Any, **kwargs: Any) -> dict[Any, Any]:
        return dict(*args, **kwargs)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        return dict.fromkeys(*args)


class _Namespace(Namespace):
    """Jinja's namespace, refusing names that start with an underscore."""

    def __init__(*args: Any, **kwargs: Any) -> None:  # no `self`, so that a template may say namespace(self=...)
        attributes = dict(*args[1:], **kwargs)
        for name in attributes:
            _refuse_private(name)
        Namespace.__init__(args[0], attributes)

    def __setitem__(self, name: str, value: Any) -> None:
        _refuse_private(name)
        super().__setitem__(name, value)


def _refuse_private(name: Any) -> None:
    if isinstance(name, str) and name.startswith("_"):
        raise jinja2.exceptions.SecurityError("a chat template may not store names that start with an underscore")


def _width_cost(_: Any, width: Any = 80, *__: Any) -> int:
    return width if isinstance(width, int) else 0


_METHOD_COSTS: dict[str, Callable[..., int]] = {
    "center": _width_cost,
    "ljust": _width_cost,
    "rjust": _width_cost,
    "zfill": _width_cost,
    "expandtabs": lambda text, tabsize=8: text.count("\t") * tabsize,
    "replace": _replace_cost,
    "join": lambda between, items: _join_cost(items, between),
    "translate": lambda text, table: (
        len(text) * max((len(new) for new in table.values() if isinstance(new, str)), default=1)
    ),
}
_FILTER_COSTS: dict[str, Callable[..., int]] = {
    "batch": _width_cost,
    "center": _width_cost,
    "format": lambda form, *args, **kwargs: _format_cost(form, (*args, *kwargs.values())),
    "indent": _indent_cost,
    "join": _join_cost,
    "pprint": lambda *_: 0,
    "replace": _replace_cost,
    "round": lambda _, precision=0, *__: 1000 * abs(precision),
    "slice": _width_cost,
    "string": lambda _: 0,
    "wordwrap": lambda text, *args, **kwargs: (
        len(text) * sum(len(v) for v in (*args, *kwargs.values()) if isinstance(v, str))
    ),
}
