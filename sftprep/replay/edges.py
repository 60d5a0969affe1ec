"""Where do trained spans begin and end in every conversation that takes one way through the template?

As in `proof`, what an edge depends on is shown to be literal, or observed, or the recording ends (Untraceable). An edge is
a point of what was printed: a place, and code points from there on.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sftprep.replay.proof import Stay, is_said
from sftprep.template.chat_template import ChatTemplate
from sftprep.template.turns import Rendering, Span, ending_control, pieces_of
from sftprep.tracing.recorder import Printed, concatenation
from sftprep.tracing.steps import Untraceable

Point = tuple[int, int]
_STRIP = re.compile(r"\{0\}\.l?strip\((\{1\})?\)")


def start_of(printed: Printed, stay: Stay, span: Span, prompt: str | None, template: ChatTemplate) -> Point:
    """Where the span of a turn begins in every conversation: behind its header. prompt: what the turn answers; None: it is
    no assistant's."""
    point = _first_word(printed, stay) if prompt is None else _end_of_header(printed, stay, span, prompt, template)
    if _code_point(printed, point) != span.start:
        raise Untraceable
    return point


def _code_point(printed: Printed, point: Point) -> int:
    return printed.offsets[point[0]] + point[1]


def check_first_control(printed: Printed, stay: Stay, span: Span, rendering: Rendering) -> None:
    """The last control token before a span is in its header, or ends where it begins, either always or never."""
    behind = [stop for _, stop in rendering.controls if stop <= span.start]
    since = printed.offsets[printed.run_at(stay.start)[0]]
    if behind and behind[-1] <= since and (span.turn < since or span.start == since):
        raise Untraceable


def _end_of_header(printed: Printed, stay: Stay, span: Span, prompt: str, template: ChatTemplate) -> Point:
    """As `turns.header_of` looks for it."""
    before, after = printed.run_at(stay.start)
    after = min(after, stay.stop)
    left, right = printed.literal(before, stay.start), printed.literal(stay.start, after)
    if not right.startswith(prompt):
        since = _last_place(printed, stay, after, prompt, template)
        if (before > 0 and len(left) < len(prompt)) or (after < stay.stop and _is_short(right[since:], prompt)):
            _observe_header(printed, stay, after, since, prompt, template)
    return stay.start, span.start - printed.offsets[stay.start]


def _last_place(printed: Printed, stay: Stay, after: int, prompt: str, template: ChatTemplate) -> int:
    """Where in the turn the template itself last begins to write the prompt, in code points of the turn; 0 if it does not.
    Raises Untraceable where that may be from `after` on, the place from which the turn depends on the conversation."""
    right, pieces = printed.literal(stay.start, after), pieces_of(prompt, template.tokens)
    if not pieces:
        return 0
    words, squeezed = pieces[0].words, "".join(prompt.split())
    found = list(words.finditer(right))
    tail = "".join(right[found[-1].end() if found else 0 :].split())
    begun = after < stay.stop and any(tail.endswith(squeezed[:length]) for length in range(1, len(squeezed)))
    later = (
        max(start, after)
        for start, stop in printed.runs()
        if stop > after and words.search(printed.literal(max(start, after), max(min(stop, stay.stop), after)))
    )
    first = next(later, after)
    if begun or (first > after and not any(_says_words(printed, part) for part in range(after, first))):
        raise Untraceable
    return found[-1].start() if found else 0


def _says_words(printed: Printed, part: int) -> bool:
    """Whether a part of an answer is known to hold a word that its message says; what it depends on is observed."""
    recording, step = printed.recording, printed.parts[part]
    steps, form = recording.steps, recording.steps.forms[step]
    if is_said(steps, steps.operands[step][0] if _STRIP.fullmatch(form) else step):
        return bool(recording.observe(recording.step("{0}.strip() != ''", step)))
    if not form.startswith("to_json(") or not steps.owners(step):
        return False
    given = steps.operands[step][0]
    if steps.forms[given] != "{0}[{1}]" or steps.constants.get(steps.operands[given][1]) != "arguments":
        return False
    is_object = recording.observe(recording.step("{0}.startswith({1})", step, recording.constant('{"')))
    return is_object and bool(recording.observe(recording.step("{0}[2:3].isalnum()", step)))


def _is_short(text: str, prompt: str) -> bool:
    """Whether what follows the text may have a part in its likeness to the prompt, white space aside."""
    return len("".join(text.split())) <= len("".join(prompt.split()))


def _observe_header(printed: Printed, stay: Stay, after: int, since: int, prompt: str, template: ChatTemplate) -> None:
    """What the header is depends on the conversation: observe it, in as much text as `turns.header_of` looks at.

    after: the first place in the turn up to which it is literal. since: see `_last_place`.
    """
    start, left = stay.start, ""
    while start > 0 and len(left) < len(prompt):
        start -= 1
        left += printed.texts(start, start + 1)[0] or ""
    stop, right = stay.start, ""
    while stop < stay.stop and _is_short(right[since:], prompt):
        right += printed.texts(stop, stop + 1)[0] or ""
        stop += 1
    tokens = [token for text in printed.texts(after, stop) for token in template.controls.findall(text or "")]
    if any(token in prompt for token in tokens):
        raise Untraceable  # it would have to be known on which side of the header's end it stands
    recording = printed.recording
    window = (
        concatenation(recording, printed.parts[start : stay.start]),
        concatenation(recording, printed.parts[stay.start : stop]),
    )
    own = len(printed.literal(stay.start, after))
    constants = (recording.constant(own), recording.constant(prompt))
    recording.observe(recording.step("header({0}, {1}, {2}, {3})", *window, *constants))


def _first_word(printed: Printed, stay: Stay) -> Point:
    """The first word of a message, before which all is literal."""
    part = next((part for part in range(stay.start, stay.stop) if not printed.is_literal(part)), stay.stop)
    if part == stay.stop:
        raise Untraceable
    recording, step = printed.recording, printed.parts[part]
    text = recording.steps.operands[step][0] if _STRIP.fullmatch(recording.steps.forms[step]) else step
    if not is_said(recording.steps, text) or not recording.observe(recording.step("{0}[:1].strip() != ''", step)):
        raise Untraceable
    return part, 0


def stop_of(printed: Printed, stay: Stay, span: Span, rendering: Rendering, template: ChatTemplate) -> Point:
    """Where the span of a turn ends in every conversation: with the control token that `turns.ending_control` chooses."""
    text, stop = printed.text, printed.offsets[stay.stop]
    inside = [control for control in rendering.controls if span.start <= control[0] and control[1] <= stop]
    behind = [control for control in rendering.controls if control[0] >= stop][:1]
    rest = _between(printed, inside[-1][1], stay.stop) if inside else []

    def following(*, blank: bool) -> str:
        if not behind:
            return ""
        part = printed.part_at(behind[0][0])
        own = text[printed.offsets[part] : behind[0][0]]
        return text[slice(*behind[0])] if _is_nothing([*printed.texts(stay.stop, part), own], blank=blank) else ""

    texts = [text[slice(*control)] for control in inside]
    found = ending_control(texts, following, lambda: _is_nothing(rest, blank=True), template.ends)
    if found is None:
        after = printed.texts(stay.stop, len(printed.parts))
        if (None in rest and not any(rest)) or (after and not any(after)):
            raise Untraceable  # the last control token, or the text, may end there, too
        point = stay.stop, 0
    else:
        control = [*inside, *behind][found]
        part = printed.part_at(control[1] - 1)
        point = part, control[1] - printed.offsets[part]
    if _code_point(printed, point) != span.stop:
        raise Untraceable
    return point


def _between(printed: Printed, offset: int, place: int) -> list[str | None]:
    """What is printed between the end of a control token, in code points, and a place; None for texts made of the conversation."""
    part = printed.part_at(offset - 1)
    return [printed.text[offset : printed.offsets[part + 1]], *printed.texts(part + 1, place)]


def _is_nothing(texts: Sequence[str | None], *, blank: bool) -> bool:
    """Whether these texts are empty, or white space if `blank`. Raises Untraceable where that depends on the conversation."""
    own = "".join(text for text in texts if text)
    if (own.strip() if blank else own) != "":
        return False
    if None in texts:
        raise Untraceable
    return True


def distances(printed: Printed, points: Sequence[Point]) -> tuple[tuple[int, tuple[int, ...]], ...]:
    """From each point to the next, the first from the text's beginning: code points, and steps whose lengths are added."""
    found, last = [], (0, 0)
    for point in points:
        (since, before), (place, behind) = last, point
        texts = printed.texts(since, place)
        steps = tuple(step for step, text in zip(printed.parts[since:place], texts, strict=True) if text is None)
        found.append((sum(len(text) for text in texts if text) + behind - before, steps))
        last = point
    return tuple(found)
