"""Does what a template prints after the messages depend on them?

The header of a turn is found by rendering what came before it with `add_generation_prompt`. For most templates that
last piece of text is the same after any messages, which is seen from the template's syntax tree: the loop over messages
is a statement at the top, and no later statement reads a name that anything of the messages has flowed into.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from jinja2 import nodes

_PROMPT = "add_generation_prompt"


@dataclass(frozen=True, slots=True)
class Epilogue:
    """The statements after a template's last loop over messages, in which no message has a part.

    Their text is the same for all conversations that agree in the template variables `names`.
    """

    first: int  # index of the first of them among the statements at the top of the template
    names: frozenset[str]


def epilogue_of(tree: nodes.Template) -> Epilogue | None:
    """The epilogue of an unchanged syntax tree; None where messages may have a part in it."""
    body = [_Statement(node) for node in tree.body]
    macros = {
        name: statement for statement in body if isinstance(statement.node, nodes.Macro) for name in statement.stores
    }
    for statement in body:
        statement.follow(macros)
    tainted = {"messages"}
    while grown := {name for s in body if s.loads & tainted for name in s.stores} - tainted:
        tainted |= grown
    last = max((i for i, s in enumerate(body) if s.loads & tainted and not isinstance(s.node, nodes.Macro)), default=-1)
    if last < 0 or not isinstance(body[last].node, nodes.For):
        return None
    if any(name.name == _PROMPT for node in _repeated(tree) for name in node.find_all(nodes.Name)):
        return None  # the prompt may begin inside a message's turn
    names: set[str] = set().union(*(s.loads for s in body[last + 1 :]))
    while grown := {name for s in body if s.stores & names for name in s.loads} - names:
        names |= grown
    return Epilogue(last + 1, frozenset(names))


class _Statement:
    """A statement at the top of a template: the names it may read and the names it may set."""

    def __init__(self, node: nodes.Node) -> None:
        self.node = node
        self.loads: set[str] = set()
        self.stores: set[str] = set()
        for part in (node, *node.find_all((nodes.Name, nodes.NSRef, nodes.Macro))):
            if isinstance(part, nodes.Name) and part.ctx == "load":
                self.loads.add(part.name)
            elif isinstance(part, (nodes.Name, nodes.NSRef, nodes.Macro)):
                self.stores.add(part.name)

    def follow(self, macros: dict[str, _Statement]) -> None:
        """Count what called macros read and set as this statement's own."""
        todo = set(self.loads)
        while todo:
            macro = macros.get(todo.pop())
            if macro is not None:
                todo |= macro.loads - self.loads
                self.loads |= macro.loads
                self.stores |= macro.stores


def _repeated(node: nodes.Node) -> Iterator[nodes.Node]:
    """The outermost loops and macros of a tree, which may run at a message."""
    for child in node.iter_child_nodes():
        if isinstance(child, (nodes.For, nodes.Macro, nodes.CallBlock)):
            yield child
        else:
            yield from _repeated(child)
