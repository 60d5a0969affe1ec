"""Is what is known of one conversation's text so of all that take the same way through the template?

`ChatTemplate.render` finds spans in a text, and what is left out of it. Here, with the text as literals and steps, each of its decisions is shown
to depend on literals alone, or what it depends on is observed, or the recording ends (Untraceable).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise
from operator import itemgetter

from sftprep.jinja.message_marks import Mark
from sftprep.records.conversation import Conversation
from sftprep.records.said import OF_NO_MESSAGE, SAID, TOOLS, kind_of
from sftprep.template.chat_template import ChatTemplate
from sftprep.template.misplaced import assistants_of
from sftprep.template.turns import Rendering, stretches
from sftprep.template.writers import Pieces, Writers
from sftprep.tracing.recorder import Printed
from sftprep.tracing.steps import Origin, Recording, Steps, Untraceable, origins_of

_Prints = Mapping[int, Sequence[tuple[int, Sequence[Origin]]]]  # by source: parts of the text, and what of it they hold


@dataclass(frozen=True, slots=True)
class Stay:
    """A stretch of places printed while the template was at one message."""

    message: int
    start: int
    stop: int


def stays_of(printed: Printed) -> list[Stay]:
    """Where the template was at which message, as `message_marks.marked_text` has it: stretches of one message are one stretch
    if there is no text between them."""
    stays: list[Stay] = []
    inside: list[int] = []
    since = 0
    for place, message in printed.events:
        if inside and place > since:
            last = next((stay for stay in reversed(stays) if any(printed.texts(stay.start, stay.stop))), None)
            if last and last.message == inside[-1] and not any(printed.texts(last.stop, since)):
                if last.stop < since:
                    raise Untraceable  # it depends on whether what is between is empty
                stays.remove(last)
                since = last.start
            stays.append(Stay(inside[-1], since, place))
        since = place
        if message is None:
            inside.pop()
        else:
            inside.append(message)
    return stays


def check_owners(printed: Printed, stays: Iterable[Stay], assistants: Collection[int]) -> None:
    """No assistant's text stands outside its stays, no other's inside."""
    holders = {part: stay.message for stay in stays for part in range(stay.start, stay.stop)}
    for part, step in enumerate(printed.parts):
        holder = holders.get(part, -1)
        for owner in printed.recording.steps.owners(step):
            if owner != holder and (owner in assistants or holder in assistants):
                raise Untraceable


def given(printed: Printed, stays: Iterable[Stay], template: ChatTemplate, conversation: Conversation) -> list[Stay]:
    """Stays with what is misplaced given to the message whose text it is, as `Misplaced.attributed` does; it counts in places
    here, of which no part between is ever empty. Raises Untraceable, and what that raises."""
    recording, steps, said = printed.recording, printed.recording.steps, Pieces()
    root, assistants = recording.input("messages"), assistants_of(conversation.messages)
    for message in range(min(assistants, default=0), len(conversation.messages)):
        if not recording.observe(
            recording.step("says({0})", recording.part("{0}[{1}]", root, recording.constant(message)))
        ):
            raise Untraceable  # it may be printed at another's place
    for part, step in enumerate(printed.parts):
        keys = [key for source in steps.sources[step] if (key := steps.key_of(source))]
        spoken = [_speaks(recording, step, message, SAID) for message, _ in keys]
        if any(key == "tool_calls" for _, key in keys) or not all(spoken):
            raise Untraceable
        if not keys and step not in steps.constants and not steps.forms[step].startswith("to_json("):
            raise Untraceable
        said.places.extend(part for _ in keys)
        said.owners.extend(sorted(message for message, _ in keys))
    is_nested = any(one is not None and other is not None for (_, one), (_, other) in pairwise(printed.events))
    if printed.held_back or is_nested:
        raise Untraceable
    marks = [Mark(stay.message, stay.start, stay.stop) for stay in stays]
    marks = list(template.misplaced.given(marks, lambda: printed.regions, Writers(said=said), assistants))
    return [Stay(mark.message, mark.start, mark.stop) for mark in marks]


def recorded_turns(printed: Printed, stays: Iterable[Stay], messages: Collection[int]) -> dict[int, Stay]:
    """The one stay of each of these messages in which more than white space is printed."""
    turns: dict[int, Stay] = {}
    for stay in stays:
        if stay.message in messages:
            texts = printed.texts(stay.start, stay.stop)
            if any(text and not text.isspace() for text in texts) and stay.message not in turns:
                turns[stay.message] = stay
            elif not all(text and text.isspace() for text in texts):
                raise Untraceable
    return turns


def check_silence(printed: Printed, turns: Mapping[int, Stay], rendering: Rendering, messages: Iterable[int]) -> None:
    """The same of these messages have something to say of which nothing is printed in every conversation that comes here."""
    recording, stops = printed.recording, {span.message: span.stop for span in rendering.spans}
    root = recording.input("messages")
    for message in sorted(messages):
        part = _spoken(printed, message, turns[message]) if message in turns else None
        if part is not None and printed.offsets[part] >= stops.get(message, 0):
            raise Untraceable  # it is printed behind the turn's end
        says = recording.step("says({0})", recording.part("{0}[{1}]", root, recording.constant(message)))
        if part is None and recording.observe(says) != (message in rendering.silent):
            raise Untraceable


def _spoken(printed: Printed, message: int, turn: Stay) -> int | None:
    """The first part of a turn that is, as `Writers.speaks` tells it, of what its message has to say; None if none is.

    It is so in every conversation that agrees on what is observed. Raises Untraceable where that cannot be seen.
    """
    unsure = False
    for part in range(turn.start, turn.stop):
        if message in printed.recording.steps.owners(printed.parts[part]):
            spoken = _speaks(printed.recording, printed.parts[part], message, (*SAID, "tool_calls"))
            if spoken:
                return part
            unsure |= spoken is None
    if unsure:
        raise Untraceable
    return None


def _speaks(recording: Recording, step: int, message: int, keys: Iterable[str]) -> bool | None:
    """Whether a text holds words of what a message has under these keys, which is observed; None where that cannot be told:
    white space is said, too, where it is made part of something."""
    steps, spoken = recording.steps, {(message, key) for key in keys}
    origins = origins_of(steps, step)
    said = [each.step for each in origins if each.of_what in spoken]
    mixed = [] if origins else [each for each in _texts_in(recording, step) if steps.key_of(each) in spoken]
    if any(has_words(recording, each) for each in said) or any(_keeps_words(recording, step, each) for each in mixed):
        return True
    return False if said == [step] or mixed else None


def check_unprinted(printed: Printed, rendering: Rendering, conversation: Conversation) -> None:
    """The same of what they say is left out of the text of every conversation that comes here."""
    prints: dict[int, list[tuple[int, list[Origin]]]] = {}
    steps = printed.recording.steps
    for part in dict.fromkeys(printed.parts):
        origins = origins_of(steps, part)
        for source in steps.sources[part]:
            own = [origin for origin in origins if origin.source == source]
            prints.setdefault(source, []).append((part, own))
    found = {
        (message, kind)
        for kind, message, values in _sayings(printed.recording, conversation, prints)
        if _is_left_out(printed.recording, values, prints)
    }
    if rendering.unprinted != tuple((kind, message) for message, kind in sorted(found)):
        raise Untraceable


def _sayings(recording: Recording, conversation: Conversation, prints: _Prints) -> Iterator[tuple[str, int, list[int]]]:
    """What every conversation that comes here says: kind, message, and the steps that are its values."""
    if conversation.tools is not None:
        yield TOOLS, OF_NO_MESSAGE, [recording.input("tools")]
    root = recording.input("messages")
    for index, message in enumerate(conversation.messages):
        at, thoughts = recording.part("{0}[{1}]", root, recording.constant(index)), []
        for key, value in message.items():
            kind = kind_of(message["role"], key)
            if kind is None:
                continue
            step = recording.part("{0}[{1}]", at, recording.constant(key))
            if kind == "reasoning":
                thoughts.append(step)
            elif type(value) is list and step in prints:
                many = recording.observe(recording.step("len({0})", step))
                for item in range(many):
                    yield kind, index, [recording.part("{0}[{1}]", step, recording.constant(item))]
            else:
                yield kind, index, [step]
        if thoughts:
            yield "reasoning", index, thoughts


def _is_left_out(recording: Recording, values: Sequence[int], prints: _Prints) -> bool:
    """Whether these values, which are one saying, have words and none of them is printed."""
    steps, unsure = recording.steps, False
    looked_at: list[tuple[Origin, bool]] = []
    for value in values:
        (source,) = steps.sources[value]
        for part, origins in prints.get(source, ()):
            if not origins and value in _texts_in(recording, part):
                if _keeps_words(recording, part, value):
                    return False
            else:
                unsure |= not origins
            for origin in origins:
                if origin.whole in (value, source) and len(values) == 1:
                    return False  # all that it says, if it says anything, is printed
                if value in (source, origin.item):
                    looked_at.append((origin, origin.step == part))
                unsure |= value != source and origin.item is None
    for origin, bare in looked_at:
        if has_words(recording, origin.step):
            return False
        unsure |= not bare  # white space is printed as something else where it is made part of it
    if not any(has_words(recording, value) for value in values):
        return False
    if unsure:
        raise Untraceable
    return True


def has_words(recording: Recording, step: int) -> bool:
    """Whether a value has words, which is observed."""
    return bool(recording.observe(recording.step("has_words({0})", step)))


def _texts_in(recording: Recording, step: int) -> list[int]:
    """The sources of a step, if all of them are texts."""
    sources = sorted(recording.steps.sources[step])
    return sources if all(type(recording.values[source]) is str for source in sources) else []


def _keeps_words(recording: Recording, step: int, source: int) -> bool:
    """Whether a text that is made of a source and of more has any word of that; observed. Raises Untraceable."""
    leaves: list[int] = []
    form = f"keeps_words({recording.steps.followed(step, source, leaves)})"
    return bool(recording.observe(recording.step(form, *leaves)))


def is_said(steps: Steps, step: int) -> bool:
    """Whether a step is a text that a message says."""
    key = steps.key_of(step)
    return key is not None and key[1] in SAID


def check_controls(printed: Printed, template: ChatTemplate, rendering: Rendering) -> None:
    """Control tokens stand in what the template itself writes, which never ends with the beginning of one."""
    begun = _beginnings(template.control_tokens)
    found = []
    for start, stop in printed.runs():
        text, offset = printed.literal(start, stop), printed.offsets[start]
        found += [(offset + begin, offset + end) for begin, end in stretches(template.controls, text)]
        if stop < len(printed.parts) and text.endswith(begun.get(text[-1], ())):
            raise Untraceable
    if tuple(found) != rendering.controls:
        raise Untraceable


@lru_cache(maxsize=8)
def _beginnings(tokens: frozenset[str]) -> dict[str, tuple[str, ...]]:
    """What tokens begin with, by its last character."""
    begun = sorted({token[:length] for token in tokens for length in range(1, len(token))}, key=itemgetter(-1))
    return {last: tuple(texts) for last, texts in groupby(begun, key=itemgetter(-1))}
