"""The Jinja environment chat templates run in: what Transformers gives them, in Jinja's sandbox.

The sandbox keeps a stranger's program away from Python's internals; what it may cost is bounded elsewhere (`limits`).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.filters import sync_do_selectattr
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace, pass_context

from sftprep.errors import TemplateError

SCOPES = frozenset({"_loop_vars", "_block_vars"})  # what Jinja passes along with the arguments of a call in a loop


class Refusal(jinja2.exceptions.TemplateError):
    """The template called `raise_exception`."""


class NothingAhead(CodeGenerator):
    """Compiles templates without working out what is constant in them: that may take any time, and is seldom asked for."""

    def _output_child_to_const(self, node: nodes.Expr, frame: Frame, finalize: Any) -> str:
        if not isinstance(node, nodes.TemplateData):
            raise nodes.Impossible
        return super()._output_child_to_const(node, frame, finalize)


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja as chat templates expect it (that is, as Transformers sets it up), and the same text from the same input.

    now: what `strftime_now` tells the template; templates that ask for it are refused without.
    """

    code_generator_class = NothingAhead

    def __init__(
        self, now: datetime | None = None, extensions: Sequence[str | type[jinja2.ext.Extension]] = ()
    ) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=["jinja2.ext.loopcontrols", *extensions],
            optimized=False,  # see NothingAhead
        )
        self._safe: dict[tuple[type, str], bool] = {}
        self.filters["tojson"] = to_json
        self.filters["selectattr"] = _select_by_attribute
        self.filters["random"] = self.globals["lipsum"] = _no_chance
        self.globals |= {
            "raise_exception": _raise_exception,
            "strftime_now": lambda form: _strftime(now, form),
            "dict": _Dict(),
            "namespace": _Namespace,
        }

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


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """The filter `tojson`: no HTML escapes, and the options of `json.dumps`."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)


@pass_context
def _select_by_attribute(context: Context, value: Any, *args: Any, **kwargs: Any) -> Iterator[Any]:
    """The filter `selectattr`; of a text, where parts are expected, it looks at the first character for all of them: none has
    an attribute that no text has."""
    name = str(args[0]).partition(".")[0] if args else ""
    if isinstance(value, str) and name and not name.isdigit() and not hasattr(str, name):
        first = [value[:1]] if value else []
        value = value if any(True for _ in sync_do_selectattr(context, first, *args, **kwargs)) else []
    yield from sync_do_selectattr(context, value, *args, **kwargs)


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
