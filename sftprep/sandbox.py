"""The Jinja environment chat templates run in: what Transformers gives them, in a sandbox with limits.

A chat template is a program from a stranger. Jinja's sandbox keeps it away from Python's internals; it does not keep it
from asking for a terabyte. So whatever makes something long out of something short (`*`, `+`, `~`, `%`, widths,
`replace`, `join`, nested lists printed as text) is charged to an allowance before it runs, and every turn of a loop and
every call of a macro looks at the clock.
"""

from __future__ import annotations

import json
from collections.abc import Callable, ItemsView, Iterator, KeysView, Sequence, ValuesView
from datetime import datetime
from types import BuiltinMethodType, MethodType
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.runtime import Context, markup_join, str_join
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context
from jinja2.visitor import NodeTransformer

from sftprep.allowance import (
    FILTER_COSTS,
    METHOD_COSTS,
    Allowance,
    LimitError,
    check_json_options,
    check_power,
    format_cost,
)
from sftprep.errors import TemplateError

ALLOWANCE = " allowance"  # among the template's variables: the blank keeps it out of the template's reach
SCOPES = frozenset({"_loop_vars", "_block_vars"})  # what Jinja passes along with the arguments of a call in a loop
CONCAT, _CLOCK = " concat", " clock"  # filters a template cannot name
_CONTAINERS = (list, dict, tuple)
_METHODS = (BuiltinMethodType, MethodType)
_SIZED = (str, list, tuple)


class Refusal(jinja2.exceptions.TemplateError):
    """The template called `raise_exception`."""


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja as chat templates expect it (that is, as Transformers sets it up), within limits.

    now: what `strftime_now` tells the template; templates that ask for it are refused without.
    """

    intercepted_binops = frozenset({"+", "*", "**", "%"})

    def __init__(
        self, now: datetime | None = None, extensions: Sequence[str | type[jinja2.ext.Extension]] = ()
    ) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", *extensions],
            finalize=_weighed,
            optimized=False,  # looking for constant expressions takes longer than it spares
        )
        self._safe: dict[tuple[type, str], bool] = {}
        self.filters["tojson"] = _tojson
        self.filters |= {CONCAT: _concat, _CLOCK: _look_at_clock}
        for name, cost in FILTER_COSTS.items():
            self.filters[name] = _charged(self.filters[name], cost)
        self.filters["random"] = self.globals["lipsum"] = _no_chance
        self.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": lambda form: _strftime(now, form),
            "dict": _Dict(),
            "namespace": _Namespace,
        }

    def charged(self, tree: nodes.Template) -> nodes.Template:
        """A syntax tree of `parse`, changed into what this environment may run (`from_string` compiles it)."""
        changed: nodes.Template = _Charge().visit(tree)
        return changed

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`obj.attribute`; for messages, without asking first whether an attribute of that name is safe."""
        if type(obj) is dict and attribute in obj and not hasattr(dict, attribute):
            return obj[attribute]
        return super().getattr(obj, attribute)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """As jinja2 has it, which looks at the name and the object's type only: each pair is asked about once."""
        known = self._safe.get((type(obj), attr))
        if known is None:
            known = self._safe[type(obj), attr] = super().is_safe_attribute(obj, attr, value)
        return known

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`left operator right`, charged to the run."""
        allowance: Allowance = context.parent[ALLOWANCE]
        if operator == "+":
            if isinstance(left, _SIZED) and isinstance(right, _SIZED):
                allowance.spend(len(left) + len(right))
        elif operator == "%" and isinstance(left, str):
            args = right if isinstance(right, tuple) else (right,)
            allowance.weigh(args)
            allowance.spend(format_cost(left, args))
        elif isinstance(left, int) and isinstance(right, int):
            check_power(operator, left, right)
        elif operator == "*":
            times, value = (left, right) if isinstance(left, int) else (right, left)
            if isinstance(times, int) and isinstance(value, _SIZED):
                allowance.spend(times * len(value))
        return self.binop_table[operator](left, right)

    def call(__self, __context: Context, __obj: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: N805 - as in jinja2
        """Call an object, charging methods of strings that make them longer."""
        name = getattr(__obj, "__name__", "") if type(__obj) in _METHODS else ""
        if name in METHOD_COSTS and isinstance(__obj.__self__, (str, int)):
            if name == "join" and args:
                args = (list(args[0]), *args[1:])
            given = {key: value for key, value in kwargs.items() if key not in SCOPES}
            __context.parent[ALLOWANCE].spend(METHOD_COSTS[name](__obj.__self__, *args, **given))
        return super().call(__context, __obj, *args, **kwargs)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """`str.format` of a template, kept from huge widths."""
        wrapped = super().wrap_str_format(value)
        if wrapped is None:
            return None

        def format_(*args: Any, **kwargs: Any) -> str:
            if format_cost(value.__self__, (*args, *kwargs.values())) > 1 << 24:
                raise LimitError("the chat template formats text to a width of millions")
            return wrapped(*args, **kwargs)

        return format_


class _Charge(NodeTransformer):
    """`a ~ b` cannot be intercepted as operators can: it becomes a filter. Loops and macros look at the clock."""

    def visit_Concat(self, node: nodes.Concat) -> nodes.Filter:  # noqa: N802 - named by jinja2
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), CONCAT, [], [], None, None, lineno=node.lineno)

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
    context.parent[ALLOWANCE].spend(sum(len(value) for value in values if isinstance(value, str)))
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
    check_json_options(indent, separators)
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


def _charged(function: Callable[..., Any], cost: Callable[..., int]) -> Callable[..., Any]:
    """The filter, charging what it is about to make."""
    passes = getattr(function, "jinja_pass_arg", None)

    @pass_context
    def charged(context: Context, value: Any, *args: Any, **kwargs: Any) -> Any:
        allowance: Allowance = context.parent[ALLOWANCE]
        if isinstance(value, Iterator):
            value = list(value)
        if type(value) in _CONTAINERS:
            allowance.weigh(value)
        elif isinstance(value, (KeysView, ValuesView, ItemsView)):
            allowance.weigh(list(value))
        allowance.spend(cost(value, *args, **kwargs))
        first: tuple[Any, ...] = ()
        if passes is not None:
            first = (context.eval_ctx if passes.name == "eval_context" else context.environment,)
        return function(*first, value, *args, **kwargs)

    return charged


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
