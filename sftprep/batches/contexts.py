"""Is a turn trained behind what a server shows a model that is asked for it, and as what the model answers then?

Many templates print the past in another way than the present (they drop earlier reasoning), so in a whole conversation some
turns stand in another context than they are asked for in. `others` finds those. `examples` makes of a conversation as few
as give each trained turn its own context: a conversation that ends with a turn serves that turn, and those before it that
are printed as they were when they came last. The latest turn that no example serves yet ends the next one: as a turn is
served from its own place on up to some later one, no fewer would do.
Cost: nothing where the template prints each message without looking at later ones; else two renderings for each turn, of
the conversation up to it and with it, mostly replayed.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from sftprep.batches.templates import Templates
from sftprep.errors import ConversationError
from sftprep.jinja.compiled import MOST_CHARS
from sftprep.records.conversation import Conversation, Served
from sftprep.template.served import is_answer
from sftprep.template.turns import NOTHING_TOLD, Rendering, Told

Printed = tuple[str, Told]
Weights = npt.NDArray[np.float32]  # (M,) of each message
_LONG = 1 << 18  # characters
_FREE = 1 << 16  # characters that may be rendered by Jinja to know a conversation's contexts, beside as many as it has


@dataclass(frozen=True, slots=True)
class Examples:
    """What a conversation is trained as."""

    conversations: tuple[Conversation, ...]  # each with weights for the turns that it serves; or itself
    others: int  # trained turns that none of them shows in the context in which they are asked for
    characters: int  # that they are printed as


class Contexts:
    """The contexts of one conversation's turns.

    unknown: turns that were not looked at, because that would have taken too much time.
    """

    def __init__(self, templates: Templates, conversation: Conversation) -> None:
        self._templates, self._conversation = templates, conversation
        self._asked: dict[int, str | None] = {}
        self._told: dict[int, Printed | None] = {}
        self.unknown = 0

    def others(self, weights: Weights, printed: Printed) -> list[int]:
        """The trained turns of the assistant that stand in another context in the whole conversation than they are asked for
        in, or are another text there. printed: of the whole conversation."""
        is_long = len(printed[0]) >= _LONG  # it need not be in memory again
        most = -1 if is_long else self._templates.by_jinja + len(printed[0]) + _FREE
        self._told[len(self._conversation.messages)] = printed
        return self._others(weights, len(self._conversation.messages), most)

    def dropped_reasoning(self, turns: list[int], printed: Printed) -> int:
        """How many of these turns are printed without their reasoning, and with it while they come last."""
        _, (places, _) = printed
        without = [turn for turn in turns if ("reasoning", turn) in places.unprinted]
        told = [(turn, self._tell(turn + 1)) for turn in without]
        return sum(then is not None and ("reasoning", turn) not in then[1][0].unprinted for turn, then in told)

    def examples(self, weights: Weights) -> Examples:
        """What serves each turn that has a weight, and trains it once.

        Raises ConversationError where that is too much text, or the template refuses the conversation.
        """
        whole, count = self._conversation, len(self._conversation.messages)
        printed: Printed | None
        self._told[count] = printed = self._templates.render_fast(whole)[:2]
        if not self._others(weights, count):
            return Examples((whole,), 0, len(printed[0]))
        rest, found, others, size = set(np.flatnonzero(weights).tolist()), [], 0, 0
        while rest:
            last, served = max(rest), None
            stop = last + 1 if self._tell(last + 1) else count  # where it may not end so, the rest is trained as it is
            text, (places, _) = self._told[stop] or ("", NOTHING_TOLD)
            differing = set(self._others(weights, stop))
            if stop == last + 1:
                served = self._served(last, differs=last in differing)
                others += last in differing and served is None
                here = rest - differing | {last}
                if served and served.asked:
                    here = {turn for turn in here if turn == last or self._is_within(turn, last)}
            else:
                here, others = rest, others + len(rest & differing)
            size += len(text)
            if size > MOST_CHARS:
                raise ConversationError(
                    f"to serve all of its turns takes more than {MOST_CHARS:,} characters; --contexts whole takes it"
                )
            if not here.isdisjoint(places.message):
                given = tuple(float(weights[turn]) if turn in here else 0.0 for turn in range(stop))
                messages = [dict(message) for message in whole.messages[:stop]]  # one may be forgotten before another
                found.append(replace(whole.until(stop), messages=messages, weights=given, served=served))
            rest = rest - here
        return Examples(tuple(reversed(found)), others, size)

    def _others(self, weights: Weights, count: int, most: int | None = None) -> list[int]:
        """As `others`, in the text of the first `count` messages. most: what `Templates.by_jinja` may reach."""
        messages, printed = self._conversation.messages, self._told[count]
        if printed is None:
            return []
        _, (places, _) = printed
        if places.others is not None:
            return [turn for turn in places.others if weights[turn]]
        found = []
        for turn in np.flatnonzero(weights[:count]).tolist():
            if turn > 0 and messages[turn]["role"] == "assistant":  # nobody is asked for a first message
                if most is not None and self._templates.by_jinja > most:
                    self.unknown += 1
                elif not self._is_served(turn, count):
                    found.append(turn)
        return found

    def _is_served(self, turn: int, count: int) -> bool:
        """Whether the text of the first `count` messages has a turn in its context, and as it was when it came last."""
        asked, now = self._ask(turn), self._rendering(count)
        spans = [span for span in now.spans if span.message == turn]
        if not asked:
            return True  # nobody is asked so
        if spans and asked != now.text[: spans[0].start]:
            return False
        if turn == count - 1 or self._tell(turn + 1) is None:
            return True
        *same, last = _texts(self._rendering(turn + 1), turn) or [""]
        *others, later = _texts(now, turn) or [""]
        end = later.removeprefix(last)  # a template may end a turn by the next message's first token
        return same == others and later.startswith(last) and (not end or end in self._templates.control_tokens)

    def _served(self, turn: int, *, differs: bool) -> Served | None:
        """What it takes to have a turn, which comes last, as it is served; None where it takes nothing, or cannot be."""
        _, (places, _) = self._told[turn + 1] or ("", NOTHING_TOLD)
        if turn not in places.message or not (differs or places.is_open):
            return None
        rendering, end = self._rendering(turn + 1), ""
        if not _end_of(rendering, turn) and turn + 2 <= len(self._conversation.messages) and self._tell(turn + 2):
            end = _end_of(self._rendering(turn + 2), turn)
        if differs:
            asked = self._ask(turn)
            tokens = self._templates.tokens(self._conversation)
            return Served(True, end) if asked and is_answer(rendering, asked, tokens) else None
        return Served(False, end) if end else None

    def _is_within(self, turn: int, last: int) -> bool:
        """Whether a turn stands the same in what a server shows that asks for a later one."""
        rendering, asked = self._rendering(last + 1), self._ask(last) or ""
        return all(asked.startswith(rendering.text[: span.stop]) for span in rendering.spans if span.message == turn)

    def _ask(self, turn: int) -> str | None:
        """What a model sees that is asked for a turn; None where the template refuses."""
        if turn not in self._asked:
            try:
                self._asked[turn] = self._templates.asked_for(self._conversation, turn)
            except ConversationError:
                self._asked[turn] = None
        return self._asked[turn]

    def _tell(self, count: int) -> Printed | None:
        """What is printed of the first messages; None where the template refuses."""
        if count not in self._told:
            try:
                self._told[count] = self._templates.render_fast(self._conversation.until(count))[:2]
            except ConversationError:
                self._told[count] = None
        return self._told[count]

    def _rendering(self, count: int) -> Rendering:
        """Of the first messages, which the template does not refuse."""
        text, told = self._told[count] or ("", NOTHING_TOLD)
        return self._templates.rendering_of(self._conversation.until(count), text, told)


def _texts(rendering: Rendering, message: int) -> list[str]:
    return [rendering.text[span.start : span.stop] for span in rendering.spans if span.message == message]


def _end_of(rendering: Rendering, message: int) -> str:
    """The control token with which what is trained of a message ends; "" if it ends with none."""
    stop = max((span.stop for span in rendering.spans if span.message == message), default=0)
    return next((rendering.text[begin:end] for begin, end in rendering.controls if end == stop), "")
