"""Conversation -> text and turn marks, without Jinja where the template's way is known.

A shape is the roles, keys and value types of a conversation. The template is recorded over one conversation of a shape
(`recorder`), which gives a way through the template: what was observed of the conversation, and a program, literal text
and steps, that prints it. Ways of a shape form a tree that is compiled to Python (`decision_tree`). A conversation whose
observations lead to a program is rendered by joining strings; if they lead nowhere, Jinja renders it and a new way may
be recorded; ways that could not be recorded always take Jinja. A way may also lead to where the template refuses.
Cost: about 2 µs and 1 µs a message, and copying the text once. Recording costs as much as some ten renderings, so a shape
is recorded when it is common, or has been seen some times, and after the first hundred recordings only one conversation
in eight is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import astuple, replace
from functools import cached_property, partial
from typing import Any

from sftprep.errors import RefusedError
from sftprep.records.conversation import PLAIN, Conversation
from sftprep.records.said import has_words, says
from sftprep.replay.edges import Point, check_first_control, distances, start_of, stop_of
from sftprep.replay.prefixes import Prefixes, Prompts
from sftprep.replay.proof import (
    check_controls,
    check_owners,
    check_silence,
    check_unprinted,
    given,
    recorded_turns,
    stays_of,
)
from sftprep.template.chat_template import ChatTemplate
from sftprep.template.turns import Rendering, SpanPlaces, Stretch, Told, header_of, places_of, told_of
from sftprep.tracing.decision_tree import Program, Replay, Tree
from sftprep.tracing.recorder import INPUTS, Printed, RecordingTemplate, traced_conversation
from sftprep.tracing.steps import MAX_REPEATS, Forms, Recording, Untraceable

_Outcome = SpanPlaces | str  # where spans lie, or why the template refuses
Guard = Callable[[Conversation], AbstractContextManager[None]]
_MAX_SHAPES = 2048  # each takes some 40 kB once it is recorded
_MAX_WAYS = 32  # of one shape
_MAX_MESSAGES = 256  # of a conversation that is recorded
_FREE_RECORDINGS, _RECORDING_SHARE = 128, 8
_COMMON, _FEW, _OFTEN = 1000, 4, 4  # common: one conversation in a thousand; of a few, more than one
_LONG_TEXT = 1 << 18  # from here on Jinja's share of the work is small, and its limits are checked by it alone


class ReplayTemplate:
    """A chat template with what is known of its ways.

    replayed, rendered: conversations so far that were replayed, and that took Jinja; recorded: ways recorded.
    """

    def __init__(self, template: ChatTemplate, guard: Guard = lambda _: nullcontext(), *, asking: bool = False) -> None:
        """guard: what is around each run of the template over a conversation. asking: it is to ask for an answer behind the
        conversation, so that nothing is trained."""
        self.template, self._guard, self._asking = template, guard, asking
        self._held_back = bool(template.roles) and not asking
        self.replayed = self.rendered = self.recorded = 0
        self._sightings: dict[tuple[Any, ...], int] = {}  # of a shape, while it is not replayed
        self._trees: dict[tuple[Any, ...], Tree[_Outcome]] = {}
        self._replays: dict[tuple[Any, ...], Replay[_Outcome]] = {}
        self._places_known: dict[tuple[Any, ...], SpanPlaces] = {}  # one object for equal marks
        self._forms = Forms({"header": partial(_header, tokens=template.tokens), "says": says, "has_words": has_words})

    def render(self, conversation: Conversation) -> tuple[str, Told]:
        """The text of `ChatTemplate.render`, and where its spans lie. Raises as it does."""
        key = _shape(conversation)
        replay = self._replays.get(key)
        if replay is None and key in self._trees:
            replay = self._replays[key] = self._trees[key].replay()
        found: tuple[str, _Outcome, Sequence[Stretch]] | bool = False
        if replay is not None:
            try:
                found = replay(conversation.messages, conversation.tools, conversation.template_kwargs)
            except Exception:  # noqa: BLE001 - a step that fails, as `x.index` may, is Jinja's to explain
                found = True
            if type(found) is tuple:
                text, outcome, reach = found
                if isinstance(outcome, str):
                    self.replayed += 1
                    raise RefusedError(outcome)
                if len(text) <= _LONG_TEXT:
                    self.replayed += 1
                    return text, (outcome, reach)
                found = True  # and the text is not in memory twice
                del text
        self.rendered += 1
        with self._guard(conversation):
            rendering = self._rendering(conversation)
            if found is False and self._may_record(key, conversation):
                self._record(key, conversation, rendering)
        if isinstance(rendering, RefusedError):
            raise rendering
        return rendering.text, told_of(rendering)

    def _rendering(self, conversation: Conversation) -> Rendering | RefusedError:
        try:
            return self.template.ask(conversation) if self._asking else self.template.render(conversation)
        except RefusedError as refusal:
            return refusal

    def _variables(self, conversation: Conversation) -> dict[str, Any]:
        return {**self.template.variables.of(conversation), "add_generation_prompt": self._asking}

    @cached_property
    def asking(self) -> ReplayTemplate:
        """The same template, asking for an answer behind a conversation."""
        return ReplayTemplate(self.template, self._guard, asking=True)

    def way(self, conversation: Conversation) -> tuple[Tree[_Outcome], dict[int, Any], Program[_Outcome] | None]:
        """The way that a conversation takes, recorded if it is not known: its shape's tree, what is observed there, and what
        prints it, None if it is not replayed. Raises Untraceable."""
        key, inputs = _shape(conversation), {name: getattr(conversation, name) for name in INPUTS}
        for _ in range(2):
            tree = self._trees.get(key)
            if tree is not None and (found := tree.way(inputs)) is not None:
                return tree, *found
            self._record(key, conversation, self._rendering(conversation))
        raise Untraceable

    @cached_property
    def _recorder(self) -> RecordingTemplate:
        compiled = self.template.compiled
        if self._held_back and self.template.misplaced.has_strays:
            compiled = self.template.misplaced.detailed
        return RecordingTemplate(compiled, compiled.now)

    def _may_record(self, key: tuple[Any, ...], conversation: Conversation) -> bool:
        """Whether a recording is worth its time: the shape is common or was seen often, and neither its ways nor all recordings
        are too many. Counts the sighting."""
        seen = self.replayed + self.rendered
        if key not in self._sightings and len(self._sightings) >= _MAX_SHAPES:
            # start over: what is common will soon be known again
            for each in (self,) if self._asking else (self, self.asking):
                for known in (each._sightings, each._trees, each._replays, each._places_known):
                    known.clear()
        sightings = self._sightings[key] = self._sightings.get(key, 0) + 1
        common = sightings * _COMMON > seen and (sightings > 1 or seen > _FEW)
        tree = self._trees.get(key)
        return (
            (common or tree is not None or sightings >= _OFTEN)
            and self.recorded < _FREE_RECORDINGS + seen // _RECORDING_SHARE
            and (tree is None or tree.leaves < _MAX_WAYS)
            and len(conversation.messages) <= _MAX_MESSAGES
        )

    def _record(self, key: tuple[Any, ...], conversation: Conversation, rendering: Rendering | RefusedError) -> None:
        """Add the conversation's way to its shape's tree."""
        self.recorded += 1
        if key not in self._trees:
            self._trees[key] = Tree(INPUTS, self._forms)
        tree = self._trees[key]
        recording = Recording(tree.steps, {name: getattr(conversation, name) for name in INPUTS})
        try:
            program: Program[_Outcome] | None
            if isinstance(rendering, RefusedError):
                program = self._refusal(conversation, rendering, recording)
            else:
                program = self._program(conversation, rendering, recording)
        except (Untraceable, Exception):  # noqa: BLE001 - to C code stand-ins are no strings: what raises is not replayed
            program = None
        try:
            tree.insert(recording.observed, program)
            self._replays.pop(key, None)  # it is compiled when it is needed
        except Untraceable:  # the template does not do the same twice
            self._replays[key] = lambda *_: True

    def _refusal(self, conversation: Conversation, refusal: RefusedError, recording: Recording) -> Program[_Outcome]:
        """What refuses all conversations that agree with what was observed. Raises Untraceable."""
        cause = refusal.__cause__
        traced = self._variables(traced_conversation(conversation, recording))
        try:
            self._recorder.printed(traced, recording, held_back=self._held_back)
        except Exception as error:
            if type(error) is type(cause) and str(error) == str(cause):
                return Program((), str(refusal))
            raise
        raise Untraceable

    def _program(self, conversation: Conversation, rendering: Rendering, recording: Recording) -> Program[_Outcome]:
        """What prints all conversations that agree with what was observed. Raises Untraceable."""
        traced = self._variables(traced_conversation(conversation, recording))
        printed = self._recorder.printed(traced, recording, held_back=self._held_back)
        if printed.text != rendering.text:
            raise Untraceable
        printed.observe_marks()
        check_unprinted(printed, rendering, conversation)
        repeats: Counter[int] = Counter()
        for part in printed.parts:
            repeats.update(recording.steps.weights[part])
        if max(repeats.values(), default=0) > MAX_REPEATS:
            raise Untraceable
        points: list[Point] = []
        if self._asking:
            check_controls(printed, self.template, rendering)
            marks = places_of(rendering)
        else:
            prompts = Prompts(self.template, self._recorder, recording, self._variables(conversation), traced)
            marks, points = self._marks(conversation, rendering, printed, prompts)
        program: Program[_Outcome] = Program(printed.merged, marks, distances(printed, points))
        if marks.others is None and not self._asking:
            marks = replace(marks, others=Prefixes(self, conversation, recording, program).others())
        return replace(program, result=self._places_known.setdefault(astuple(marks), marks))

    def _marks(
        self, conversation: Conversation, rendering: Rendering, printed: Printed, prompts: Prompts
    ) -> tuple[SpanPlaces, list[Point]]:
        """The rendering's marks, and where spans begin and end, shown to be those of every conversation that takes this way.
        Raises Untraceable."""
        template, roles = self.template, [message["role"] for message in conversation.messages]
        marks = places_of(rendering)
        check_controls(printed, template, rendering)
        stays = stays_of(printed) if template.roles else []
        if template.roles:
            assistants = {message for message, role in enumerate(roles) if role == "assistant"}
            if template.misplaced.has_strays:
                stays = given(printed, stays, template, conversation)
            check_owners(printed, stays, assistants)
        trained = {message for message, role in enumerate(roles) if role in template.roles}
        turns = recorded_turns(printed, stays, trained)
        check_silence(printed, turns, rendering, trained)
        if {span.message for span in rendering.spans} != turns.keys() - {*rendering.silent}:
            raise Untraceable
        points = []
        for span in rendering.spans:
            turn = turns[span.message]
            prompt = prompts.before(span.message) if roles[span.message] == "assistant" else None
            points.append(start_of(printed, turn, span, prompt, template))
            check_first_control(printed, turn, span, rendering)
            points.append(stop_of(printed, turn, span, rendering, template))
        return marks, points


def _shape(conversation: Conversation) -> tuple[Any, ...]:
    """Roles, keys and types of a conversation's messages; types of its tools and variables.

    Of plain messages the role is enough: what follows the role of others is as many keys, in order, as types.
    """
    if conversation.plain_roles is not None:
        return conversation.plain_roles
    shape: list[Any] = [type(conversation.tools)]
    for message in conversation.messages:
        shape.append(message["role"])
        if tuple(message) != PLAIN or type(message["content"]) is not str:
            shape += message
            shape += map(type, message.values())
    if conversation.template_kwargs:
        shape.append(None)
        shape += conversation.template_kwargs
        shape += map(type, conversation.template_kwargs.values())
    return tuple(shape)


def _header(left: str, turn: str, own: int, prompt: str, tokens: re.Pattern[str]) -> tuple[int, str, str]:
    """Where the header of a turn begins, counted from the turn's beginning, what of the turn it holds, and all of it.

    own: up to where the turn is what the template itself wrote, in code points.
    """
    start = len(left)
    begin, end = header_of(left + turn, start, start + len(turn), prompt, tokens, [(start, start + own)])
    return begin - start, turn[: end - start], (left + turn)[begin:end]
