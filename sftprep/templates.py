"""The chat templates of a build: which one a conversation takes, and the header and end that a scan looks for."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime

from sftprep.chat_template import ChatTemplate
from sftprep.compiled_template import MOST_CHARS
from sftprep.config import BuildConfig
from sftprep.conversations import Conversation
from sftprep.errors import ConfigError, ConversationError, TemplateError
from sftprep.limits import MOST_LOST, Bounded, LimitError, Suspect
from sftprep.messages import ROLES
from sftprep.probes import TALK
from sftprep.replay import ReplayTemplate
from sftprep.resolve import ResolvedTokenizer
from sftprep.scan import PRESETS, ScanRule, preset_rule, scan_rule
from sftprep.turns import Rendering, TurnMarks, rendering_of

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
    may be ended. Raises TemplateError where the template cannot be used, or takes too much for plain talk."""
    try:
        templates = Templates(config, resolved)
        for messages in TALK:
            try:
                templates.render(Conversation(messages, None, {}, None))
            except LimitError:
                raise
            except ConversationError:  # some templates want a system message, or none
                continue
        if config.mask == "scan":
            templates.scan_texts()
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
        self._roles = _trained_roles(config)
        self.suspect = Suspect()
        self._lost_in_a_row = 0
        self._replays: dict[tuple[str, frozenset[str]], ReplayTemplate] = {}
        self._plain = self._open(template_text(config, resolved), self._roles, control_tokens)  # of most conversations
        if config.mask == "generation" and not self._plain.template.compiled.has_blocks:
            raise TemplateError("the chat template has no {% generation %} blocks; add them, or use --mask turns")

    @property
    def control_tokens(self) -> frozenset[str]:
        """The control tokens of the tokenizer and of the template."""
        return self._plain.template.control_tokens

    @property
    def replayed(self) -> int:
        """Conversations that needed no Jinja so far."""
        return sum(replay.replayed for replay in self._replays.values())

    def render(self, conversation: Conversation) -> Rendering:
        """By Jinja. With `--mask generation` the spans are the template's blocks."""
        template = self._replay(conversation).template
        with self._guard(conversation):
            if self._config.mask == "generation":
                return template.render_blocks(conversation)
            return template.render(conversation)

    def replay(self, conversation: Conversation) -> tuple[str, TurnMarks]:
        """By replay, where the shape of the conversation is known."""
        text, marks = self._replay(conversation).render(conversation)
        self._lost_in_a_row = 0
        return text, marks

    def rendering_of(self, conversation: Conversation, text: str, marks: TurnMarks) -> Rendering:
        """The rendering behind what `replay` gave; by Jinja only if its marks do not tell."""
        rendering = rendering_of(text, marks, self._replay(conversation).template.controls)
        return rendering or self.render(conversation)

    def scan_rule(self, encode: Callable[[str], Sequence[int]]) -> ScanRule | None:
        """What `--mask scan` and the presets look for; None for other masks. Raises ConfigError, TemplateError."""
        config, special = self._config, self._resolved.special_tokens
        if config.mask in PRESETS:
            if not {"bos_token", "eos_token"} <= special.keys():
                raise ConfigError(
                    f"--mask {config.mask}: the tokenizer has no bos_token or no eos_token; use --mask scan"
                )
            return preset_rule(config.mask, encode, special["bos_token"], special["eos_token"])
        if config.mask != "scan":
            return None
        header, end = self.scan_texts()
        offsets = {"start_offset": config.scan_start_offset, "end_offset": config.scan_end_offset}
        return scan_rule(header, end, encode, **offsets)

    def scan_texts(self) -> tuple[str, str]:
        """What stands before and at the end of an answer: as given, else seen in a small conversation. Raises TemplateError."""
        header, end = self._config.scan_header, self._config.scan_end
        if header is not None and end is not None:
            return header, end
        template = self._open(self._plain.template.source, frozenset({"assistant"})).template
        remedy = "give --scan-header and --scan-end"
        try:
            with self._guard(_TALK):
                rendering = template.render(_TALK)
        except LimitError:
            raise
        except ConversationError as error:
            raise TemplateError(f"{error}, which is plain talk; {remedy}") from error
        for span in rendering.spans[:1]:
            found = rendering.text[span.turn : span.start]
            ends = [rendering.text[start:stop] for start, stop in rendering.controls if stop == span.stop]
            if found and ends:
                return header or found, end or ends[0]
        raise TemplateError(f"the chat template shows no header or no end token; {remedy}")

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
            said = (message.get("content") for message in conversation.messages)
            if sum(len(text) for text in said if isinstance(text, str)) > MOST_CHARS:
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
                template = ChatTemplate(
                    source,
                    resolved.special_tokens,
                    control_tokens=resolved.control_tokens(),
                    added_tokens=[token.content for token in resolved.added_tokens],
                    known_controls=known_controls,
                    end_of_turn=config.end_of_turn,
                    header=config.header,
                    roles=roles,
                    template_kwargs=config.template_kwargs,
                    now=datetime.fromisoformat(config.date) if config.date else None,
                )
            self._replays[source, roles] = ReplayTemplate(template, self._guard)
        return self._replays[source, roles]


def _trained_roles(config: BuildConfig) -> frozenset[str]:
    if config.mask != "turns":
        return frozenset()
    if config.train_on in ("assistant", "last"):
        return frozenset({"assistant"})
    if config.train_on == "all":
        return frozenset(ROLES)
    roles = frozenset(role.strip() for role in config.train_on.split(","))
    if not roles <= set(ROLES):
        raise ConfigError(
            f"--train-on {config.train_on}: expected assistant, last, all, or roles of {', '.join(ROLES)}"
        )
    return roles
