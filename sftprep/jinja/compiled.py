"""A chat template, compiled with marks: variables in, text and whose it is out, errors without text of conversations."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from types import TracebackType
from typing import Any

import jinja2
from jinja2 import nodes

from sftprep.errors import ConversationError, RefusedError, TemplateError
from sftprep.jinja.after_messages import epilogue_of
from sftprep.jinja.following_sandbox import FollowingSandbox
from sftprep.jinja.instrument import MARK_FILTERS, TRAIL, Generation, Instrument, gathered_in, mark_end_of_messages
from sftprep.jinja.looking_ahead import first_looked_at
from sftprep.jinja.message_marks import Mark, Region, RunLog, is_unmarked, marked_text, regions_of
from sftprep.jinja.reasons import reason_of
from sftprep.jinja.sandbox import Sandbox
from sftprep.workers.limits import LimitError

MOST_CHARS = 1 << 24  # of one conversation


@dataclass(frozen=True, slots=True)
class MarkedText:
    """What a template printed, and whose it is."""

    text: str
    marks: tuple[Mark, ...]  # in text order, not empty, not overlapping; text outside all marks is nobody's
    over: int | None  # code point where the messages end; None: no loop was over messages
    blocks: tuple[tuple[int, int], ...]  # (start, stop) of `{% generation %}` blocks, as Transformers counts them
    regions: tuple[Region, ...]  # branches taken, if compiled with branches


class CompiledTemplate:
    """A template in its sandbox.

    now: what `strftime_now` prints. branches: also write down which branches the template takes.
    Raises TemplateError if it does not compile.
    """

    def __init__(self, source: str, now: datetime | None = None, *, branches: bool = False) -> None:
        self.environment = Sandbox(now, extensions=[Generation])
        self.environment.filters |= MARK_FILTERS
        self.source, self.now = source, now
        try:
            tree = self.environment.parse(source)
            parts = list(tree.find_all(nodes.Node))
            constants = [node.value for node in parts if isinstance(node, nodes.Const)]
            self.literals = frozenset(value for value in constants if isinstance(value, str))
            self.printed = frozenset(node.data for node in parts if isinstance(node, nodes.TemplateData))
            self.has_blocks = any(map(_is_generation, parts))
            if any(isinstance(node, nodes.EvalContextModifier) for node in parts):
                raise TemplateError(
                    "the chat template has {% autoescape %}, which hides whose text is whose; give one without it, with --chat-template"
                )
            self.epilogue = epilogue_of(tree)
            # how many messages may have a part in what is printed before they come; None: perhaps all
            self.looked_at = None if self.epilogue is None else first_looked_at(tree)
            if self.epilogue is not None:
                mark_end_of_messages(tree, self.epilogue.first)
            instrument = Instrument(branches=branches, gathered=gathered_in(tree))
            instrument.visit(tree)
            self.tree = tree
            self.template = self.environment.from_string(tree)
        except jinja2.TemplateSyntaxError as error:
            raise TemplateError(f"the chat template does not compile: line {error.lineno}: {error.message}") from error
        except (RecursionError, SyntaxError, MemoryError) as error:
            raise TemplateError("the chat template does not compile: it is nested too deep") from error
        self.held_back_lines = instrument.held_back_lines

    def with_branches(self) -> CompiledTemplate:
        """The same template, compiled so that a run also says which branches it takes."""
        return CompiledTemplate(self.source, self.now, branches=True)

    def mark(self, variables: Mapping[str, Any], *, held_back: bool = True, most: int | None = None) -> MarkedText:
        """Run the template.

        Messages are known as the items of `variables["messages"]`, by identity. held_back: also mark loops whose text
        goes to a macro or `set` block, which changes what the template sees of it.
        most: characters that it may print, MOST_CHARS unless given.
        Raises RefusedError where the template refuses, LimitError where it prints more, TemplateError
        where marks in held-back text change what is printed.
        """
        trail = RunLog(variables["messages"], textual=held_back)
        self.run(variables, trail, most)
        try:
            text, marks, over = marked_text(trail)
        except IndexError:
            text, marks, over = "", [], None
        plain = trail
        if trail.texts:
            plain = RunLog(variables["messages"], textual=False)
            self.run(variables, plain, most)
            self._compare(text, "".join(plain.pieces))
        return MarkedText(text, tuple(marks), over, tuple(plain.blocks), tuple(regions_of(trail)))

    def run(self, variables: Mapping[str, Any], trail: RunLog, most: int | None = None) -> None:
        """Run the template and write its trail; `RunLog.pieces` joined is the text, marks in the text included."""
        context = self.template.new_context({**variables, TRAIL: trail})
        chars, most = 0, MOST_CHARS if most is None else most
        try:
            for piece in self.template.root_render_func(context):
                trail.pieces.append(piece)
                chars += len(piece)
                if chars > most:
                    _refuse_length(most)
        except (ConversationError, TemplateError, MemoryError):
            raise
        except Exception as error:
            raise RefusedError(f"the chat template refuses it: {self._reason(error)}") from error

    def follow(self, variables: Mapping[str, Any]) -> Iterator[str]:
        """What the template prints, piece by piece, where texts of the variables are `Written`. Raises what it raises."""
        trail = RunLog(variables["messages"], textual=False)
        environment, template = self._following
        return map(environment.text, template.root_render_func(template.new_context({**variables, TRAIL: trail})))

    @cached_property
    def _following(self) -> tuple[FollowingSandbox, jinja2.Template]:
        environment = FollowingSandbox(self.now, extensions=[Generation])
        environment.filters |= MARK_FILTERS
        return environment, environment.from_string(self.tree)

    def _compare(self, text: str, plain: str) -> None:
        if not is_unmarked(plain):
            raise ConversationError(
                "the text holds noncharacters (U+1FFFE to U+6FFFF), which are used to mark it; use --mask scan"
            )
        if text != plain:
            lines = ", ".join(map(str, dict.fromkeys(self.held_back_lines)))
            raise TemplateError(
                f"chat template, line {lines}: a loop over messages inside a macro or `set` block, or text gathered in a "
                "variable, that is changed afterwards (trimmed, measured, replaced), so that turns cannot be told apart; use --mask scan with "
                "--scan-header and --scan-end"
            )

    def _reason(self, error: Exception) -> str:
        """What went wrong and where, without text of the conversation."""
        said = reason_of(error, self.source, self.literals)
        line = _line_in(error.__traceback__, self.template)
        return f"line {line}: {said}" if line else said


def _is_generation(node: nodes.Node) -> bool:
    return isinstance(node, nodes.ExtensionAttribute) and node.identifier == Generation.identifier


def _refuse_length(most: int) -> None:
    raise LimitError(f"the chat template prints more than {most:,} characters")


def _line_in(trace: TracebackType | None, template: jinja2.Template) -> int | None:
    """The line of the template that raised."""
    line, own = None, template.root_render_func.__globals__
    while trace is not None:
        if trace.tb_frame.f_globals is own:
            line = template.get_corresponding_lineno(trace.tb_lineno)
        trace = trace.tb_next
    return line
