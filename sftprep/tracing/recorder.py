"""Runs a chat template over stand-ins and writes down what it prints, as steps."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from itertools import accumulate, groupby
from typing import Any

from jinja2 import nodes

from sftprep.jinja.compiled import CompiledTemplate
from sftprep.jinja.instrument import MARK_FILTERS, TRAIL, Generation
from sftprep.jinja.message_marks import Region, RunLog, split_at_marks
from sftprep.records.conversation import Conversation
from sftprep.tracing.recording_sandbox import TracingSandbox, is_known
from sftprep.tracing.stand_ins import concatenate, stand_in
from sftprep.tracing.steps import Recording, Untraceable

INPUTS = ("messages", "tools", "template_kwargs")  # of a conversation: what a recording's steps begin with


@dataclass(frozen=True)
class Printed:
    """What a template printed: steps end to end. Place i is the one before part i."""

    recording: Recording
    parts: tuple[int, ...]  # steps; none is a constant without text
    events: tuple[tuple[int, int | None], ...]  # (place, message) where a message's text begins, (place, None): ends
    over: int | None  # place where the messages end; None: no loop was over messages
    held_back: bool = False  # True: marks were in the text, and are taken out
    regions: tuple[Region, ...] = ()  # branches taken, between places

    def is_literal(self, part: int) -> bool:
        """Whether the template itself wrote this part, whatever the conversation says."""
        return self.parts[part] in self.recording.steps.constants

    def texts(self, start: int, stop: int) -> list[str | None]:
        """The parts between two places; None for those made of the conversation."""
        return [self.recording.steps.constants.get(step) for step in self.parts[start:stop]]

    def literal(self, start: int, stop: int) -> str:
        """The text between two places. Raises Untraceable if any of it is made of the conversation."""
        texts = self.texts(start, stop)
        if None in texts:
            raise Untraceable
        return "".join(map(str, texts))

    @cached_property
    def text(self) -> str:
        """The text of the conversation that was recorded."""
        return "".join(self.recording.values[step] for step in self.parts)

    @cached_property
    def offsets(self) -> tuple[int, ...]:
        """Each place in code points of `text`."""
        return (0, *accumulate(len(self.recording.values[step]) for step in self.parts))

    def observe_marks(self) -> None:
        """Where marks were in the text, observe that the conversation has none of their characters."""
        made = tuple(step for step in self.parts if step not in self.recording.steps.constants)
        if self.held_back and made:
            self.recording.observe(self.recording.step("is_unmarked({0})", concatenation(self.recording, made)))

    @cached_property
    def merged(self) -> tuple[int, ...]:
        """The parts, with neighbouring literals made one."""
        steps, done = [], 0
        for start, stop in self.runs():
            steps += [*self.parts[done:start], self.recording.constant(self.literal(start, stop))]
            done = stop
        return (*steps, *self.parts[done:])

    def runs(self) -> Iterator[tuple[int, int]]:
        """(place, place) of the longest stretches that the template itself wrote."""
        for literal, parts in groupby(range(len(self.parts)), self.is_literal):
            if literal:
                first, *rest = parts
                yield first, first + len(rest) + 1

    def run_at(self, place: int) -> tuple[int, int]:
        """(place, place) of the longest such stretch around or beside a place; an empty one if there is none."""
        start = stop = place
        while start > 0 and self.is_literal(start - 1):
            start -= 1
        while stop < len(self.parts) and self.is_literal(stop):
            stop += 1
        return start, stop

    def part_at(self, offset: int) -> int:
        """The part that holds the character at offset of `text`."""
        return bisect_right(self.offsets, offset) - 1


class RecordingTemplate:
    """A chat template to be run over stand-ins. Raises Untraceable if it has statements that cannot be recorded."""

    def __init__(self, template: CompiledTemplate, now: datetime | None) -> None:
        if not all(map(is_known, template.tree.find_all(nodes.Node))):
            raise Untraceable
        self.environment = TracingSandbox(now, extensions=[Generation])
        self.environment.filters |= MARK_FILTERS
        self.template = self.environment.from_string(template.tree)

    def printed(self, variables: Mapping[str, Any], recording: Recording, *, held_back: bool = True) -> Printed:
        """Run the template over stand-ins. held_back: also mark loops whose text is held back; as it can see such marks, it
        runs a second time without them, and has to print the same.

        Raises Untraceable, and what the template raises.
        """
        found = self._run(variables, recording, textual=held_back)
        if found.held_back and found.merged != self._run(variables, recording, textual=False).merged:
            raise Untraceable
        return found

    def _run(self, variables: Mapping[str, Any], recording: Recording, *, textual: bool) -> Printed:
        environment, constants = self.environment, recording.steps.constants
        trail = RunLog(variables["messages"], textual=textual)
        context = self.template.new_context({**variables, TRAIL: trail})
        parts: list[int] = []
        events: list[tuple[int, int | None]] = []
        places: list[int] = []
        done = 0  # events of the trail
        environment.recording = recording
        try:
            for piece in self.template.root_render_func(context):
                places.append(len(parts))
                events += [(len(parts), message) for _, message in trail.events[done:]]
                done = len(trail.events)
                trail.pieces.append("")  # events count pieces
                for step in concatenate(recording, (environment.text(piece),)).parts:
                    if step not in constants:
                        parts.append(step)
                        continue
                    for text, mark in split_at_marks(constants[step]) if trail.texts else [(constants[step], [])]:
                        parts += [recording.constant(text)] if text else []
                        events += [(len(parts), message) for message in mark]
        finally:
            environment.recording = None
        places.append(len(parts))
        events += [(len(parts), message) for _, message in trail.events[done:]]
        over = places[trail.over] if trail.over is not None and not trail.texts else events[-1][0] if events else None
        regions = (
            Region(place, line, places[first], places[stop])
            for place, line, first, stop in trail.regions
            if places[first] < places[stop]
        )
        return Printed(recording, tuple(parts), tuple(events), over, bool(trail.texts), tuple(regions))


def concatenation(recording: Recording, steps: tuple[int, ...]) -> int:
    """The step that is the texts of these end to end."""
    return recording.step("''.join((" + "".join(f"{{{i}}}, " for i in range(len(steps))) + "))", *steps)


def traced_conversation(conversation: Conversation, recording: Recording) -> Conversation:
    """The conversation in stand-ins; roles, keys and the types of values are as they are."""
    messages, root = [], recording.input("messages")
    for index, message in enumerate(conversation.messages):
        at = recording.part("{0}[{1}]", root, recording.constant(index))
        messages.append({key: value if key == "role" else _item(recording, at, key) for key, value in message.items()})
    own = recording.input("template_kwargs")
    return replace(
        conversation,
        messages=messages,
        tools=stand_in(recording, recording.input("tools")),
        template_kwargs={key: _item(recording, own, key) for key in conversation.template_kwargs},
    )


def _item(recording: Recording, container: int, key: str) -> Any:
    return stand_in(recording, recording.part("{0}[{1}]", container, recording.constant(key)))
