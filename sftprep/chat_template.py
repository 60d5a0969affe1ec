"""Conversation -> text, trained spans and control tokens, for any Hugging Face chat template as it is.

A run of the instrumented template says which text was printed for which message (`instrument`). From a turn the header
is taken away, found by asking the same template what it prints after the messages before, and what follows the
end-of-turn token (`turns`). Where text of a message might pass for a control token, or might have been printed at
another message's place, a second run tells whose characters are whose (`provenance`, `attribution`).
Cost: one run a conversation, two in those cases; where the prompt depends on messages, one more for each trained turn.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from functools import cached_property
from typing import Any

from sftprep.attribution import (
    assistants_of,
    attribute,
    holder_of,
    in_doubt,
    mixed_places,
    strays,
    turns_of,
)
from sftprep.compiled_template import MOST_CHARS, CompiledTemplate, MarkedText
from sftprep.conversations import Conversation, set_aside
from sftprep.errors import ConversationError, TemplateError
from sftprep.limits import LimitError
from sftprep.probes import ONE_TOOL, OTHERS, QUESTION, TALK, Messages, with_tools
from sftprep.provenance import UNTRACEABLE, Provenance, Tracer, controls_in, utf_8
from sftprep.structural import structural_tokens
from sftprep.trail import Mark
from sftprep.turns import Rendering, Span, Stretch, end_of_turn, header_of, shared_length, stretches, token_pattern

_RESERVED = frozenset({"messages", "tools", "add_generation_prompt"})
_REASONING = ("reasoning_content", "thinking", "reasoning")
_MAX_PROMPTS = 1024
_LONG = 1 << 18  # bytes: less is nothing to save memory of
_MOST_MARKED = 4 * MOST_CHARS  # codes of words do not count towards what a template may print


class ChatTemplate:
    """A chat template that tells what of its text is trained.

    source: the Jinja template. special_tokens: bos_token, eos_token, ... as Transformers' `special_tokens_map` has them.
    control_tokens: the tokenizer's special tokens. added_tokens: all of its added tokens, special or not; those that
    begin or end turns of this template are control tokens too (`self.control_tokens` has them all), and a header may end
    after any of them. They are found by running the template, unless `known_controls` has all of them.
    end_of_turn, header: texts that override what is found. roles: whose messages get spans; with none, templates whose
    turns cannot be told apart are good enough.
    template_kwargs: template variables for all conversations; a conversation's own go before them.
    now: the date that `strftime_now` prints; a template that asks for it is refused without one.
    """

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str],
        *,
        control_tokens: Collection[str],
        added_tokens: Collection[str] = (),
        known_controls: Collection[str] | None = None,
        end_of_turn: str | None = None,
        header: str | None = None,
        roles: Collection[str] = ("assistant",),
        template_kwargs: Mapping[str, Any] | None = None,
        now: datetime | None = None,
    ) -> None:
        self.source = source
        self.now = now
        self.end_of_turn = end_of_turn
        self.header = header
        self.roles = frozenset(roles)
        self.compiled = CompiledTemplate(source, now)
        self._constants = {**special_tokens, **(template_kwargs or {})}
        self.tokens = token_pattern({*control_tokens, *special_tokens.values(), *added_tokens})
        self._prompts: dict[str, str] = {}
        printed = self.compiled.printed | {text for text in self._constants.values() if isinstance(text, str)}
        decoded = "striptags" in source or "unescape" in source
        if known_controls is None:
            known_controls = {*control_tokens, *special_tokens.values(), end_of_turn or ""} - {""}
            self.tracer = Tracer(known_controls, self.compiled.literals, printed, decoded=decoded)
            known_controls |= structural_tokens(self, added_tokens)
        self.control_tokens = frozenset(known_controls)
        self.controls = token_pattern(self.control_tokens)
        self.tracer = Tracer(self.control_tokens, self.compiled.literals, printed, decoded=decoded)

    def variables(self, conversation: Conversation) -> dict[str, Any]:
        """What the template sees of a conversation. Message objects are new, so that each is known by its identity."""
        clash = _RESERVED & conversation.template_kwargs.keys()
        if clash:
            raise ConversationError(f"a record may not set the template variables {', '.join(sorted(clash))}")
        return {
            "documents": None,
            **self._constants,
            **conversation.template_kwargs,
            "messages": [_with_reasoning(message) for message in conversation.messages],
            "tools": conversation.tools,
            "add_generation_prompt": False,
        }

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
        variables = self.variables(conversation)
        marked, traced, words = self._run(conversation, variables)
        controls, forged = self._controls_of(marked.text, traced)
        marks: Sequence[Mark] = marked.marks
        if words and traced is not None:
            marks = self._attributed(variables, marked, traced)
        spans = []
        for mark in turns_of(marks, marked.text, variables["messages"], self.roles):
            begin, start = self._header(variables, mark, marked.text, traced)
            stop = end_of_turn(marked.text, start, mark.stop, controls, self.end_of_turn)
            if stop > start:
                spans.append(Span(mark.message, start, stop, begin))
        return Rendering(marked.text, tuple(spans), tuple(controls), tuple(forged))

    def render_blocks(self, conversation: Conversation) -> Rendering:
        """The text, and the template's `{% generation %}` blocks as spans: (start, stop) as Transformers counts them.

        Raises as `render` does, and TemplateError if the template has no such blocks.
        """
        if not self.compiled.has_blocks:
            raise TemplateError("the chat template has no {% generation %} blocks; add them, or use --mask turns")
        marked, traced, _ = self._run(conversation, self.variables(conversation), blocks=True)
        controls, forged = self._controls_of(marked.text, traced)
        spans = [Span(holder_of(marked.marks, start), start, stop, start) for start, stop in marked.blocks]
        return Rendering(marked.text, tuple(spans), tuple(controls), tuple(forged))

    def _run(
        self, conversation: Conversation, variables: dict[str, Any], *, blocks: bool = False
    ) -> tuple[MarkedText, Provenance | None, bool]:
        """A run, what a second one tells where it is needed, and whether that was asked whose the words are."""
        marked = self.compiled.mark(variables, held_back=blocks or bool(self.roles))
        words = bool(self.roles) and not blocks
        if words and not self.has_strays and self.roles == {"assistant"}:
            words = in_doubt(variables["messages"], marked.marks, marked.text)
        if not words and not self.tracer.suspects(variables, conversation.template_kwargs):
            return marked, None, words
        text, marked = utf_8(marked.text), replace(marked, text="")
        traced = self._trace(conversation, variables, text, words=words)
        return replace(marked, text=text.decode("utf-8", "surrogatepass")), traced, words

    def prompt(self, variables: Mapping[str, Any], message: int) -> str:
        """What the template prints after `messages[:message]` when it asks for an answer: '' if it prints nothing."""
        epilogue = self.compiled.epilogue
        if epilogue is None:
            return self._ask_after(variables, message)
        key = repr([variables.get(name) for name in sorted(epilogue.names)])
        if key not in self._prompts:
            if len(self._prompts) >= _MAX_PROMPTS:
                self._prompts.clear()
            self._prompts[key] = self._ask_after(variables, message)
        return self._prompts[key]

    def _ask_after(self, variables: Mapping[str, Any], message: int) -> str:
        """The prompt after these messages or, where the template refuses them or prints none, after a question."""
        for messages in (variables["messages"][:message], [dict(said) for said in QUESTION]):
            try:
                prompt = self._ask({**variables, "messages": messages})
            except LimitError:
                raise
            except ConversationError:  # it refuses to begin so
                continue
            if prompt:
                return prompt
        return ""

    def _ask(self, variables: Mapping[str, Any]) -> str:
        """What is printed for an answer after these messages."""
        asked = self.compiled.mark({**variables, "add_generation_prompt": True})
        over = len(asked.text) if asked.over is None else asked.over
        if self.compiled.epilogue is not None:
            return asked.text[over:]
        if self.has_strays:  # the last message may have been printed after it
            over = len(asked.text)
        elif asked.text[over:].strip():
            return asked.text[over:]
        told = self.compiled.mark(variables)  # the prompt may have been printed at the last message
        cut = min(over, shared_length(asked.text, told.text))
        inside = [start for start, stop in stretches(self.tokens, asked.text) if start < cut < stop]
        return asked.text[min([cut, *inside]) :]

    def _header(self, variables: Mapping[str, Any], mark: Mark, text: str, traced: Provenance | None) -> Stretch:
        """(start, stop) of a turn's header: the prompt for an assistant's; what comes before any message's text for another's."""
        if variables["messages"][mark.message]["role"] == "assistant":
            prompt = self.prompt(variables, mark.message) if self.header is None else self.header
            return header_of(text, mark.start, mark.stop, prompt, self.tokens)
        places = traced.places if traced else ()
        at = bisect_left(places, mark.start)
        said = at < len(places) and places[at] < mark.stop
        return mark.start, places[at] if said else len(text)  # where nothing is said, nothing is trained

    def _trace(
        self, conversation: Conversation, variables: Mapping[str, Any], text: bytes, *, words: bool
    ) -> Provenance:
        """text: of the first run, as `utf_8` has it."""
        begun, marks = None, self.tracer.noncharacters(text.decode("utf-8", "surrogatepass"))
        for where in ("words",) if words else ("beginnings", "tokens"):
            changed = self.tracer.mark(variables, conversation.template_kwargs, where, marks)
            said = (conversation.messages, variables["messages"]) if len(text) >= _LONG else ()
            with set_aside(*said):
                marked = self.compiled.mark(changed, held_back=False, most=_MOST_MARKED).text
            del changed
            try:
                traced = self.tracer.read(marked, text, len(variables["messages"]), marks)
            except ConversationError:
                begun = self.controls.findall(marked)  # whatever else it prints then, these are the template's
            else:
                if begun is None or begun == self.controls.findall(marked):
                    return traced
            del marked
        raise ConversationError(UNTRACEABLE)

    def _controls_of(self, text: str, traced: Provenance | None) -> tuple[list[Stretch], list[Stretch]]:
        """Control tokens that the template wrote, and those that it did not."""
        found = stretches(self.controls, text)
        if traced is None:
            return found, []
        own = controls_in(traced, self.controls)
        return own, sorted(set(found) - set(own))

    def _attributed(self, variables: Mapping[str, Any], marked: MarkedText, traced: Provenance) -> Sequence[Mark]:
        messages = variables["messages"]
        assistants = assistants_of(messages)
        marks: Sequence[Mark] = marked.marks
        if strays(marks, traced, assistants):
            regions = self._detailed.mark(variables).regions
            marks = attribute(marks, regions, traced, assistants, self._mixed)
        if self.has_strays:
            lost = assistants - {mark.message for mark in marks}
            if lost:
                raise ConversationError(
                    f"message {min(lost)} has no text by which to find it in what the chat template prints"
                )
        return marks

    @cached_property
    def _detailed(self) -> CompiledTemplate:
        return CompiledTemplate(self.source, self.now, branches=True)

    @cached_property
    def _mixed(self) -> set[int]:
        """Branches that hold several messages' text."""
        mixed: set[int] = set()
        for marked, traced, _ in self._probe(self._detailed):
            mixed |= mixed_places(marked.regions, traced)
        return mixed

    @cached_property
    def has_strays(self) -> bool:
        """Whether the template prints messages at other messages' places, if only in some conversations."""
        return any(
            strays(marked.marks, traced, assistants_of(messages))
            for marked, traced, messages in self._probe(self.compiled)
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

    def _probe(self, template: CompiledTemplate) -> list[tuple[MarkedText, Provenance, Messages]]:
        """What the template, in one of its compiled forms, does with the probes; those that it refuses are left out."""
        found = []
        for messages in (*TALK, *ONE_TOOL, *OTHERS):
            conversation = Conversation(messages, with_tools(messages), {}, None)
            variables = self.variables(conversation)
            try:
                marked = template.mark(variables)
                traced = self._trace(conversation, variables, utf_8(marked.text), words=True)
                found.append((marked, traced, variables["messages"]))
            except LimitError:
                raise
            except ConversationError:
                continue
        return found


def _with_reasoning(message: dict[str, Any]) -> dict[str, Any]:
    """A copy of the message whose reasoning, under whichever name, is found under those that templates read."""
    reasoning = next((message[key] for key in _REASONING if message.get(key) is not None), None)
    if reasoning is None:
        return dict(message)
    return {"thinking": reasoning, **message, "reasoning_content": reasoning}
