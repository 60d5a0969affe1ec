"""The chat templates of a build: which one a conversation takes, and within which limits it runs."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import astuple, replace
from datetime import datetime
from typing import Any

from sftprep.batches.overrides import check_overrides
from sftprep.batches.variants import take
from sftprep.config import BuildConfig
from sftprep.errors import ConversationError, TemplateError
from sftprep.jinja.compiled import MOST_CHARS
from sftprep.records.conversation import Conversation
from sftprep.records.messages import ROLES, texts_of
from sftprep.replay.replay_template import ReplayTemplate
from sftprep.template.chat_template import Authors, open_template
from sftprep.template.probes import TALK
from sftprep.template.served import behind, ended, without
from sftprep.template.turns import Rendering, SpanPlaces, Told, rendering_of, told_of
from sftprep.tokens.resolve import ResolvedTokenizer
from sftprep.workers.limits import MOST_LOST, Bounded, LimitError, Suspect

_MOST_SERVED = 1024  # places that are remembered
_TALK = Conversation([{"role": "user", "content": "Hello"}, {"role": "assistant", "content": "Hi"}], None, {}, None)


def template_text(config: BuildConfig, resolved: ResolvedTokenizer, *, tools: bool = False) -> str:
    """The Jinja source for conversations with or without tools. Raises TemplateError where there is none."""
    source = config.chat_template or resolved.chat_template(tools=tools)
    if source is None:
        raise TemplateError(
            f"{config.tokenizer}: the tokenizer has no chat template; give one with --chat-template FILE"
        )
    return source


def probe(config: BuildConfig, resolved: ResolvedTokenizer) -> frozenset[str]:
    """The control tokens of the tokenizer and of the template, found by running it over a little talk: for a process that
    may be ended. Raises TemplateError where the template cannot be used, or takes too much for plain talk, and ConfigError
    where it has no such header or end as the options say."""
    try:
        templates, talk = Templates(config, resolved), []
        for messages in TALK:
            try:
                talk.append((messages, templates.render_exactly(Conversation(messages, None, {}, None))))
            except LimitError:
                raise
            except ConversationError:  # some templates want a system message, or none
                continue
        check_overrides(config, talk)
        if (
            rule_of := config.mask_kind.rule_of()
        ):  # it may ask the template for a header: here first, where it may be ended
            rule_of(config.content_options(), resolved.special_tokens, templates.small_talk, lambda text: [0])
    except LimitError as error:
        raise TemplateError(f"{error}, which is plain talk") from None
    return templates.control_tokens


class Templates:
    """Opens templates as conversations need them: a tokenizer may have another one for tools, and a conversation that
    weighs messages of roles which are not trained otherwise needs the spans of all roles.

    They run within limits, and while one runs over a conversation that is the `suspect`. control_tokens: what `probe` found
    before; nothing is run here then.
    """

    def __init__(
        self, config: BuildConfig, resolved: ResolvedTokenizer, control_tokens: frozenset[str] | None = None
    ) -> None:
        self._config, self._resolved = config, resolved
        self._blocks = config.mask_kind.spans == "blocks"
        self._roles = config.trained.roles if config.mask_kind.spans == "turns" else frozenset()
        self.suspect = Suspect()
        self._lost_in_a_row = 0
        self.replayed = 0  # conversations that needed no Jinja so far
        self.by_jinja = 0  # characters that Jinja printed so far
        self._replays: dict[tuple[str, frozenset[str]], ReplayTemplate] = {}
        self._served: dict[tuple[Any, ...], SpanPlaces] = {}  # one object for equal places
        self._plain = self._open(template_text(config, resolved), self._roles, control_tokens)  # of most conversations
        if self._blocks and not self._plain.template.compiled.has_blocks:
            raise TemplateError("the chat template has no {% generation %} blocks; add them, or use --mask turns")

    @property
    def control_tokens(self) -> frozenset[str]:
        """The control tokens of the tokenizer and of the template."""
        return self._plain.template.control_tokens

    def render_exactly(self, conversation: Conversation) -> Rendering:
        """By Jinja, in the variant that the template takes. Where the mask wants its blocks, the spans are the template's
        blocks."""
        template = self._replay(conversation).template

        def render(variant: Conversation) -> tuple[str, Rendering]:
            with self._guard(variant):
                rendering = template.render_blocks(variant) if self._blocks else template.render(variant)
            return rendering.text, rendering

        _, rendering, adapted = take(conversation, self._config.tool_arguments, render, self._text_of, self._speaks)
        return replace(self._as_trained(conversation, rendering), adapted=adapted)

    def render_fast(self, conversation: Conversation) -> tuple[str, Told, bool]:
        """By replay, where the shape of the conversation is known; and whether the template took another variant of it."""
        replay = self._replay(conversation)
        before = replay.rendered
        text, told, adapted = take(
            conversation, self._config.tool_arguments, replay.render, self._text_of, self._speaks
        )
        if replay.rendered == before:
            self.replayed += 1
        else:
            self.by_jinja += len(text)
        self._lost_in_a_row = 0
        if conversation.served is not None or (conversation.left_out and conversation.left_out in text):
            printed = self.rendering_of(replace(conversation, served=None, left_out=""), text, told)
            rendering = self._as_trained(conversation, printed)
            places, reach = told_of(rendering)
            text, told = rendering.text, (self._one_object(places), reach)
        return text, told, adapted

    def _one_object(self, places: SpanPlaces) -> SpanPlaces:
        """The same object for equal places: what is made of one is remembered."""
        if len(self._served) >= _MOST_SERVED:
            self._served.clear()
        return self._served.setdefault(astuple(places), places)

    def authors(self, conversation: Conversation, *, asking: bool = False) -> Authors:
        """Whose the text is that the template prints of a conversation, whatever is trained of it. Raises ConversationError."""
        template = self._replay(conversation).template

        def render(variant: Conversation) -> tuple[str, Authors]:
            with self._guard(variant):
                authors = template.authors(variant, asking=asking)
            return authors.text, authors

        speaks = (lambda *_: True) if asking else self._speaks
        return take(conversation, self._config.tool_arguments, render, self._text_of, speaks)[1]

    def _text_of(self, conversation: Conversation) -> str:
        """What the template prints, whether it can be followed or not."""
        template = self._replay(conversation).template
        with self._guard(conversation):
            return template.compiled.mark(template.variables.of(conversation), held_back=False).text

    def _speaks(self, conversation: Conversation, text: str) -> bool:
        """Whether any message says something in the text that the template made of them."""
        with self._guard(conversation):
            return self._replay(conversation).template.speaks(conversation, text)

    def asked_for(self, conversation: Conversation, message: int) -> str:
        """The text that a model sees when it is asked for a message. Raises ConversationError if the template refuses."""
        return self._ask(conversation.until(message))[0]

    def _ask(self, conversation: Conversation) -> tuple[str, Told]:
        asking = self._replay(conversation).asking
        rendered = asking.rendered
        text, told, _ = take(conversation, self._config.tool_arguments, asking.render, self._text_of, lambda *_: True)
        if asking.rendered != rendered:
            self.by_jinja += len(text)
        return text, told

    def _as_trained(self, conversation: Conversation, rendering: Rendering) -> Rendering:
        """What is trained of what the template prints. Raises ConversationError."""
        rendering = self._as_served(conversation, rendering)
        left_out = conversation.left_out
        return without(rendering, left_out) if left_out and left_out in rendering.text else rendering

    def _as_served(self, conversation: Conversation, rendering: Rendering) -> Rendering:
        """The rendering of an example, whose last turn is to be trained as it is served. Raises ConversationError."""
        served = conversation.served
        if served is not None and served.asked:
            before = conversation.until(len(conversation.messages) - 1)
            template, (text, told) = self._replay(conversation).template, self._ask(before)
            asked = rendering_of(text, told, template.controls)
            if asked is None:
                with self._guard(before):
                    asked = template.ask(before)
            rendering = behind(asked, rendering)
        return ended(rendering, served.end) if served is not None and served.end else rendering

    def tokens(self, conversation: Conversation) -> re.Pattern[str]:
        """Finds the tokenizer's added tokens."""
        return self._replay(conversation).template.tokens

    def rendering_of(self, conversation: Conversation, text: str, told: Told) -> Rendering:
        """The rendering behind what `render_fast` gave; by Jinja only if that does not tell."""
        rendering = rendering_of(text, told, self._replay(conversation).template.controls)
        return rendering or self.render_exactly(conversation)

    def small_talk(self) -> Rendering:
        """A small conversation with an answer. Raises TemplateError where the template refuses it."""
        template = self._open(self._plain.template.compiled.source, frozenset({"assistant"})).template
        try:
            with self._guard(_TALK):
                return template.render(_TALK)
        except LimitError:
            raise
        except ConversationError as error:
            raise TemplateError(f"{error}, which is plain talk; give --scan-header and --scan-end") from error

    @contextmanager
    def _guard(self, conversation: Conversation) -> Iterator[None]:
        """Run the template over a conversation within limits. Raises TemplateError where it exceeds them again and again."""
        before = self.suspect.item()
        self.suspect.is_at(*conversation.place)
        try:
            with Bounded("the chat template"):
                yield
            self._lost_in_a_row = 0
        except LimitError as error:
            if sum(len(text) for message in conversation.messages for text in texts_of(message)) > MOST_CHARS:
                raise  # no template could print it
            self._lost_in_a_row += 1
            if self._lost_in_a_row >= MOST_LOST:
                raise TemplateError(f"{error}; so did the {MOST_LOST - 1} before it, and the job stops") from None
            raise
        finally:
            self.suspect.is_at(*before)

    def _replay(self, conversation: Conversation) -> ReplayTemplate:
        if conversation.tools is None and conversation.weights is None:
            return self._plain
        tools = conversation.tools is not None and "tool_use" in self._resolved.chat_templates
        roles = self._roles
        if conversation.weights is not None and roles:
            pairs = zip(conversation.messages, conversation.weights, strict=True)
            if any(weight and message["role"] not in roles for message, weight in pairs):
                roles = frozenset(ROLES)
        return self._open(template_text(self._config, self._resolved, tools=tools), roles)

    def _open(self, source: str, roles: frozenset[str], known_controls: frozenset[str] | None = None) -> ReplayTemplate:
        if (source, roles) not in self._replays:
            config, resolved = self._config, self._resolved
            with Bounded("the chat template"):
                template = open_template(
                    source,
                    resolved.special_tokens,
                    control_tokens=resolved.control_tokens(),
                    added_tokens=[token.content for token in resolved.added_tokens],
                    known_controls=known_controls,
                    end_of_turn=config.end_of_turn,
                    header=config.header,
                    roles=roles,
                    forgeable=config.control_tokens != "allow",
                    template_kwargs=config.template_kwargs,
                    now=datetime.fromisoformat(config.date) if config.date else None,
                )
            self._replays[source, roles] = ReplayTemplate(template, self._guard)
        return self._replays[source, roles]
