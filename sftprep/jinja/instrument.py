"""Makes a chat template tell whose text is whose.

Jinja parses a template into a syntax tree. Before that is compiled, every `for` loop in it is made to write down each
turn it takes (`message_marks`). At run time a turn counts when the loop's value *is* one of the conversation's message objects,
so slices, reversed loops, filters and renamed lists all work and no template is known by name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.runtime import Context, Macro
from jinja2.utils import pass_context
from jinja2.visitor import NodeTransformer

from sftprep.jinja.message_marks import RunLog

TRAIL = " trail"  # among the template's variables: the blank keeps it out of the template's reach
_KINDS = frozenset({"defined", "undefined", "none", "string", "mapping", "iterable", "sequence", "number", "boolean"})
_ASKING = (nodes.Getattr, nodes.Getitem, nodes.Test)
_PURE = (*_ASKING, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Name, nodes.Const)
_HOLDS_BACK = (nodes.Macro, nodes.CallBlock, nodes.FilterBlock, nodes.AssignBlock, nodes.Block)


def _told(step: Callable[..., Any]) -> Callable[..., Any]:
    """A filter that tells the run's log of what happens, with the value it is put on and the arguments."""

    @pass_context
    def tell(context: Context, *given: Any) -> Any:
        return step(context.parent[TRAIL], *given)

    return tell


MARK_FILTERS = {  # names a template cannot spell
    " each": _told(RunLog.each),
    " act": _told(RunLog.act),
    " begin": _told(RunLog.begin),
    " enter": _told(RunLog.enter),
    " end": _told(RunLog.end),
    " enter text": _told(RunLog.enter_text),
    " end text": _told(RunLog.end_text),
    " open text": _told(RunLog.open_text),
    " close text": _told(RunLog.close_text),
    " over": _told(RunLog.end_messages),
    " branch": _told(RunLog.branch),
    " leave branch": _told(RunLog.leave_branch),
}


class Instrument(NodeTransformer):
    """Puts marks around and into every loop of a syntax tree, and into the branches of every `if` where asked.

    A loop over indices is at the message that it looks up by its index, `messages[i]`. Text that is gathered in one of the
    `gathered` attributes of namespaces, `set ns.out = ns.out ~ ...`, is held back in it.

    Loop control cannot skip a mark: a turn ends where the next begins or where the loop is left, and nothing is printed
    in between. The tree's environment needs `MARK_FILTERS`, and a run's variables a `RunLog` under `TRAIL`.
    """

    def __init__(self, *, branches: bool = False, gathered: Collection[tuple[str, str]] = ()) -> None:
        self.branches, self.gathered = branches, gathered
        self.places = 0
        self.held_back = 0
        self.held_back_lines: list[int] = []  # of loops whose marks are in the text

    def visit(self, node: nodes.Node, *args: Any, **kwargs: Any) -> Any:
        """Visit a node, minding what holds its text back."""
        holds = isinstance(node, _HOLDS_BACK) or (isinstance(node, nodes.For) and node.recursive)
        self.held_back += holds
        result = super().visit(node, *args, **kwargs)
        self.held_back -= holds
        return result

    def visit_For(self, node: nodes.For) -> list[nodes.Node]:  # noqa: N802 - named by jinja2
        """A loop, and what goes around it."""
        line, text = node.lineno, " text" if self.held_back else ""
        if text:
            self.held_back_lines.append(line)
        lists = [nodes.Name(name, "load", lineno=line) for name in _looked_up(node)]
        if _asks_for_kind(node):
            node.iter = nodes.Filter(node.iter, " each", [], [], None, None, lineno=line)
            for choice in _choices(node.body):
                for branch in filter(None, (choice.body, choice.else_)):
                    branch.insert(0, _statement(" act", nodes.Const(None), branch[0].lineno))
        self.generic_visit(node)
        if self.branches and not text:
            node.body = self._in_branch(node.body, line)
        node.body.insert(0, _statement(" enter" + text, _load(node.target), line, *lists, printed=bool(text)))
        nothing = nodes.Const(None)
        return [_statement(" begin", nothing, line), node, _statement(" end" + text, nothing, line, printed=bool(text))]

    def visit_Assign(self, node: nodes.Assign) -> nodes.Assign:  # noqa: N802
        """An assignment, which may gather text."""
        given = node.node
        if isinstance(node.target, nodes.NSRef) and isinstance(given, nodes.Concat):
            name = (node.target.name, node.target.attr)
            if name in self.gathered and name == _attribute(given.nodes[0]):
                self.held_back_lines.append(node.lineno)
                marks = [_call(f" {each} text", nodes.Const(None), node.lineno) for each in ("open", "close")]
                given.nodes[1:] = [marks[0], *given.nodes[1:], marks[1]]
        return node

    def visit_If(self, node: nodes.If) -> nodes.If:  # noqa: N802
        """A choice; its `elif` branches are choices of their own."""
        self.generic_visit(node)
        if self.branches and not self.held_back:
            node.body = self._in_branch(node.body, node.lineno)
            if node.else_:
                node.else_ = self._in_branch(node.else_, node.else_[0].lineno)
        return node

    def _in_branch(self, body: list[nodes.Node], line: int) -> list[nodes.Node]:
        self.places += 1
        place = nodes.Const(self.places)
        begin = _statement(" branch", place, line, nodes.Const(line))
        return [begin, *body, _statement(" leave branch", place, line)]


def _looked_up(loop: nodes.For) -> list[str]:
    """Names in which a loop over indices looks up what it is at, `items[i]`, if it assigns to none of them."""
    body, index = nodes.Template(loop.body), getattr(loop.target, "name", None)
    assigned = {name.name for name in body.find_all(nodes.Name) if name.ctx == "store"}
    found = [
        item.node.name
        for item in body.find_all(nodes.Getitem)
        if isinstance(item.node, nodes.Name) and isinstance(item.arg, nodes.Name) and item.arg.name == index
    ]
    return [name for name in dict.fromkeys(found) if name not in assigned]


def _asks_for_kind(loop: nodes.For) -> bool:
    """Whether a loop does nothing that depends on more of its item, if that is a string, than that it is one.

    Then it does for each character of a text what it does for the first.
    """
    names = {name.name for statement in loop.body for name in statement.find_all(nodes.Name)}
    if not isinstance(loop.target, nodes.Name) or loop.recursive or loop.test or "loop" in names:
        return False
    choices = _choices(loop.body)
    if not choices or not all(isinstance(statement, nodes.If) for statement in loop.body):
        return False
    parts = [part for choice in choices for part in (choice.test, *choice.test.find_all(nodes.Node))]
    known = {id(part.node) for part in parts if isinstance(part, _ASKING) and _asks_kind_of(part)}
    return all(isinstance(part, _PURE) for part in parts) and not any(
        isinstance(part, nodes.Name) and part.name == loop.target.name and id(part) not in known for part in parts
    )


def _asks_kind_of(node: nodes.Getattr | nodes.Getitem | nodes.Test) -> bool:
    """Whether it asks of a value what it is, or for something that no string has."""
    if isinstance(node, nodes.Test):
        return node.name in _KINDS
    name = node.attr if isinstance(node, nodes.Getattr) else getattr(node.arg, "value", None)
    return isinstance(name, str) and not hasattr(str, name)


def _choices(body: list[nodes.Node]) -> list[nodes.If]:
    """The choices in these statements, `elif` branches each one of its own; not those within them."""
    found = [statement for statement in body if isinstance(statement, nodes.If)]
    return [*found, *(other for choice in found for other in choice.elif_)]


def gathered_in(tree: nodes.Template) -> set[tuple[str, str]]:
    """(name, attribute) of what the template prints, as it is, outside of loops and branches."""
    printed = [part for output in tree.body if isinstance(output, nodes.Output) for part in output.nodes]
    return {name for part in printed if (name := _attribute(part))}


def _attribute(node: nodes.Expr) -> tuple[str, str] | None:
    return (
        (node.node.name, node.attr) if isinstance(node, nodes.Getattr) and isinstance(node.node, nodes.Name) else None
    )


def _call(name: str, value: nodes.Expr, line: int, *args: nodes.Expr) -> nodes.Filter:
    return nodes.Filter(value, name, list(args), [], None, None, lineno=line)


def _statement(name: str, value: nodes.Expr, line: int, *args: nodes.Expr, printed: bool = False) -> nodes.Stmt:
    call = _call(name, value, line, *args)
    return nodes.Output([call], lineno=line) if printed else nodes.ExprStmt(call, lineno=line)


def _load(target: nodes.Node) -> nodes.Expr:
    """What a loop assigns to, as an expression."""
    names = [
        nodes.Name(name.name, "load", lineno=name.lineno)
        for name in (target, *target.find_all(nodes.Name))
        if isinstance(name, nodes.Name)
    ]
    return names[0] if isinstance(target, nodes.Name) else nodes.Tuple(names, "load", lineno=target.lineno)


def mark_end_of_messages(tree: nodes.Template, first: int) -> None:
    """Make the tree write down where its statement number `first` begins (`RunLog.over`)."""
    tree.body.insert(first, _statement(" over", nodes.Const(None), tree.lineno))


class Generation(Extension):
    """`{% generation %} ... {% endgeneration %}`: prints its body and writes down where it lies."""

    tags = {"generation"}  # noqa: RUF012 - so declared by jinja2

    def parse(self, parser: Parser) -> nodes.Node:
        """The block's syntax tree."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("block"), [], [], body).set_lineno(line)

    @pass_context
    def block(self, context: Context, caller: Macro) -> str:
        """The block's text."""
        text: str = caller()
        trail: RunLog = context.parent[TRAIL]
        start = sum(map(len, trail.pieces))
        trail.blocks.append((start, start + len(text)))
        return text
