"""Methods of strings and dictionaries, for stand-ins: which of them can be replayed, and how."""

from __future__ import annotations

from typing import Any

from sftprep.tracing.stand_ins import Opaque, TracedDict, TracedList, TracedNumber, TracedText, concatenate, text_of
from sftprep.tracing.steps import Recording, Untraceable, growth

_MAKE_TEXT = {"strip": 1, "lstrip": 1, "rstrip": 1, "removeprefix": 1, "removesuffix": 1}
_MAKE_TEXT |= dict.fromkeys(("upper", "lower", "title", "capitalize", "swapcase", "casefold"), 3)  # "ŉ".upper() is 2
_MAKE_LIST = frozenset({"split", "rsplit", "splitlines", "partition", "rpartition"})
_ASK = frozenset({"isalnum", "isalpha", "isascii", "isdecimal", "isdigit", "isidentifier", "islower", "isnumeric"})
_ASK |= {"isprintable", "isspace", "istitle", "isupper", "startswith", "endswith"}
_COUNT = frozenset({"find", "rfind", "index", "rindex", "count"})
_KEYWORDS = frozenset({"sep", "maxsplit", "keepends", "count"})
TEXT_METHODS = frozenset(_MAKE_TEXT) | _MAKE_LIST | _ASK | _COUNT | {"replace", "join"}
DICT_METHODS = frozenset({"get", "keys", "values", "items"})


class Method(Opaque):
    """A method of a str or dict stand-in, not called yet."""

    __slots__ = ("name", "owner")

    def __init__(self, owner: TracedText | TracedDict, name: str) -> None:
        self.owner = owner
        self.name = name

    def call(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """Call it."""
        if isinstance(self.owner, TracedDict):
            return _call_dict(self.owner, self.name, args, kwargs)
        return call_text(self.owner, self.name, args, kwargs)


def _call_dict(owner: TracedDict, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    if kwargs or (args and name != "get") or (name == "get" and len(args) not in (1, 2)):
        raise Untraceable
    if name == "get":
        return owner[args[0]] if args[0] in owner else (args[1] if len(args) == 2 else None)
    return {"keys": owner.keys, "values": owner.values, "items": owner.items}[name]()


def call_text(owner: TracedText, name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """`owner.name(*args, **kwargs)` for the methods of str whose result can be replayed."""
    if name not in TEXT_METHODS or not kwargs.keys() <= _KEYWORDS:
        raise Untraceable
    if name == "join":
        if len(args) != 1 or kwargs:
            raise Untraceable
        return join(owner.recording, owner, args[0])
    names = [f"{{{i + 1}}}" for i in range(len(args))]
    names += [f"{keyword}={{{len(args) + i + 1}}}" for i, keyword in enumerate(kwargs)]
    form = f"{{0}}.{name}({', '.join(names)})"
    given = [arg.settle() if isinstance(arg, TracedNumber) else arg for arg in (*args, *kwargs.values())]
    if name in _ASK:
        return owner.ask(form, *given)
    if name in _COUNT:
        return TracedNumber(owner.recording, owner.make(form, *given))
    if name in _MAKE_LIST:
        return TracedList(owner.recording, owner.make(form, *given), texts=True)
    factor = _MAKE_TEXT.get(name, 1)
    if name == "replace":
        if len(args) < 2 or type(args[0]) is not str or type(args[1]) is not str:
            raise Untraceable
        factor = growth(args[0], args[1])
    return TracedText(owner.recording, owner.make(form, *given, factor=factor))


def join(recording: Recording, separator: Any, items: Any) -> TracedText:
    """`separator.join(items)`."""
    pieces: list[Any] = []
    for item in items:
        pieces += [separator, text_of(item)] if pieces else [text_of(item)]
    return concatenate(recording, pieces)
