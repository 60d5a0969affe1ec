"""What a template did with a conversation's values, written down as steps of plain Python.

A step is a line of Python source over earlier steps (`"{0}.strip({1})"`), a constant, or an input; the same step is
kept once. While a template runs, a `Recording` works out each step's value for the conversation at hand and keeps, in
order, what was *observed*: every value that could have sent the template another way. Two conversations that agree on
all observations take the same way through the template, so what it prints for them differs only in its steps' values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jinja2.filters import do_title

from sftprep.jinja.message_marks import is_unmarked
from sftprep.jinja.sandbox import to_json
from sftprep.jinja.written_text import Written, joined, parts_of

OWN = frozenset({0})  # the writer of a text that is looked for in what is made of it
FUNCTIONS: Mapping[str, Any] = {
    "to_json": to_json,
    "title": do_title,
    "NoneType": type(None),
    "is_unmarked": is_unmarked,
    "own": lambda text: Written(text, ((len(text), OWN),)),
    "joined": joined,
    "keeps_words": lambda text: any(writer == OWN and not part.isspace() for part, writer in parts_of(text)),
}
MAX_STEPS = 20_000
MAX_REPEATS = 32  # how often one input may come out again: what bounds a replayed text by its conversation's size
# Forms of steps: of those that hold all that their operands say, that hold a part of it, and that take from its ends.
_MADE_OF = re.compile(r"(?:to_json|str)\(\{0\}.*\)|[\[({].*, (?:[\])]|\}\})|''\.join\(\(.*\)\)")
_CUT = re.compile(
    r"\{0\}(?:\[.*\]|\.(?:l|r)?(?:strip|split|partition)\(.*\)|\.(?:splitlines|removeprefix|removesuffix)\(.*\))|\[\*\{0\}.*\]"
)
_JOIN = re.compile(r"''\.join\(\(.*\)\)")
_FOLLOWED = re.compile(
    r"\{0\}(?:\[.*\]|\.(?:[lr]?strip|r?split|splitlines|r?partition|remove(?:pre|suf)fix|replace)\(.*\))"
)
_MOST_FOLLOWED = 10_000  # characters of a form
_STRIP = re.compile(r"\{0\}\.[lr]?strip\((\{1\})?\)")
_REPLACE = re.compile(r"\{0\}\.replace\(\{1\}, \{2\}.*\)")


class Untraceable(BaseException):
    """Ends a recording: the template did something that cannot be replayed.

    Not an Exception, so that no filter's `except` mistakes it for an error of the template's own.
    """


class Forms:
    """The forms of steps as functions of their operands, each compiled once.

    functions: what forms may call beside `FUNCTIONS`.
    """

    def __init__(self, functions: Mapping[str, Any]) -> None:
        self.functions = {**FUNCTIONS, **functions}
        self._compiled: dict[tuple[str, int], Callable[..., Any]] = {}

    def function(self, form: str, operands: int) -> Callable[..., Any]:
        """A form over so many operands."""
        if (form, operands) not in self._compiled:
            names = [f"x{i}" for i in range(operands)]
            # Forms are written in this package; nothing of a template or a conversation gets into them but numbers.
            source = f"lambda {', '.join(names)}: {form.format(*names)}"
            self._compiled[form, operands] = eval(source, dict(self.functions))  # noqa: S307
        return self._compiled[form, operands]


class Steps:
    """The steps of all recordings of one shape, each once, numbered in the order in which they were first taken."""

    def __init__(self, compiled: Forms) -> None:
        self.compiled = compiled
        self.forms: list[str] = []  # source over {0}, {1}, ...; "" for a constant; a name for an input
        self.operands: list[tuple[int, ...]] = []  # numbers of earlier steps
        self.constants: dict[int, Any] = {}
        self.weights: list[Mapping[int, int]] = []  # how often each input may come out of a step, at most, in length
        self.sources: list[frozenset[int]] = []  # steps that it is made of: the tools, the values of messages' keys
        self._known: dict[tuple[Any, ...], int] = {}

    def constant(self, value: Any) -> int:
        """The step that is this str, int, float, bool, None, or tuple of such."""
        return self._add(("", type(value), repr(value)), "", (), value)

    def input(self, name: str) -> int:
        """The step that is the variable `name`."""
        return self._add((name,), name, ())

    def step(self, form: str, operands: tuple[int, ...], factor: int = 1) -> int:
        """A step that makes something new, at most `factor` times as long as its operands together."""
        number = self._known.get((form, *operands))
        if number is not None:
            return number
        weights: dict[int, int] = {}
        for operand in operands:
            for origin, weight in self.weights[operand].items():
                weights[origin] = weights.get(origin, 0) + weight * factor
        if max(weights.values(), default=0) > MAX_REPEATS:
            raise Untraceable
        return self._add((form, *operands), form, operands, weights=weights)

    def part(self, form: str, operands: tuple[int, ...]) -> int:
        """A step that picks something out of an input: a new origin of text."""
        number = self._known.get((form, *operands))
        return self._add((form, *operands), form, operands) if number is None else number

    def take(self, form: str, operands: tuple[int, ...], weights: Mapping[int, int] | None) -> int:
        """A step whose weights are known, or that is a part (None)."""
        return self._add((form, *operands), form, operands, weights=weights)

    def _add(
        self,
        key: tuple[Any, ...],
        form: str,
        operands: tuple[int, ...],
        value: Any = None,
        weights: Mapping[int, int] | None = None,
    ) -> int:
        """The number of a step, new if `key` is. weights: by input step, how often it may come out; None: it is one itself."""
        number = self._known.get(key)
        if number is None:
            number = self._known[key] = len(self.forms)
            if number >= MAX_STEPS:
                raise Untraceable
            self.forms.append(form)
            self.operands.append(operands)
            self.weights.append({number: 1} if weights is None else weights)
            self.sources.append(self._sources(number, form, operands))
            if not form:
                self.constants[number] = value
                self.weights[-1] = {}
        return number

    def _sources(self, number: int, form: str, operands: tuple[int, ...]) -> frozenset[int]:
        if form == "tools" or (form == "{0}[{1}]" and self._is_message(operands[0])):
            return frozenset({number})
        return frozenset().union(*map(self.sources.__getitem__, operands))

    def _is_message(self, step: int) -> bool:
        return self.forms[step] == "{0}[{1}]" and self.forms[self.operands[step][0]] == "messages"

    def key_of(self, step: int) -> tuple[int, Any] | None:
        """(message, key) of which the step is the value; None if it is no such value."""
        if self.forms[step] != "{0}[{1}]" or not self._is_message(self.operands[step][0]):
            return None
        message, key = self.operands[step]
        return self.constants[self.operands[message][1]], self.constants.get(key)

    def owners(self, step: int) -> set[int]:
        """The messages that a step is made of."""
        return {key[0] for source in self.sources[step] if (key := self.key_of(source))}

    def followed(self, step: int, source: int, leaves: list[int]) -> str:
        """A step as a form over `leaves`, which are added to, that tells of each character whether it is of the source.

        Raises Untraceable where it does with the source what cannot be followed so.
        """
        if step != source and source in self.sources[step]:
            form, operands = self.forms[step], self.operands[step]
            texts = [self.followed(operand, source, leaves) for operand in operands]
            made = f"joined(({', '.join(texts)}, ))" if _JOIN.fullmatch(form) else form.format(*texts)
            if not (_JOIN.fullmatch(form) or _FOLLOWED.fullmatch(form)) or len(made) > _MOST_FOLLOWED:
                raise Untraceable
            return made
        if step not in leaves:
            leaves.append(step)
        leaf = f"{{{leaves.index(step)}}}"
        return f"own({leaf})" if step == source else leaf

    def function(self, step: int) -> Callable[..., Any]:
        """A step's form as a function of its operands."""
        return self.compiled.function(self.forms[step], len(self.operands[step]))


class Recording:
    """One template run over one conversation: the values of its steps and what was observed of them."""

    def __init__(self, steps: Steps, inputs: Mapping[str, Any]) -> None:
        self.steps = steps
        self.inputs = inputs
        self.values: dict[int, Any] = {}
        self.observed: dict[int, Any] = {}  # step -> outcome, in the order of the run
        self._adopted: dict[tuple[int, int], int] = {}

    def constant(self, value: Any) -> int:
        """See `Steps.constant`."""
        number = self.steps.constant(value)
        self.values[number] = value
        return number

    def input(self, name: str) -> int:
        """See `Steps.input`."""
        number = self.steps.input(name)
        self.values[number] = self.inputs[name]
        return number

    def step(self, form: str, *operands: int, factor: int = 1) -> int:
        """See `Steps.step`. A step that fails is never replayed."""
        return self.evaluate(self.steps.step(form, operands, factor))

    def part(self, form: str, *operands: int) -> int:
        """See `Steps.part`."""
        return self.evaluate(self.steps.part(form, operands))

    def adopt(self, steps: Steps, number: int) -> int:
        """A step of another recording's, which began with the same inputs."""
        known = self._adopted.get((id(steps), number))
        if known is None:
            known = self._adopted[id(steps), number] = self._adopt(steps, number)
        return known

    def _adopt(self, steps: Steps, number: int) -> int:
        if number in steps.constants:
            return self.constant(steps.constants[number])
        form, operands = steps.forms[number], steps.operands[number]
        if form in self.inputs:
            return self.input(form)
        own = tuple(self.adopt(steps, operand) for operand in operands)
        weights = {
            self.adopt(steps, origin): weight for origin, weight in steps.weights[number].items() if origin != number
        }
        return self.evaluate(self.steps.take(form, own, weights or None))

    def observe(self, number: int) -> Any:
        """The step's value, which the template's way from here on may depend on."""
        value = self.values[number]
        self.observed.setdefault(number, value)
        return value

    def evaluate(self, number: int) -> int:
        """Work out a step's value, and those of the steps it needs."""
        if number not in self.values:
            operands = self.steps.operands[number]
            if number in self.steps.constants:
                return self.constant(self.steps.constants[number])
            if self.steps.forms[number] in self.inputs:
                return self.input(self.steps.forms[number])
            for operand in operands:
                self.evaluate(operand)
            try:
                value = self.steps.function(number)(*map(self.values.__getitem__, operands))
            except Exception as error:
                raise Untraceable from error
            self.values[number] = value
        return number


def growth(old: str, new: str) -> int:
    """How many times longer `text.replace(old, new)` can be than the text."""
    return max(1, math.ceil(len(new) / len(old))) if old else 1 + 2 * len(new)


@dataclass(frozen=True, slots=True)
class Origin:
    """A step whose words, if it has any, are printed. It is cut out of one thing that the conversation says."""

    step: int
    source: int  # the step that it is cut out of: the value of a key of a message, or the tools
    of_what: tuple[int, Any] | None  # message and key
    item: int | None  # the step that is the item of the source that it is cut out of, if that can be told
    whole: int  # the step itself before white space was taken from its ends


def origins_of(steps: Steps, step: int) -> list[Origin]:
    """Steps below this one, which makes what it says of them: if one of them has words, these are printed.

    The step itself, if it is nothing but cut out of a source.
    """
    whole = _untrimmed(steps, step)
    if _MADE_OF.fullmatch(steps.forms[whole]):
        return [origin for operand in steps.operands[whole] for origin in origins_of(steps, operand)]
    source, item = step, None
    while steps.sources[source] != {source}:
        if not (_CUT.fullmatch(steps.forms[source]) or _put_in(steps, source)[1:] == ("",)):
            return []
        source, item = steps.operands[source][0], source
    if item is not None and (steps.forms[item] != "{0}[{1}]" or not _is_index(steps, steps.operands[item][1])):
        item = None
    return [Origin(step, source, steps.key_of(source), item, whole)]


def _untrimmed(steps: Steps, step: int) -> int:
    """The step before white space was taken from its ends."""
    while True:
        text, *characters = steps.operands[step] or (step,)
        blank = _STRIP.fullmatch(steps.forms[step]) and not any(_words(steps, each) for each in characters)
        if not blank and _put_in(steps, step) != ("", ""):
            return step
        step = text


def _put_in(steps: Steps, step: int) -> tuple[str, ...]:
    """Of a text in which one text is put in place of another: what is so replaced and by what, white space left out; () if that
    is not so."""
    if not _REPLACE.fullmatch(steps.forms[step]):
        return ()
    _, old, new, *_ = steps.operands[step]
    return () if steps.constants.get(old) == "" else (_words(steps, old), _words(steps, new))


def _words(steps: Steps, step: int) -> str:
    """What a constant has beside white space; of another step, something."""
    return str(steps.constants.get(step, ".") or "").strip()


def _is_index(steps: Steps, step: int) -> bool:
    number = steps.constants.get(step)
    return type(number) is int and number >= 0
