"""Conversation -> text, trained spans and control tokens, for any Hugging Face chat template as it is.

A run of the instrumented template says which text was printed for which message (`instrument`). From a turn the header
is taken away, found by asking the same template what it prints after the messages before, and what follows the
end-of-turn token (`turns`). A second run tells whose characters are whose (`writers`): text of a message may pass for a
control token, or be printed at another message's place (`misplaced`).
Cost: two runs a conversation; where the prompt depends on messages, one more for each trained turn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import cached_property
from typing import Any

from sftprep.errors import ConversationError, TemplateError
from sftprep.jinja.compiled import CompiledTemplate, MarkedText
from sftprep.jinja.message_marks import Mark
from sftprep.records.conversation import Conversation
from sftprep.records.said import says
from sftprep.template.control_tokens import ending_tokens, structural_tokens
from sftprep.template.misplaced import Misplaced, goes_on, holder_of, turns_of
from sftprep.template.probes import TALK
from sftprep.template.prompt import GenerationPrompts
from sftprep.template.turns import Ends, Rendering, Span, Stretch, end_of_turn, header_of, stretches, token_pattern
from sftprep.template.variables import Variables
from sftprep.template.writers import Part, Writers, utf_8, writers_of
from sftprep.workers.limits import LimitError


def open_template(
    source: str,
    special_tokens: Mapping[str, str],
    *,
    control_tokens: Collection[str],
    added_tokens: Collection[str] = (),
    known_controls: Collection[str] | None = None,
    end_of_turn: str | None = None,
    header: str | None = None,
    roles: Collection[str] = ("assistant",),
    forgeable: bool = True,
    template_kwargs: Mapping[str, Any] | None = None,
    now: datetime | None = None,
) -> ChatTemplate:
    """Compile a template, and find its control tokens.

    source: the Jinja template. special_tokens: bos_token, eos_token, ... as Transformers' `special_tokens_map` has them.
    control_tokens: the tokenizer's special tokens. added_tokens: all of its added tokens, special or not; those that
    begin or end turns of this template are control tokens too, and a header may end after any of them. They are found by
    running the template, unless `known_controls` has all of them.
    template_kwargs: template variables for all conversations; a conversation's own go before them.
    now: the date that `strftime_now` prints; a template that asks for it is refused without one. The rest: `ChatTemplate`.
    Raises TemplateError where it does not compile.
    """
    compiled, variables = CompiledTemplate(source, now), Variables({**special_tokens, **(template_kwargs or {})})
    named = {*control_tokens, *special_tokens.values()}
    tokens = frozenset({*named, *added_tokens})
    if known_controls is None:
        named = (named | {end_of_turn or ""}) - {""}
        misplaced = Misplaced(compiled, variables)
        prompts = GenerationPrompts(compiled, misplaced, token_pattern(tokens))
        known_controls = named | structural_tokens(compiled, variables, prompts, added_tokens)
    return ChatTemplate(
        compiled,
        variables,
        tokens,
        frozenset(known_controls),
        end_of_turn=end_of_turn,
        header=header,
        roles=roles,
        forgeable=forgeable,
    )


@dataclass(frozen=True, slots=True)
class Authors:
    """A text, and whose it is: as far as that can be told."""

    text: str
    marks: tuple[Mark, ...]  # which messages it was printed for, in text order
    parts: tuple[Part, ...]  # what is said in it, in text order


class ChatTemplate:
    """A chat template that tells what of its text is trained.

    added_tokens: the tokenizer's. control_tokens: those that no message may forge. end_of_turn, header: texts that
    override what is found. roles: whose messages get spans; with none, templates whose turns cannot be told apart are good
    enough. forgeable: whether it matters that messages spell control tokens; if not, templates that cannot be traced are
    good enough for what needs no turns.
    """

    def __init__(
        self,
        compiled: CompiledTemplate,
        variables: Variables,
        added_tokens: frozenset[str],
        control_tokens: frozenset[str],
        *,
        end_of_turn: str | None,
        header: str | None,
        roles: Collection[str],
        forgeable: bool,
    ) -> None:
        self.compiled, self.variables = compiled, variables
        self.added_tokens, self.tokens = added_tokens, token_pattern(added_tokens)
        self.control_tokens, self.controls = control_tokens, token_pattern(control_tokens)
        self.header, self.roles, self._end_of_turn = header, frozenset(roles), end_of_turn
        self.forgeable = forgeable
        self.misplaced = Misplaced(compiled, variables)
        self.prompts = GenerationPrompts(compiled, self.misplaced, self.tokens)

    @cached_property
    def ends(self) -> Ends:
        """The control tokens with which turns end."""
        known = ending_tokens(self.compiled, self.variables, self.controls)
        return Ends(self._end_of_turn, self.variables.constants.get("eos_token"), known)

    def render(self, conversation: Conversation) -> Rendering:
        """The text, exactly as Transformers' `apply_chat_template` gives it, and what of it is trained.

        Raises ConversationError if the template refuses the conversation or cannot be followed over it, TemplateError if
        turns of this template cannot be told apart, not even in plain talk.
        """
        try:
            return self._render(conversation)
        except TemplateError as error:
            if self._follows_talk:
                raise ConversationError(str(error)) from error
            raise

    def _render(self, conversation: Conversation) -> Rendering:
        by_turns = bool(self.roles)
        variables, marked, writers, controls = self._run(conversation, held_back=by_turns, traced=by_turns)
        marks = self.misplaced.attributed(variables, marked, writers) if self.roles else marked.marks
        messages, spans, others = variables["messages"], [], []
        saying = {index for index, message in enumerate(messages) if message["role"] in self.roles and says(message)}
        for message, turn in turns_of(marks, marked.text, messages, self.roles).items():
            for mark in turn:
                if mark is turn[0]:
                    begin, start, is_prompt = self._header(variables, mark, marked.text, writers)
                    others += [] if is_prompt or message == 0 else [message]  # nobody is asked for a first message
                elif (goes_on_at := goes_on(mark, writers, controls)) is None:
                    continue
                else:
                    begin = start = goes_on_at
                stop = end_of_turn(marked.text, start, mark.stop, controls, self.ends)
                if stop > start and (message not in saying or writers.speaks(message, mark.start, stop)):
                    spans.append(Span(message, start, stop, begin))
        spans.sort(key=lambda span: span.start)
        silent = sorted(saying - {span.message for span in spans})
        looked_at, printed = self.compiled.looked_at, {span.message for span in spans}
        is_known = looked_at is not None and min(printed, default=looked_at) >= looked_at
        known = tuple(sorted(printed.intersection(others))) if is_known else None
        return replace(self._rendering(marked.text, spans, controls, writers, silent), others=known)

    def render_blocks(self, conversation: Conversation) -> Rendering:
        """The text, and the template's `{% generation %}` blocks as spans: (start, stop) as Transformers counts them.

        Raises as `render` does, and TemplateError if the template has no such blocks.
        """
        if not self.compiled.has_blocks:
            raise TemplateError("the chat template has no {% generation %} blocks; add them, or use --mask turns")
        _, marked, writers, controls = self._run(conversation, held_back=True, traced=False)
        spans = [Span(holder_of(marked.marks, start), start, stop, start) for start, stop in marked.blocks]
        return self._rendering(marked.text, spans, controls, writers)

    def ask(self, conversation: Conversation) -> Rendering:
        """The text that a model sees which is to answer a conversation. Raises ConversationError if the template refuses."""
        _, marked, writers, controls = self._run(conversation, held_back=False, traced=False, asking=True)
        return self._rendering(marked.text, (), controls, writers)

    def authors(self, conversation: Conversation, *, asking: bool = False) -> Authors:
        """Of the text that the template prints of a conversation; asking: with the generation prompt. Raises ConversationError if
        the template refuses."""
        variables = {**self.variables.of(conversation), "add_generation_prompt": asking}
        try:
            marked = self.compiled.mark(variables)
        except TemplateError:
            marked = self.compiled.mark(variables, held_back=False)
        parts: list[Part] = []
        marks: Sequence[Mark] = marked.marks
        try:
            writers = writers_of(self.compiled, conversation, variables, utf_8(marked.text), parts)
            marks = self.misplaced.attributed(variables, marked, writers)
        except LimitError:
            raise
        except (ConversationError, TemplateError):
            pass
        return Authors(marked.text, tuple(marks), tuple(parts))

    def _run(
        self, conversation: Conversation, *, held_back: bool, traced: bool, asking: bool = False
    ) -> tuple[dict[str, Any], MarkedText, Writers, list[Stretch]]:
        """The variables of a run, both runs, and the control tokens that the template wrote: where that cannot be told all of
        them, if the text neither has to be `traced` for its turns nor for forged tokens."""
        traced |= self.forgeable
        variables = {**self.variables.of(conversation), "add_generation_prompt": asking}
        marked = self.compiled.mark(variables, held_back=held_back)
        text, marked = utf_8(marked.text), replace(marked, text="")
        try:
            writers = writers_of(self.compiled, conversation, variables, text)
        except LimitError:
            raise
        except ConversationError:
            if traced:
                raise
            writers = Writers([(0, len(text))])
        marked = replace(marked, text=text.decode("utf-8", "surrogatepass"))
        return variables, marked, writers, writers.controls(self.controls, marked.text, certain=traced)

    def speaks(self, conversation: Conversation, text: str) -> bool:
        """Whether any message says something in the text that was made of the conversation. Raises ConversationError where
        that cannot be told."""
        writers = writers_of(self.compiled, conversation, self.variables.of(conversation), utf_8(text))
        return bool(writers.said.places or writers.named.places)

    def _header(self, variables: Mapping[str, Any], mark: Mark, text: str, writers: Writers) -> tuple[int, int, bool]:
        """(start, stop) of a turn's header: the prompt for an assistant's; what comes before any message's text for another's.
        And whether the turn begins with all of the prompt."""
        if variables["messages"][mark.message]["role"] == "assistant":
            prompt = self.prompts.after(variables, mark.message) if self.header is None else self.header
            own = writers.before_words(mark.message, mark.start, mark.stop)
            begin, start = header_of(text, mark.start, mark.stop, prompt, self.tokens, own)
            return begin, start, begin == mark.start and text[begin:start] == prompt
        places = writers.said.places
        at = bisect_left(places, mark.start)
        said = at < len(places) and places[at] < mark.stop
        return mark.start, places[at] if said else len(text), True  # where nothing is said, nothing is trained

    def _rendering(
        self,
        text: str,
        spans: Sequence[Span],
        controls: Sequence[Stretch],
        writers: Writers,
        silent: Sequence[int] = (),
    ) -> Rendering:
        """controls: the control tokens that the template wrote; others in the text are forged."""
        forged = sorted(set(stretches(self.controls, text)).difference(controls))
        return Rendering(
            text, tuple(spans), tuple(controls), tuple(forged), silent=tuple(silent), unprinted=writers.unprinted
        )

    @cached_property
    def _follows_talk(self) -> bool:
        """Whether turns of plain talk can be told apart, so that it is a conversation's own fault if its cannot."""
        followed = False
        for messages in TALK:
            try:
                self._render(Conversation(messages, None, {}, None))
            except LimitError:
                raise
            except ConversationError:
                continue
            except TemplateError:
                return False
            followed = True
        return followed
