"""Recordings of one shape as a decision tree, and the tree as a Python function.

Inner nodes look at one observed step; leaves hold a program: literal text and steps, end to end. The function's source
is made of the steps' forms and of numbers only: every string is a constant by name, message text never gets into it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar

from sftprep.tracing.steps import Forms, Recording, Steps, Untraceable

T = TypeVar("T")
_INLINE = (bool, int, type(None))  # constants whose `repr` is their source; never from a message


@dataclass(frozen=True, slots=True)
class Program(Generic[T]):
    """A rendering as text pieces, each a step (a constant's is literal text), and what else is known of it.

    distances: from one point of the text to the next, the first from its beginning: code points, and steps whose lengths
    are added. Two points are a stretch.
    """

    pieces: tuple[int, ...]
    result: T
    distances: tuple[tuple[int, tuple[int, ...]], ...] = ()


@dataclass(slots=True)
class Branch(Generic[T]):
    """Where to go on from an observed step; `None` in place of a program: this way cannot be replayed."""

    step: int
    ways: dict[Any, Node[T]] = field(default_factory=dict)


Node: TypeAlias = "Branch[T] | Program[T] | None"
# Text, result, and stretches of the text; True: seen before, not replayable; False: not seen before
Replay: TypeAlias = Callable[..., "tuple[str, T, Sequence[tuple[int, int]]] | bool"]


class Tree(Generic[T]):
    """What is known about one shape."""

    def __init__(self, inputs: Sequence[str], forms: Forms) -> None:
        self.steps = Steps(forms)
        self.inputs = inputs
        self.leaves = 0
        self._root: Branch[T] | None = None  # a branch whose one way, None, leads to the first step
        self._replay: Replay[T] | None = None

    def insert(self, observed: dict[int, Any], leaf: Program[T] | None) -> None:
        """Add a recording. Raises Untraceable if the template observed other things in the same situation."""
        if self._root is None:
            self._root = Branch(-1)
        branch: Branch[T] = self._root
        way: Any = None
        for step, outcome in observed.items():
            node = branch.ways.setdefault(way, Branch(step))
            if not isinstance(node, Branch) or node.step != step:
                raise Untraceable
            branch, way = node, outcome
        if way in branch.ways:
            raise Untraceable
        branch.ways[way] = leaf
        self.leaves += 1
        self._replay = None

    def way(self, inputs: Mapping[str, Any]) -> tuple[dict[int, Any], Program[T] | None] | None:
        """What is observed of these inputs, step by step, and where that leads; None if it leads nowhere yet."""
        recording, node = Recording(self.steps, inputs), self._root and self._root.ways[None]
        while isinstance(node, Branch):
            outcome = recording.observe(recording.evaluate(node.step))
            if outcome not in node.ways:
                return None
            node = node.ways[outcome]
        return None if self._root is None else (recording.observed, node)

    def replay(self) -> Replay[T]:
        """The tree as a function of its inputs."""
        if self._replay is None:
            self._replay = _Source(self.steps).function(self.inputs, self._root)
        return self._replay


class _Source:
    """Writes a tree down as Python."""

    def __init__(self, steps: Steps) -> None:
        self.steps = steps
        self.names: dict[str, Any] = {**steps.compiled.functions, "join": "".join}
        self.lines: list[str] = []

    def function(self, inputs: Sequence[str], root: Branch[T] | None) -> Replay[T]:
        self.lines.append(f"def replay({', '.join(inputs)}):")
        if root is not None:
            self._node(root.ways[None], 1, set())
        self._line(1, "return False")
        exec(compile("\n".join(self.lines), "<template replay>", "exec"), self.names)  # noqa: S102 - see above
        made: Replay[T] = self.names["replay"]
        return made

    def _line(self, depth: int, text: str) -> None:
        self.lines.append(" " * depth + text)

    def _node(self, node: Node[T], depth: int, ready: set[int]) -> None:
        """Write a node. ready: steps that have a local variable here already."""
        while isinstance(node, Branch):
            ready |= self._compute(node.step, depth, ready)
            *others, (outcome, last) = node.ways.items()
            for other, child in others:
                self._line(depth, f"if {self._is(node.step, other)}:")
                self._node(child, depth + 1, set(ready))
                self._line(depth + 1, "return False")
            self._line(depth, f"if not ({self._is(node.step, outcome)}):")
            self._line(depth + 1, "return False")
            node = last
        if node is None:
            self._line(depth, "return True")
            return
        for piece in node.pieces:
            self._compute(piece, depth, ready)
        pieces = "".join(f"{self._operand(piece)}, " for piece in node.pieces)
        result = self._name(f"result{len(self.names)}", node.result)
        for number, (fixed, steps) in enumerate(node.distances):
            before = [f"p{number - 1}"] if number else []
            lengths = [f"len({self._operand(step)})" for step in steps]
            self._line(depth, f"p{number} = {' + '.join([*before, repr(fixed), *lengths])}")
        stretches = "".join(f"(p{number}, p{number + 1}), " for number in range(0, len(node.distances), 2))
        self._line(depth, f"return join(({pieces})), {result}, ({stretches})")

    def _compute(self, step: int, depth: int, ready: set[int]) -> set[int]:
        """Write down what the step needs and the step itself; `ready` grows by them."""
        todo = [step]
        while todo:
            step = todo[-1]
            form, operands = self.steps.forms[step], self.steps.operands[step]
            missing = [operand for operand in operands if operand not in ready and self.steps.operands[operand]]
            if step not in ready and operands and missing:
                todo += missing
                continue
            todo.pop()
            if step not in ready and operands:
                self._line(depth, f"v{step} = {form.format(*map(self._operand, operands))}")
                ready.add(step)
        return ready

    def _operand(self, step: int) -> str:
        if step in self.steps.constants:
            value = self.steps.constants[step]
            return repr(value) if type(value) in _INLINE else self._name(f"k{step}", value)
        return f"v{step}" if self.steps.operands[step] else self.steps.forms[step].format()

    def _is(self, step: int, outcome: Any) -> str:
        value = self._operand(step)
        if type(outcome) is bool:
            return value if outcome else f"not {value}"
        if type(outcome) is type:
            return f"{value} is {outcome.__name__}"
        return f"{value} == {self._name(f'o{len(self.names)}', outcome)}"

    def _name(self, name: str, value: Any) -> str:
        self.names[name] = value
        return name
