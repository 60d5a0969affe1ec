"""Messages printed while the template was at another message, or at none.

Some templates print an answer when they come to the next question, or a tool's result beside its call, or the last
message after the loop. What such a template prints for the other message stands, if it can be told at all, in a branch
of its own: the largest branch whose text is all of one message. Branches that ever held two messages' text do not count.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any

from sftprep.errors import ConversationError, TemplateError
from sftprep.jinja.compiled import CompiledTemplate, MarkedText
from sftprep.jinja.message_marks import Mark, Region, append_mark
from sftprep.records.conversation import Conversation
from sftprep.records.said import says
from sftprep.template.probes import ONE_TOOL, OTHERS, TALK, Messages, with_tools
from sftprep.template.turns import NOT_BLANK, Stretch
from sftprep.template.variables import Variables
from sftprep.template.writers import Writers, utf_8, writers_of
from sftprep.workers.limits import LimitError

Message = Mapping[str, Any]
REMEDY = (
    "; use --mask scan with --scan-header and --scan-end, or --mask generation if blocks of it can tell turns apart"
)


def strays(
    marks: Sequence[Mark], writers: Writers, assistants: Collection[int], *, quoted: bool = True
) -> list[tuple[int, int]]:
    """(code point, index of the message whose text it is) of characters of an assistant message outside its marks, and
    of another message inside an assistant's; if not quoted, of such only as stand nowhere in their own."""
    starts = [mark.start for mark in marks]
    found, at_home = [], set()
    for place, owner in zip(writers.said.places, writers.said.owners, strict=True):
        at = bisect_right(starts, place) - 1
        holder = marks[at].message if at >= 0 and place < marks[at].stop else None
        if holder == owner:
            at_home.add(owner)
        elif owner in assistants or holder in assistants:
            found.append((place, owner))
    return [(place, owner) for place, owner in found if quoted or owner in assistants or owner not in at_home]


def mixed_places(regions: Sequence[Region], writers: Writers) -> set[int]:
    """Branches that hold text of several messages."""
    return {region.place for region in regions if len(writers.said.owners_in(region.start, region.stop)) > 1}


def attribute(
    marks: Sequence[Mark],
    regions: Sequence[Region],
    writers: Writers,
    misplaced: Sequence[tuple[int, int]],
    mixed: Collection[int],
) -> list[Mark]:
    """Marks with the branch of each of the strays given to the message it is of. Raises TemplateError where there is none."""
    moved: dict[tuple[int, int], int] = {}
    for place, owner in misplaced:
        low, high = _bounds(marks, place)
        homes = [
            region
            for region in regions
            if low <= region.start <= place < region.stop <= high
            and region.place not in mixed
            and writers.said.owners_in(region.start, region.stop) == {owner}
        ]
        if not homes:
            around = [region for region in regions if region.start <= place < region.stop]
            line = min(around, key=lambda region: region.stop - region.start).line if around else None
            raise TemplateError(_unattributable(line))
        home = max(homes, key=lambda region: region.stop - region.start)
        moved[home.start, home.stop] = owner
    return _overlaid(marks, [Mark(owner, start, stop) for (start, stop), owner in moved.items()])


def _unattributable(line: int | None) -> str:
    where = f"chat template, in the branch at line {line}" if line else "chat template, outside all branches"
    return f"{where}: text of a message is printed while the template is at another one or at none, in no branch of its own{REMEDY}"


def _bounds(marks: Sequence[Mark], place: int) -> tuple[int, int]:
    """The mark, or the gap between marks, around a character."""
    starts = [mark.start for mark in marks]
    at = bisect_right(starts, place) - 1
    if at >= 0 and place < marks[at].stop:
        return marks[at].start, marks[at].stop
    return (marks[at].stop if at >= 0 else 0), (starts[at + 1] if at + 1 < len(starts) else 1 << 62)


def _overlaid(marks: Sequence[Mark], moved: list[Mark]) -> list[Mark]:
    """Marks with the moved ones cut out of them and added."""
    kept: list[Mark] = []
    for mark in marks:
        since = mark.start
        for hole in sorted((m for m in moved if mark.start <= m.start and m.stop <= mark.stop), key=lambda m: m.start):
            kept.append(replace(mark, start=since, stop=hole.start))
            since = hole.stop
        kept.append(replace(mark, start=since))
    kept = [mark for mark in kept if mark.stop > mark.start]
    return sorted([*kept, *moved], key=lambda mark: mark.start)


def assistants_of(messages: Sequence[Message]) -> set[int]:
    """Indexes of the messages of the assistant."""
    return {index for index, message in enumerate(messages) if message["role"] == "assistant"}


def turns_of(
    marks: Sequence[Mark], text: str, messages: Sequence[Message], roles: Collection[str]
) -> dict[int, list[Mark]]:
    """By message of these roles that printed more than white space, its marks: several where other messages' cut in."""
    turns: dict[int, list[Mark]] = {}
    for mark in marks:
        if messages[mark.message]["role"] in roles and NOT_BLANK.search(text, mark.start, mark.stop):
            others = turns.setdefault(mark.message, [])
            if others and (mark.run < 0 or mark.run != others[-1].run):
                raise _two_places(mark.message)
            others.append(mark)
    return turns


def _two_places(message: int) -> TemplateError:
    return TemplateError(
        f"chat template: message {message} is printed in two places, so that it has no one turn{REMEDY}"
    )


def goes_on(mark: Mark, writers: Writers, controls: Sequence[Stretch]) -> int | None:
    """Where a turn goes on, in code points, that other messages have cut in two: at its own words; None if there are none.

    Raises TemplateError where the template writes control tokens before them: these may be its own, or another header.
    """
    starts = [pieces.first_of(mark.message, mark.start, mark.stop) for pieces in (writers.said, writers.named)]
    start = min((start for start in starts if start is not None), default=None)
    at = bisect_left(controls, (mark.start, mark.start))
    if start is not None and at < len(controls) and controls[at][0] < start:
        raise _two_places(mark.message)
    return start


def _without_lookups(marks: Sequence[Mark], writers: Writers, text: str) -> list[Mark]:
    """Marks inside another message's mark that hold no word of their own, which stands elsewhere, given to that message."""
    at_home = {mark.message for mark in marks if not mark.around and NOT_BLANK.search(text, mark.start, mark.stop)}
    found: list[Mark] = []
    for mark in marks:
        said = mark.message in writers.said.owners_in(mark.start, mark.stop)
        if mark.around and mark.message in at_home and not said:
            message, run = mark.around
            mark = replace(mark, message=message, run=run, around=None)
        append_mark(found, mark)
    return found


def holder_of(marks: Sequence[Mark], place: int) -> int:
    """The message at whose place a generation block begins."""
    for mark in marks:
        if mark.start <= place <= mark.stop:
            return mark.message
    raise TemplateError(
        "chat template: a {% generation %} block outside every loop over messages; use --mask scan with --scan-header and --scan-end"
    )


class Misplaced:
    """Tells which of a template's text is of which message, where that is not the one it was at."""

    def __init__(self, compiled: CompiledTemplate, variables: Variables) -> None:
        self._compiled, self._variables = compiled, variables

    def attributed(self, variables: Mapping[str, Any], marked: MarkedText, writers: Writers) -> Sequence[Mark]:
        """The marks of a run, with what is misplaced given to the message whose text it is. Raises as `attribute` does, and
        ConversationError where an answer cannot be found at all."""
        messages = variables["messages"]
        assistants = assistants_of(messages)
        marks: Sequence[Mark] = _without_lookups(marked.marks, writers, marked.text)
        marks = self.given(marks, lambda: self.detailed.mark(variables).regions, writers, assistants)
        if self.has_strays:
            printed = {mark.message for mark in marks if NOT_BLANK.search(marked.text, mark.start, mark.stop)}
            wordless = {index for index, message in enumerate(messages) if not says(message)}
            lost = {index for index in wordless - printed if index >= min(assistants, default=index + 1)}
            lost = {index for index in lost if self._text_without(variables, index) != marked.text}
            if lost:  # it may have been printed at an assistant's place, or an assistant's at another's
                raise ConversationError(
                    f"message {min(lost)} has no text by which to find it in what the chat template prints{REMEDY}"
                )
        return marks

    def given(
        self,
        marks: Sequence[Mark],
        regions: Callable[[], Sequence[Region]],
        writers: Writers,
        assistants: Collection[int],
    ) -> Sequence[Mark]:
        """Marks with what is misplaced given to the message whose text it is. It does not matter in what places are counted.
        Raises as `attribute` does."""
        found = strays(marks, writers, assistants, quoted=self.has_strays)
        return attribute(marks, regions(), writers, found, self._mixed) if found else marks

    def _text_without(self, variables: Mapping[str, Any], message: int) -> str | None:
        """What the template prints where this message is left out; None where it refuses that."""
        others = [each for index, each in enumerate(variables["messages"]) if index != message]
        try:
            return self._compiled.mark({**variables, "messages": others}, held_back=False).text
        except LimitError:
            raise
        except ConversationError:
            return None

    @cached_property
    def detailed(self) -> CompiledTemplate:
        """The template, compiled so that a run also says which branches it takes."""
        return self._compiled.with_branches()

    @cached_property
    def _mixed(self) -> set[int]:
        """Branches that hold several messages' text."""
        mixed: set[int] = set()
        for marked, writers, _ in self._probe(self.detailed):
            mixed |= mixed_places(marked.regions, writers)
        return mixed

    @cached_property
    def has_strays(self) -> bool:
        """Whether the template prints messages at other messages' places, if only in some conversations."""
        return any(
            strays(marked.marks, writers, assistants_of(messages))
            for marked, writers, messages in self._probe(self._compiled)
        )

    def _probe(self, template: CompiledTemplate) -> list[tuple[MarkedText, Writers, Messages]]:
        """What the template, in one of its compiled forms, does with the probes; those that it refuses are left out."""
        found = []
        for messages in (*TALK, *ONE_TOOL, *OTHERS):
            conversation = Conversation(messages, with_tools(messages), {}, None)
            variables = self._variables.of(conversation)
            try:
                marked = template.mark(variables)
                writers = writers_of(self._compiled, conversation, variables, utf_8(marked.text))
                found.append((marked, writers, variables["messages"]))
            except LimitError:
                raise
            except ConversationError:
                continue
        return found
