"""How much time and text one conversation may cost, and what the calls of a template are about to make.

A cost is an upper bound, near enough, of the characters or list items that a call will make, found without making them.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from sftprep.errors import ConversationError

_FREE = 4096  # results up to this length are not worth counting
_MAX_BITS = 1 << 16  # of an integer
_MAX_INDENT = 64


class LimitError(ConversationError):
    """The template asked for more characters or more time than one conversation may have."""


class Allowance:
    """What one conversation may use: in each run of the template `max_chars` of text, and four times that built on the
    way; `max_seconds` for all runs together, from now on."""

    __slots__ = ("chars", "deadline", "max_chars")

    def __init__(self, max_chars: int, max_seconds: float) -> None:
        self.max_chars = max_chars
        self.deadline = time.monotonic() + max_seconds
        self.renew()

    def renew(self) -> None:
        """Another run begins."""
        self.chars = 4 * self.max_chars

    def tick(self) -> None:
        """Raise LimitError when the time is over."""
        if time.monotonic() > self.deadline:
            raise LimitError("the chat template ran out of time on this conversation")

    def spend(self, chars: int) -> None:
        """Charge for characters or list items about to be made; raises LimitError when there are not so many left."""
        if chars > _FREE:
            self.chars -= chars
            if self.chars < 0:
                raise LimitError(f"the chat template builds far more than {self.max_chars} characters")

    def weigh(self, value: Any) -> None:
        """Charge for turning lists and dictionaries into text; parts that are shared count each time they are met."""
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
                self.spend(count + len(todo) + _FREE)
        self.spend(count)


def check_power(operator: str, left: int, right: int) -> None:
    """Raise LimitError if `left * right` or `left ** right` is a number of thousands of digits."""
    bits = left.bit_length() * right if operator == "**" else left.bit_length() + right.bit_length()
    if bits > _MAX_BITS:
        raise LimitError("the chat template computes with numbers of thousands of digits")


def check_json_options(indent: int | str | None, separators: Sequence[str] | None) -> None:
    """Raise LimitError if options of `tojson` make text much longer than the value."""
    width = indent if isinstance(indent, int) else len(indent or "")
    if max(width, *map(len, separators or ("",))) > _MAX_INDENT:
        raise LimitError(f"the chat template indents or separates JSON by more than {_MAX_INDENT} characters")


def format_cost(form: str, args: Sequence[Any]) -> int:
    """Of `form % args` or `form.format(*args)`."""
    fields = form.count("%") + form.count("{")
    longest = max((len(value) for value in args if isinstance(value, str)), default=0)
    widest = max((abs(value) for value in args if isinstance(value, int)), default=0)
    given = widest if "*" in form or re.search(r"\{[^{}]*\{", form) else 0  # the width may be an argument
    return sum(int(digits[:12]) for digits in re.findall(r"\d+", form)) + fields * (longest + given)


def _widths(_: Any, *args: Any, **kwargs: Any) -> int:
    return max((value for value in (*args, *kwargs.values()) if isinstance(value, int)), default=0)


def _replaced(text: Any, old: Any = "", new: Any = "", *_: Any, **__: Any) -> int:
    whole = str(text)
    return len(whole) + whole.count(str(old)) * len(str(new))


def _joined(items: Sequence[Any], d: Any = "", *_: Any, **__: Any) -> int:
    return sum(len(item) if isinstance(item, str) else 0 for item in items) + len(items) * len(str(d))


def _indented(text: Any, width: Any = 4, *_: Any, **__: Any) -> int:
    columns: int = width if isinstance(width, int) else len(width)
    return (str(text).count("\n") + 1) * columns


def _wrapped(text: Any, *args: Any, **kwargs: Any) -> int:
    length: int = len(text)
    return length * (1 + sum(len(value) for value in (*args, *kwargs.values()) if isinstance(value, str)))


def _longest(values: Iterable[Any]) -> int:
    return max((len(str(value)) for value in values), default=1)


def _no_bytes(*_: Any, **__: Any) -> int:
    raise LimitError("the chat template makes bytes; only text is of use")


METHOD_COSTS: Mapping[str, Callable[..., int]] = {  # of strings; of their owner and arguments
    "center": _widths,
    "ljust": _widths,
    "rjust": _widths,
    "zfill": _widths,
    "expandtabs": lambda text, tabsize=8: text.count("\t") * tabsize,
    "replace": _replaced,
    "join": lambda text, items: _joined(items, text),
    "translate": lambda text, table: len(text) * _longest(table.values() if isinstance(table, dict) else table),
    "encode": _no_bytes,
    "to_bytes": _no_bytes,
}
FILTER_COSTS: Mapping[str, Callable[..., int]] = {  # of their value and arguments; lists and dictionaries are weighed
    "batch": _widths,
    "center": _widths,
    "format": lambda form, *args, **kwargs: format_cost(str(form), (*args, *kwargs.values())),
    "indent": _indented,
    "join": _joined,
    "pprint": lambda *_, **__: 0,
    "replace": _replaced,
    "round": lambda _, precision=0, *__, **___: 1000 * abs(precision),
    "slice": _widths,
    "string": lambda _: 0,
    "sum": lambda items, *_, **__: sum(len(item) for item in items if isinstance(item, (list, tuple))),
    "wordwrap": _wrapped,
}
