"""Text that knows who wrote which of its characters.

A `Written` is a str and answers all questions as the plain text does, so a template goes the same way over it. What the
operations here make of it is such a text again, each character with its writer. For what is made otherwise `mixed` says that
any writer of what went in may have written any of what came out.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import ItemsView, Iterable, Iterator, KeysView, Mapping, Sequence, ValuesView
from itertools import accumulate, chain, count
from string import Formatter
from typing import Any

from jinja2.runtime import Undefined
from markupsafe import escape

# What of the conversation, by number; NOBODY; and texts of the template that may be in it, too. None: the template alone.
Writer = frozenset[int | str] | None
Run = tuple[int, Writer]  # length in code points, and who wrote it
NOBODY = -1  # the conversation has it, but does not say it
_NO_TEXT = (bool, int, float, type(None), Undefined)


class UnfollowedError(Exception):
    """It cannot be told who wrote what comes out of an operation."""


class Written(str):
    """A text with its writers: runs, which are the text end to end. Without them, it is the conversation's."""

    __slots__ = ("_runs",)
    _runs: tuple[Run, ...]

    def __new__(cls, text: str, runs: Iterable[Run] | None = None) -> Written:
        """Runs without text are left out."""
        made = super().__new__(cls, text)
        made._runs = ((len(text), frozenset({NOBODY})),) if runs is None else _merged(runs)
        return made

    def __str__(self) -> str:
        return self

    def __iter__(self) -> Iterator[str]:
        return (Written(each, ((1, writer),)) for part, writer in parts_of(self) for each in part)

    def __getitem__(self, index: Any) -> Written:
        made = str.__getitem__(self, index)
        start, stop, step = (index if isinstance(index, slice) else slice(index, index + 1 or None)).indices(len(self))
        if step == 1:
            return self._cut([made], start=start)[0]
        writers = [writer for length, writer in self._runs for _ in range(length)]
        return Written(made, ((1, writers[at]) for at in range(start, stop, step)))

    def __add__(self, other: Any) -> Any:
        return joined((self, other)) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return joined((other, self)) if isinstance(other, str) else NotImplemented

    def __mul__(self, times: Any) -> Any:
        return Written(str.__mul__(self, times), self._runs * times)

    __rmul__ = __mul__

    def _cut(self, parts: Iterable[str], between: int = 0, start: int = 0) -> list[Written]:
        """Parts of it in their order, the first not before start, with so many characters after each, or more."""
        stops, cut = list(accumulate(length for length, _ in self._runs)), []
        for part in parts:
            start = str.find(self, part, start)
            stop, runs = start + len(part), []
            for at in range(bisect_right(stops, start), len(stops)):
                length, writer = self._runs[at]
                runs.append((min(stops[at], stop) - max(stops[at] - length, start), writer))
                if stops[at] >= stop:
                    break
            cut.append(Written(part, runs))
            start = stop + between
        return cut

    def removeprefix(self, prefix: str, /) -> Written:
        """As str does."""
        return self[len(prefix) :] if self.startswith(prefix) else self

    def join(self, texts: Iterable[str], /) -> Any:
        """As str does."""
        pieces = [piece for text in texts for piece in (self, text)]
        return joined(pieces[1:])

    def replace(self, old: str, new: str, count: Any = -1, /) -> Any:
        """As str does."""
        if not old:
            return mixed(str.replace(self, old, new, count), self, new)
        return written(new).join(self.split(old, int(count)))


def _changing_case(name: str) -> Any:
    plain = getattr(str, name)

    def change(self: Written) -> Any:
        made = plain(self)
        return Written(made, self._runs) if len(made) == len(self) else mixed(made, self)

    return change


def _cutting(name: str) -> Any:
    plain = getattr(str, name)

    def cut(self: Written, *args: Any, **kwargs: Any) -> Any:
        made = plain(self, *args, **kwargs)
        if isinstance(made, str):
            return self._cut([made])[0]
        separator = (args or [kwargs.get("sep")])[0] if name in ("split", "rsplit") else None
        return type(made)(self._cut(made, len(separator or "")))

    return cut


for _name in ("upper", "lower", "title", "capitalize", "swapcase", "casefold"):
    setattr(Written, _name, _changing_case(_name))
for _name in ["strip", "lstrip", "rstrip", "removesuffix", "split", "rsplit", "splitlines", "partition", "rpartition"]:
    setattr(Written, _name, _cutting(_name))


class Safe(Written):
    """A text that passes for HTML, as the filters `safe` and `escape` give it: what is added to it is escaped."""

    __slots__ = ()

    def __html__(self) -> Safe:
        return self

    def __str__(self) -> Written:
        return self[:]

    def __add__(self, other: Any) -> Any:
        return safe(joined((self, escaped(other)))) if isinstance(other, str) else NotImplemented

    def __radd__(self, other: Any) -> Any:
        return safe(joined((escaped(other), self))) if isinstance(other, str) else NotImplemented


def safe(text: str) -> Safe:
    """The text as HTML, with its writers."""
    return Safe(str.__str__(text), _runs_of(text))


def escaped(text: str) -> str:
    """The text as HTML: its special characters as entities of the same writers, unless it is HTML already."""
    if hasattr(text, "__html__"):
        return text
    parts = [(str(escape(part)), writer) for part, writer in parts_of(text)]
    return Written("".join(part for part, _ in parts), ((len(part), writer) for part, writer in parts))


def written(text: str) -> Written:
    """The text; if it is plain, it is the template's."""
    return text if isinstance(text, Written) else Written(text, ((len(text), None),))


def _runs_of(text: str) -> tuple[Run, ...]:
    """Who wrote a text."""
    return text._runs if isinstance(text, Written) else ((len(text), None),)


def parts_of(text: str) -> Iterator[tuple[str, Writer]]:
    """A text in parts, and who wrote each."""
    at = 0
    for length, writer in _runs_of(text):
        yield str.__getitem__(text, slice(at, at + length)), writer
        at += length


def joined(pieces: Sequence[str]) -> str:
    """Texts end to end."""
    made = "".join(pieces)
    if not any(isinstance(piece, Written) for piece in pieces):
        return made
    return Written(made, chain.from_iterable(map(_runs_of, pieces)))


def percent(form: str, values: Any) -> Any:
    """`form % values`."""
    given, literals = values if isinstance(values, tuple) else (values,), form.split("%s")
    pieces = [*chain(*zip(literals, given, strict=False)), literals[-1]]
    return _filled(str.__mod__(form, values), pieces, form, values)


def formatted(made: str, form: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """`made`, which is `form.format(*args, **kwargs)`."""
    given, numbers = {**{str(at): value for at, value in enumerate(args)}, **kwargs}, count()
    fields = [] if isinstance(form, Written) else Formatter().parse(form)
    pieces = [
        (literal, "" if name is None else given.get(name or str(next(numbers)), "")) for literal, name, *_ in fields
    ]
    return _filled(made, list(chain(*pieces)), form, args, kwargs)


def _filled(made: str, pieces: Iterable[Any], *operands: Any) -> Any:
    """What was made of operands: these pieces end to end, if that is what was made."""
    text = joined([piece if isinstance(piece, str) else mixed(str(piece), piece) for piece in pieces])
    return text if text == made else mixed(made, *operands)


def mixed(made: Any, *operands: Any) -> Any:
    """What an operation made of these. Raises UnfollowedError."""
    writer = frozenset(_writers(operands))
    return made if all(isinstance(each, str) for each in writer) else _by(writer, made)


def _writers(values: Iterable[Any]) -> Iterator[int | str]:
    for value in values:
        if isinstance(value, Written):
            for part, writer in parts_of(value):
                yield from (part,) if writer is None else writer
        elif isinstance(value, str):
            yield value
        elif isinstance(value, dict):
            yield from _writers(chain(*value.items()))
        elif isinstance(value, (list, tuple, KeysView, ValuesView, ItemsView)):
            yield from _writers(value)
        elif not isinstance(value, _NO_TEXT):
            raise UnfollowedError


def _by(writer: Writer, made: Any) -> Any:
    """What was made, its texts with this writer."""
    if isinstance(made, str):
        return Written(made, ((len(made), writer),))
    if isinstance(made, (list, tuple)):
        return type(made)(_by(writer, item) for item in made)
    if isinstance(made, _NO_TEXT):
        return made
    raise UnfollowedError


def _merged(runs: Iterable[Run]) -> tuple[Run, ...]:
    """Runs with text, those of one writer made one."""
    made: list[Run] = []
    for length, writer in runs:
        if made and made[-1][1] == writer:
            made[-1] = (made[-1][0] + length, writer)
        elif length:
            made.append((length, writer))
    return tuple(made)
