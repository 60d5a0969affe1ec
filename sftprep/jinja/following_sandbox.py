"""The sandbox in which it is followed who wrote what a template prints.

All attributes, items and calls go through a sandbox's environment, and filters are looked up there. Of what is not known
here to keep texts, or to make texts of them by `Written`'s own operations, all that went in is the writer (`mixed`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import wraps
from types import MethodType
from typing import Any

from jinja2 import nodes
from jinja2.compiler import Frame
from jinja2.ext import Extension
from jinja2.nativetypes import NativeCodeGenerator
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.utils import Cycler, Joiner
from markupsafe import Markup

from sftprep.jinja.sandbox import SCOPES, NothingAhead, Sandbox
from sftprep.jinja.written_text import Written, formatted, joined, mixed, percent, safe, written

# Filters of jinja2 that hand out what they are given, numbers, or what an iterator or slice of it gives.
_KEEPING = frozenset((
    "abs", "attr", "batch", "count", "d", "default", "dictsort", "first", "float", "groupby", "int", "items", "last",
    "length", "list", "map", "max", "min", "reject", "rejectattr", "reverse", "round", "select", "selectattr", "slice",
    "sort", "sum", "unique", "wordcount",
))  # fmt: skip
_CALLED = (Macro, LoopContext, Joiner)  # what gives nothing but texts that it has been given, or that a template prints
_OWNERS = (dict, list, tuple, range, Extension, LoopContext, Cycler)  # what has such methods


class Unprinted(NothingAhead, NativeCodeGenerator):
    """Leaves what is printed as it is, and lets the environment join what `~` joins."""

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - named by jinja2
        """`one ~ other`."""
        self.write("environment.concat((")
        for operand in node.nodes:
            self.visit(operand, frame)
            self.write(", ")
        self.write("))")


class FollowingSandbox(Sandbox):
    """A sandbox for a conversation whose strings are `Written`. Raises UnfollowedError."""

    code_generator_class = Unprinted
    intercepted_binops = frozenset({"%"})

    def __init__(self, now: datetime | None = None, extensions: Sequence[str | type[Extension]] = ()) -> None:
        super().__init__(now, extensions)
        self.filters = {name: self._guarded(name, call) for name, call in self.filters.items()}
        self._makers = [self.globals[name] for name in ("range", "dict", "cycler", "joiner", "namespace")]

    def concat(self, pieces: Iterable[Any]) -> str:
        """What Jinja joins: the outputs of a macro or a `set` block, the operands of `~`."""
        return joined(list(map(self.text, pieces)))

    def text(self, value: Any) -> str:
        """`str(value)`, as an output statement prints it."""
        return str(value) if isinstance(value, str) else str(mixed(str(value), value))

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """`obj(*args, **kwargs)`."""
        owner = getattr(obj, "__self__", None)
        keeping = isinstance(obj, _CALLED) or isinstance(owner, _OWNERS) or any(obj is made for made in self._makers)
        if keeping or (isinstance(owner, Written) and isinstance(obj, MethodType)):
            return super().call(context, obj, *args, **kwargs)
        given = {name: value for name, value in kwargs.items() if name not in SCOPES}
        if isinstance(owner, str) and obj.__name__ in ("join", "replace"):
            return getattr(written(owner), obj.__name__)(*args, **given)
        made = super().call(context, obj, *args, **kwargs)
        form = getattr(getattr(obj, "__wrapped__", None), "__self__", None)
        if isinstance(form, str):  # the sandbox wraps `format`
            return formatted(made, form, args, given)
        return mixed(made, owner if isinstance(owner, str) else None, args, given)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`left % right`."""
        return percent(left, right) if isinstance(left, str) else super().call_binop(context, operator, left, right)

    def _guarded(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(call)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            given = args[1:] if args and type(args[0]) in _PASSED else args
            if name in _FILTERS:
                return _FILTERS[name](self, *given, **kwargs)
            made = call(*args, **kwargs)
            if name in _KEEPING:
                return made
            return safe(mixed(str(made), given, kwargs)) if isinstance(made, Markup) else mixed(made, given, kwargs)

        return guarded


_PASSED = frozenset({Context, EvalContext, FollowingSandbox})  # what Jinja passes to some filters before their values


def _replace(env: FollowingSandbox, value: Any, old: Any, new: Any, count: Any = None) -> Any:
    return written(env.text(value)).replace(env.text(old), env.text(new), -1 if count is None else count)


def _join(env: FollowingSandbox, value: Any, d: Any = "", attribute: Any = None) -> Any:
    items = value if attribute is None else [env.getitem(item, attribute) for item in value]
    return written(env.text(d)).join(map(env.text, items))


_FILTERS: dict[str, Callable[..., Any]] = {
    "upper": lambda env, value: written(env.text(value)).upper(),
    "lower": lambda env, value: written(env.text(value)).lower(),
    "capitalize": lambda env, value: written(env.text(value)).capitalize(),
    "trim": lambda env, value, chars=None: written(env.text(value)).strip(chars),
    "replace": _replace,
    "join": _join,
    "safe": lambda env, value: safe(env.text(value)),
    "string": FollowingSandbox.text,
    "format": lambda env, value, *args, **kwargs: percent(env.text(value), kwargs or args),
}
