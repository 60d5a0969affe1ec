"""Stand-ins for the values of a conversation while a template is recorded.

A stand-in has no text that could leak: to C code it is no string, list or dict, so whatever is not written down here
raises, which ends the recording. What is here either makes a new stand-in (a step) or answers from the value at hand
and observes that answer. The type of a value is observed when its stand-in is made, hence `__class__` may tell it.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NoReturn

from sftprep.tracing.steps import Recording, Untraceable

_SCALARS = (str, int, float, bool, type(None))


def _raise(*_: Any, **__: Any) -> NoReturn:
    raise Untraceable


_end: Any = _raise


class Opaque:
    """Ends the recording whatever is asked of it."""

    __slots__ = ()

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = __hash__ = __bool__ = __str__ = __repr__ = __format__ = _end
    __iter__ = __contains__ = __add__ = __radd__ = __reduce_ex__ = __dir__ = _end

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):  # a protocol that strings, lists and dicts do not have either, such as __html__
            raise AttributeError(name)
        raise Untraceable


class Traced(Opaque):
    """The value of a step of a recording."""

    __slots__ = ("_step", "recording")

    def __init__(self, recording: Recording, step: int) -> None:
        self.recording = recording
        self._step = step

    @property
    def step(self) -> int:
        """The step it stands for."""
        return self._step

    @property
    def value(self) -> Any:
        """Its value in the conversation that is being recorded."""
        return self.recording.values[self.step]

    @property  # type: ignore[misc]
    def __class__(self) -> Any:
        return type(self.value)

    def ask(self, form: str, *others: Any) -> Any:
        """Observe the step `form` of this value and others."""
        return self.recording.observe(self.make(form, *others))

    def make(self, form: str, *others: Any, factor: int = 1) -> int:
        """The step `form` of this value and others."""
        return self.recording.step(form, self.step, *(lift(self.recording, other) for other in others), factor=factor)

    def __eq__(self, other: object) -> Any:
        return self.ask("{0} == {1}", other)

    def __ne__(self, other: object) -> Any:
        return not self == other

    def __bool__(self) -> bool:
        return bool(self.ask("bool({0})"))

    __hash__ = Opaque.__hash__


class TracedNumber(Traced):
    """An int, float or bool."""

    __slots__ = ()

    def settle(self) -> Any:
        """The number itself, observed."""
        self.ask("repr({0})")
        return self.value

    def __lt__(self, other: Any) -> Any:
        return self.ask("{0} < {1}", other)

    def __le__(self, other: Any) -> Any:
        return self.ask("{0} <= {1}", other)

    def __gt__(self, other: Any) -> Any:
        return self.ask("{0} > {1}", other)

    def __ge__(self, other: Any) -> Any:
        return self.ask("{0} >= {1}", other)

    def __hash__(self) -> int:
        return hash(self.settle())

    def __index__(self) -> int:
        return operator.index(self.settle())

    def __neg__(self) -> Any:
        return -self.settle()

    def __pos__(self) -> Any:
        return +self.settle()


class _Sized(Traced):
    """A str, list or dict."""

    __slots__ = ()

    def __len__(self) -> int:
        return int(self.ask("len({0})"))

    def length(self) -> TracedNumber:
        """The length, not yet observed."""
        return TracedNumber(self.recording, self.make("len({0})"))

    def _has(self, index: int) -> bool:
        return bool(self.ask("len({0}) > {1}" if index >= 0 else "len({0}) >= {1}", index if index >= 0 else -index))


def _bounds(part: slice) -> list[Any]:
    return [part.start, part.stop, part.step]


class TracedText(_Sized):
    """A str."""

    __slots__ = ("_parts",)

    def __init__(self, recording: Recording, step: int, parts: tuple[int, ...] = ()) -> None:
        super().__init__(recording, step)
        self._parts = parts

    @property
    def parts(self) -> tuple[int, ...]:
        """The steps it is made of, end to end."""
        return self._parts or (self._step,)

    @property
    def step(self) -> int:
        """The step it stands for."""
        if self._step < 0:
            form = "''.join((" + "".join(f"{{{i}}}, " for i in range(len(self._parts))) + "))"
            self._step = self.recording.step(form, *self._parts)
        return self._step

    def __eq__(self, other: object) -> Any:
        if type(other) in (str, TracedText):
            return super().__eq__(other)
        return False if not isinstance(other, str) else _end()

    def __lt__(self, other: Any) -> Any:
        return self.ask("{0} < {1}", text_of(other))

    def __le__(self, other: Any) -> Any:
        return self.ask("{0} <= {1}", text_of(other))

    def __gt__(self, other: Any) -> Any:
        return self.ask("{0} > {1}", text_of(other))

    def __ge__(self, other: Any) -> Any:
        return self.ask("{0} >= {1}", text_of(other))

    def __contains__(self, needle: Any) -> bool:
        return bool(self.ask("{1} in {0}", text_of(needle)))

    def __getitem__(self, index: Any) -> TracedText:
        if isinstance(index, slice):
            return TracedText(self.recording, self.make("{0}[{1}:{2}:{3}]", *_bounds(index)))
        if type(index) is not int or not self._has(index):
            raise Untraceable
        return TracedText(self.recording, self.make("{0}[{1}]", index))

    def __add__(self, other: Any) -> TracedText:
        return concatenate(self.recording, (self, text_of(other)))

    def __radd__(self, other: Any) -> TracedText:
        return concatenate(self.recording, (text_of(other), self))

    __hash__ = Opaque.__hash__


class TracedList(_Sized):
    """A list (or the tuple that `partition` gives). `texts`: made by splitting a text, so its items are str."""

    __slots__ = ("texts",)

    def __init__(self, recording: Recording, step: int, texts: bool = False) -> None:
        super().__init__(recording, step)
        self.texts = texts

    def __iter__(self) -> Iterator[Any]:
        return iter([self._item(i) for i in range(len(self))])

    def __contains__(self, item: Any) -> bool:
        return bool(self.ask("{1} in {0}", item))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            bounds = [lift(self.recording, bound) for bound in _bounds(index)]
            make = self.recording.step if self.texts else self.recording.part
            return TracedList(self.recording, make("{0}[{1}:{2}:{3}]", self.step, *bounds), self.texts)
        if type(index) is not int:
            raise Untraceable
        if not self._has(index):
            raise IndexError
        return self._item(index)

    def _item(self, index: int) -> Any:
        number = self.recording.constant(index)
        if self.texts:
            return TracedText(self.recording, self.recording.step("{0}[{1}]", self.step, number))
        return trace(self.recording, self.recording.part("{0}[{1}]", self.step, number))


class TracedDict(_Sized):
    """A dict of the input: its keys are str."""

    __slots__ = ()

    def __iter__(self) -> Iterator[TracedText]:
        names = self.recording.part("[*{0}]", self.step)
        return iter([TracedText(self.recording, self._at(names, i)) for i in range(len(self))])

    def __contains__(self, key: Any) -> bool:
        return bool(self.ask("{1} in {0}", text_of(key)))

    def __getitem__(self, key: Any) -> Any:
        if key not in self:
            raise KeyError
        return trace(self.recording, self.recording.part("{0}[{1}]", self.step, lift(self.recording, key)))

    def values(self) -> View:
        """Its values."""
        items = self.recording.part("[*{0}.values()]", self.step)
        return View(self, lambda: [trace(self.recording, self._at(items, i)) for i in range(len(self))])

    def items(self) -> View:
        """Its keys and values."""
        return View(self, lambda: zip(self, self.values(), strict=True))

    def keys(self) -> View:
        """Its keys."""
        return View(self, lambda: self)

    def _at(self, items: int, index: int) -> int:
        return self.recording.part("{0}[{1}]", items, self.recording.constant(index))


class View(Opaque):
    """What `keys`, `values` and `items` give: not a list."""

    __slots__ = ("_items", "_owner")

    def __init__(self, owner: TracedDict, items: Callable[[], Iterable[Any]]) -> None:
        self._owner = owner
        self._items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items())

    def __len__(self) -> int:
        return len(self._owner)

    def __bool__(self) -> bool:
        return bool(self._owner)

    def __contains__(self, value: Any) -> bool:
        return value in list(self._items())


def text_of(value: Any) -> Any:
    """The value, if it is a str or stands for one."""
    if type(value) is str or type(value) is TracedText:
        return value
    raise Untraceable


def concatenate(recording: Recording, pieces: Any) -> TracedText:
    """str and TracedText pieces, end to end."""
    parts: list[int] = []
    for piece in pieces:
        parts += piece.parts if type(piece) is TracedText else [recording.constant(piece)] if piece else []
        if len(parts) > 10_000:
            raise Untraceable
    if len(parts) < 2:
        return TracedText(recording, parts[0] if parts else recording.constant(""))
    return TracedText(recording, -1, tuple(parts))


def trace(recording: Recording, step: int) -> Any:
    """A stand-in for a step whose type is not known yet: it is observed."""
    recording.observe(recording.step("type({0})", step))
    return stand_in(recording, step)


def stand_in(recording: Recording, step: int) -> Any:
    """A stand-in for a step whose type is known to be the same in every conversation that comes here."""
    kind = type(recording.values[step])
    if kind is str:
        return TracedText(recording, step)
    if kind is dict:
        return TracedDict(recording, step)
    if kind is list:
        return TracedList(recording, step)
    if kind in (int, float, bool):
        return TracedNumber(recording, step)
    return None if kind is type(None) else _end()


def lift(recording: Recording, value: Any) -> int:
    """The step that is this value: a stand-in's own, a constant, or a container built of such."""
    if isinstance(value, Traced):
        return value.step
    if type(value) in _SCALARS:
        return recording.constant(value)
    if type(value) in (list, tuple):
        steps = [lift(recording, item) for item in value]
        places = "".join(f"{{{i}}}, " for i in range(len(steps)))
        return recording.step(f"[{places}]" if type(value) is list else f"({places})", *steps)
    if type(value) is dict and all(type(key) is str for key in value):
        steps = [lift(recording, item) for pair in value.items() for item in pair]
        places = "".join(f"{{{i}}}: {{{i + 1}}}, " for i in range(0, len(steps), 2))
        return recording.step(f"{{{{{places}}}}}", *steps)
    raise Untraceable


def is_plain(value: Any) -> bool:
    """Whether the value is, through and through, made of strings, numbers, lists and dicts: nothing traced."""
    if type(value) in _SCALARS:
        return True
    if type(value) in (list, tuple):
        return all(map(is_plain, value))
    return type(value) is dict and all(map(is_plain, value)) and all(map(is_plain, value.values()))
