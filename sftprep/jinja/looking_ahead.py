"""May what a template prints of a message depend on later messages?

Where it does not, a conversation's text begins with the text of what came before any of its turns, so each turn stands
behind what a model sees when it is asked for it. That is seen from the syntax tree: messages are looked at one by one, in
one loop at the top, which asks neither where they end nor what comes next; beside it only the first ones are looked at.
"""

from __future__ import annotations

from collections.abc import Iterator

from jinja2 import nodes

_OTHERS = (nodes.Include, nodes.Import, nodes.FromImport, nodes.Extends)  # run what is not in the tree
_BACKWARD = frozenset({"index", "index0", "first", "previtem", "cycle", "changed"})  # of `loop`


def first_looked_at(tree: nodes.Template) -> int | None:
    """How many messages, from the first on, have a part in what is printed before they come; None: perhaps all of them.

    tree: the unchanged syntax tree of a template that has an epilogue (`after_messages`). What it prints of any message
    behind those depends on no later one.
    """
    lists, skipped = _lists(tree)
    loops = [node for node in tree.body if isinstance(node, nodes.For) and any(_held(node.iter, lists))]
    if (
        len(loops) != 1
        or loops[0].recursive
        or any(tree.find_all(_OTHERS))
        or not all(map(_is_backward, _own(loops[0])))
    ):
        return None
    firsts = list(_firsts(tree, lists))
    known = {id(name) for name in (*_assigned(tree, lists), *_held(loops[0].iter, lists), *firsts)}
    if any(name.name in lists and name.ctx == "load" and id(name) not in known for name in tree.find_all(nodes.Name)):
        return None
    return 1 + skipped if firsts else 0


def _lists(tree: nodes.Template) -> tuple[set[str], int]:
    """Names that hold the messages, or all from one of them on; how many of the first may be missing there."""
    lists = {"messages"}
    while (
        grown := {
            node.target.name
            for node in tree.find_all(nodes.Assign)
            if isinstance(node.target, nodes.Name) and any(_held(node.node, lists))
        }
        - lists
    ):
        lists |= grown
    return lists, sum(map(_start, tree.find_all(nodes.Slice)))


def _start(index: nodes.Node) -> int:
    """Where a slice up to the end begins, counted from the beginning; 0 for anything else."""
    if not isinstance(index, nodes.Slice) or index.stop is not None or index.step is not None:
        return 0
    return index.start.value if isinstance(index.start, nodes.Const) and type(index.start.value) is int else 0


def _held(value: nodes.Node | None, lists: set[str]) -> Iterator[nodes.Name]:
    """The lists that a value may be, or may be all from some message on of."""
    if isinstance(value, nodes.Name) and value.name in lists:
        yield value
    elif isinstance(value, nodes.Getitem) and _start(value.arg) > 0:
        yield from _held(value.node, lists)
    elif isinstance(value, nodes.CondExpr):
        yield from _held(value.expr1, lists)
        yield from _held(value.expr2, lists)


def _assigned(tree: nodes.Template, lists: set[str]) -> Iterator[nodes.Name]:
    for node in tree.find_all(nodes.Assign):
        if isinstance(node.target, nodes.Name):
            yield from _held(node.node, lists)


def _firsts(tree: nodes.Template, lists: set[str]) -> Iterator[nodes.Name]:
    """Where the first of a list is looked at."""
    for node in tree.find_all(nodes.Getitem):
        if isinstance(node.arg, nodes.Const) and type(node.arg.value) is int and node.arg.value == 0:
            yield from _held(node.node, lists)


def _own(loop: nodes.For) -> Iterator[tuple[nodes.Node, nodes.Name]]:
    """Where `loop` is that of this loop: (what it is part of, its name)."""
    todo: list[nodes.Node] = [*loop.body, *loop.else_]
    while todo:
        node = todo.pop()
        inside = [node.iter] if isinstance(node, nodes.For) else list(node.iter_child_nodes())
        yield from ((node, child) for child in inside if isinstance(child, nodes.Name) and child.name == "loop")
        todo += inside


def _is_backward(place: tuple[nodes.Node, nodes.Name]) -> bool:
    node, _ = place
    if isinstance(node, nodes.Getitem) and isinstance(node.arg, nodes.Const):
        return node.arg.value in _BACKWARD
    return isinstance(node, nodes.Getattr) and node.attr in _BACKWARD
