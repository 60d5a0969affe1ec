"""Jinja over stand-ins: what a template may do with traced values, and what ends the recording.

Jinja's sandbox hands every attribute, item, call and operator to its environment, and filters and tests are looked up
there, so this one place sees all that a template can do with a value. Each is either known to be right for stand-ins
or ends the recording; filters and tests nobody thought of see plain values only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import wraps
from types import BuiltinMethodType
from typing import Any, cast

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.nodes import EvalContext
from jinja2.runtime import Context, Macro, Undefined
from markupsafe import Markup

from sftprep.jinja.following_sandbox import Unprinted
from sftprep.jinja.instrument import Generation
from sftprep.jinja.sandbox import SCOPES, Sandbox
from sftprep.tracing.stand_in_methods import DICT_METHODS, TEXT_METHODS, Method, call_text, join
from sftprep.tracing.stand_ins import (
    Traced,
    TracedDict,
    TracedList,
    TracedNumber,
    TracedText,
    concatenate,
    is_plain,
    lift,
)
from sftprep.tracing.steps import Untraceable

# Filters and tests of jinja2 that do to values only what stand-ins answer themselves (iterate, index, compare, truth).
_NATIVE_FILTERS = frozenset(
    ("d", "default", "first", "items", "last", "list", "map", "reject", "rejectattr", "reverse", "select", "selectattr")
)
_NATIVE_TESTS = frozenset({"defined", "undefined", "none", "in", "==", "!=", "<", "<=", ">", ">="})
_NATIVE_TESTS |= {"eq", "equalto", "ne", "lt", "lessthan", "le", "gt", "greaterthan", "ge"}
# Tests that look at nothing but a value's type, which is observed; on containers a template builds itself, the same.
_KINDS = ("boolean", "callable", "escaped", "float", "integer", "iterable", "mapping", "number", "sequence", "string")
_TYPE_TESTS = frozenset(_KINDS)
_NUMBER_TESTS = frozenset({"divisibleby", "even", "false", "odd", "true"})
_STAND_INS = frozenset({TracedDict, TracedList, TracedNumber, TracedText, Method})
_METHODS = {TracedText: TEXT_METHODS, TracedDict: DICT_METHODS}
_ADDED = frozenset({str, list, dict})
_NUMBERS, _SUMS = frozenset({TracedNumber, int, float, bool}), ("+", "-")
_JSON_OPTIONS = frozenset({"ensure_ascii", "indent", "separators", "sort_keys"})
# Statements and expressions whose compiled code keeps to the hooks below. Not here: autoescape, blocks and includes, and
# `filter` and `call` blocks, which print what is no string without making it one.
_KNOWN_NODES = frozenset((
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.For, nodes.If, nodes.Macro, nodes.With, nodes.Assign,
    nodes.AssignBlock, nodes.ExprStmt, nodes.Break, nodes.Continue, nodes.Scope, nodes.Name, nodes.NSRef, nodes.Const,
    nodes.Tuple, nodes.List, nodes.Dict, nodes.Pair, nodes.Keyword, nodes.CondExpr, nodes.Filter, nodes.Test, nodes.Call,
    nodes.Getitem, nodes.Getattr, nodes.Slice, nodes.Concat, nodes.Compare, nodes.Operand, nodes.Mul, nodes.Div,
    nodes.FloorDiv, nodes.Add, nodes.Sub, nodes.Mod, nodes.Pow, nodes.And, nodes.Or, nodes.Not, nodes.Neg, nodes.Pos,
    nodes.ExtensionAttribute,
))  # fmt: skip


def is_known(node: nodes.Node) -> bool:
    """Whether this part of a syntax tree can be recorded: `_KNOWN_NODES` and `{% generation %}` blocks."""
    return type(node) in _KNOWN_NODES or (
        isinstance(node, nodes.CallBlock) and isinstance(node.call.node, nodes.ExtensionAttribute)
    )


class _Unmarked(Generation):
    """`{% generation %} ... {% endgeneration %}`: prints its body."""

    def block(self, caller: Macro) -> Any:  # type: ignore[override]
        """The body, as it was printed."""
        return caller()


_Unmarked.identifier = Generation.identifier  # by which compiled templates know it


class TracingSandbox(Sandbox):
    """The sandbox a template is recorded in."""

    code_generator_class = Unprinted
    intercepted_binops = frozenset(Sandbox.default_binop_table)
    recording: Any = None  # the Recording under way; None while Jinja folds constants as it compiles

    def __init__(self, now: datetime | None = None, extensions: Sequence[str | type[Extension]] = ()) -> None:
        super().__init__(now, [_Unmarked if each is Generation else each for each in extensions])
        self.filters = {name: self._guard_filter(name, call) for name, call in self.filters.items()}
        self.tests = {name: self._guard_test(name, cast("Any", call)) for name, call in self.tests.items()}

    def concat(self, pieces: Iterable[Any]) -> Any:
        """What Jinja joins: the outputs of a macro or a `set` block, the operands of `~`."""
        texts = [self.text(piece) for piece in pieces]
        if all(type(text) is str for text in texts):
            return "".join(texts)
        return concatenate(self.recording, texts)

    def text(self, value: Any) -> Any:
        """`str(value)`, as an output statement prints it."""
        if type(value) in (str, TracedText):
            return value
        if isinstance(value, Traced) or (type(value) in (list, tuple, dict) and not is_plain(value)):
            return TracedText(self.recording, self.recording.step("str({0})", lift(self.recording, value), factor=10))
        if not is_plain(value) and not isinstance(value, (str, Undefined)):
            raise Untraceable  # it would print its address
        return "".join((str(value),))  # of a subclass such as Markup: str itself

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`obj.attribute`."""
        obj = _settled(obj)
        if type(obj) not in _STAND_INS:
            return super().getattr(obj, attribute)
        if attribute in _METHODS.get(type(obj), ()):
            return Method(obj, attribute)
        if type(obj) is Method or hasattr(obj.__class__, attribute):
            raise Untraceable
        if type(obj) is TracedDict and attribute in obj:
            return obj[attribute]
        return self._missing(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """`obj[argument]`; slices do not come here but go to `obj` itself."""
        argument = _settled(argument)
        obj = _settled(obj)
        if type(obj) not in _STAND_INS and type(argument) not in _STAND_INS:
            return super().getitem(obj, argument)
        if type(obj) is TracedDict and type(argument) in (str, TracedText):
            if argument in obj:
                return obj[argument]
            return self._missing(obj, argument) if type(argument) is TracedText else self.getattr(obj, argument)
        if type(obj) in (TracedText, TracedList) and type(argument) is str:
            return self.getattr(obj, argument)
        if type(obj) in (TracedText, TracedList) and type(argument) is int:
            try:
                return obj[argument]
            except IndexError:
                return self._missing(obj, argument)
        raise Untraceable

    def _missing(self, obj: Any, name: Any) -> Any:
        return self.undefined(obj=obj.__class__() if type(obj) in _STAND_INS else obj, name=name)

    def call(self, context: Context, obj: Any, /, *args: Any, **kwargs: Any) -> Any:
        """`obj(*args, **kwargs)`."""
        given = {name: value for name, value in kwargs.items() if name not in SCOPES}
        if isinstance(obj, Method):
            return obj.call(args, given)
        if isinstance(obj, Traced):
            raise Untraceable
        plain = is_plain(args) and is_plain(given)
        if isinstance(obj, BuiltinMethodType) and type(obj.__self__) is str and not plain:
            owner = TracedText(self.recording, self.recording.constant(obj.__self__))
            return call_text(owner, obj.__name__, args, given)
        return super().call(context, obj, *args, **kwargs)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """`left operator right`."""
        kinds = {type(left), type(right)}
        if operator in _SUMS and TracedNumber in kinds and kinds <= _NUMBERS:
            operands = (lift(self.recording, each) for each in (left, right))
            return TracedNumber(self.recording, self.recording.step(f"{{0}} {operator} {{1}}", *operands))
        left, right = _settled(left), _settled(right)
        if type(left) not in _STAND_INS and type(right) not in _STAND_INS:
            return super().call_binop(context, operator, left, right)
        if operator == "+" and type(left) in (str, TracedText) and type(right) in (str, TracedText):
            return left + right
        if operator == "%" and type(left) is str:
            return self._percent(left, right)
        undefined = next((each for each in (left, right) if isinstance(each, Undefined)), None)
        if operator == "+" and undefined is not None:
            return super().call_binop(context, operator, undefined, "")  # refuses in the same words
        if operator == "+" and {left.__class__, right.__class__} <= _ADDED:
            left.__class__() + right.__class__()  # refuses as values of these types do, if not of one type
        raise Untraceable

    def _percent(self, form: str, value: Any) -> Any:
        """`form % value` for a form with `%s` only."""
        literals = form.split("%s")
        values = value if type(value) is tuple else (value,)
        if (
            any("%" in literal for literal in literals)
            or len(values) != len(literals) - 1
            or isinstance(value, (TracedDict, TracedList))
        ):
            raise Untraceable
        return self.concat([piece for pair in zip(literals, (*values, ""), strict=True) for piece in pair])

    def _guard_filter(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """A filter that is asked only for what it is known to do right with stand-ins; else the recording ends."""
        special = _FILTERS.get(name)

        @wraps(call)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            given = args[1:] if args and type(args[0]) in _PASSED else args
            if self.recording is None or (is_plain(given) and is_plain(kwargs)):
                return call(*args, **kwargs)
            if name in _NATIVE_FILTERS:
                return call(*args, **kwargs)
            if special is None or any(isinstance(value, Markup) for value in (*given, *kwargs.values())):
                raise Untraceable
            return special(self, *given, **kwargs)

        return guarded

    def _guard_test(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """As `_guard_filter`, for a test. What it looks at of a stand-in is observed, if it is more than the type."""

        @wraps(call)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            given = args[1:] if args and type(args[0]) in _PASSED else args
            if self.recording is None or name in _NATIVE_TESTS or (is_plain(given) and is_plain(kwargs)):
                return call(*args, **kwargs)
            value = given[0]
            if name in _TYPE_TESTS and len(given) == 1 and not kwargs and not isinstance(value, Method):
                return call(*args[:-1], value.value if isinstance(value, Traced) else value)
            if name in _NUMBER_TESTS:
                given = tuple(map(_settled, given))
                if name in ("true", "false"):
                    return given[0] is (name == "true")
                if is_plain(given) and is_plain(kwargs):
                    return call(*given, **kwargs)
            if name in ("lower", "upper") and type(value) is TracedText:
                return value.ask(f"{{0}}.is{name}()")
            raise Untraceable

        return guarded if name != "sameas" else _same_as


_PASSED = frozenset({Context, EvalContext, TracingSandbox})  # what Jinja passes to some filters before their values


def _same_as(value: Any, other: Any) -> bool:
    """Only what is one object in every conversation may be compared by identity."""
    value, other = _settled(value), _settled(other)
    if any(item is None or item is True or item is False for item in (value, other)):
        return value is other
    raise Untraceable


def _settled(value: Any) -> Any:
    return value.settle() if type(value) is TracedNumber else value


def _length(env: TracingSandbox, value: Any) -> Any:
    if isinstance(value, (TracedText, TracedList, TracedDict)):
        return value.length()
    return len(value)


def _text_method(name: str) -> Callable[..., Any]:
    def call(env: TracingSandbox, value: Any, *args: Any, **kwargs: Any) -> Any:
        text = env.text(value)
        if type(text) is str:
            text = TracedText(env.recording, env.recording.constant(text))
        return call_text(text, name, args, kwargs)

    return call


def _title(env: TracingSandbox, value: Any) -> Any:
    text = env.text(value)
    return TracedText(env.recording, env.recording.step("title({0})", lift(env.recording, text), factor=3))


def _trim(env: TracingSandbox, value: Any, chars: Any = None) -> Any:
    return _text_method("strip")(env, value, chars)


def _replace(env: TracingSandbox, value: Any, old: Any, new: Any, count: Any = None) -> Any:
    return _text_method("replace")(env, value, env.text(old), env.text(new), -1 if count is None else count)


def _join(env: TracingSandbox, value: Any, d: Any = "", attribute: Any = None) -> Any:
    items = [env.text(item if attribute is None else env.getitem(item, attribute)) for item in value]
    return join(env.recording, env.text(d), items)


def _tojson(env: TracingSandbox, value: Any, *args: Any, **kwargs: Any) -> Any:
    if args or not is_plain(kwargs) or not kwargs.keys() <= _JSON_OPTIONS:
        raise Untraceable
    indent = kwargs.get("indent")
    if indent is not None and not (type(indent) is int and indent <= 8):
        raise Untraceable
    options = [f"{key}={{{i + 1}}}" for i, key in enumerate(kwargs)]
    steps = [lift(env.recording, item) for item in (value, *kwargs.values())]
    form = f"to_json({', '.join(['{0}', *options])})"
    return TracedText(env.recording, env.recording.step(form, *steps, factor=6))


_FILTERS: dict[str, Callable[..., Any]] = {
    "length": _length,
    "count": _length,
    "upper": _text_method("upper"),
    "lower": _text_method("lower"),
    "capitalize": _text_method("capitalize"),
    "title": _title,
    "trim": _trim,
    "replace": _replace,
    "join": _join,
    "tojson": _tojson,
    "string": lambda env, value: env.text(value),
}
