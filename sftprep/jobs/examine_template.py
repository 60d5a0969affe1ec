"""What a chat template trains, seen on conversations made for it: to be known before anything is built.

Each conversation asks for one thing: talk, a system message, tools, reasoning, ... Its words are found again in the text, so it
is seen what the template leaves out; and every trained turn's beginning is compared with what the template prints when it asks
for that turn, so it is seen whether the past is written anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

from sftprep.batches.templates import Templates, probe, template_text
from sftprep.config import BuildConfig
from sftprep.errors import ConversationError, TemplateError
from sftprep.jobs.plan import dated
from sftprep.records.conversation import Conversation
from sftprep.template.probes import EXAMINED, Messages, with_tools
from sftprep.template.turns import Rendering
from sftprep.tokens.resolve import ResolvedTokenizer, Resolving
from sftprep.workers.limits import LimitError
from sftprep.workers.trial import run_apart

_EARLIER = " of an earlier turn"
_RUNS, _SECONDS = 300, 0.1  # of a conversation, to say what one costs: at most


@dataclass(frozen=True, slots=True)
class Examined:
    """A conversation under the template."""

    name: str  # what it asks for
    text: str  # what the template prints; "" where it refuses
    trained: tuple[tuple[int, int], ...]  # (start, stop) in code points of text
    refused: str | None  # why, in words
    ends: tuple[str, ...]  # control tokens that its trained turns end with
    left_out: tuple[str, ...]  # what is said in it and not printed, such as "reasoning"
    other_context: int  # turns trained behind another text than the template prints when it asks for them
    written_anew: int  # turns trained as another text than the template prints while they are last
    replayed: bool  # whether the template's run is recorded, and repeated without Jinja
    seconds: float  # for one, once it is known


@dataclass(frozen=True, slots=True)
class Advice:
    """What to beware of, and the option that helps; "" where none does."""

    what: str
    option: str


@dataclass(frozen=True, slots=True)
class TemplateReport:
    """All that was found out about a chat template."""

    sha256: str
    control_tokens: tuple[str, ...]  # those that it prints
    conversations: tuple[Examined, ...]
    ends: tuple[str, ...]  # tokens that are trained as the end of an answer
    asks_for_date: bool
    advice: tuple[Advice, ...]


def examine_template(config: BuildConfig, resolving: Resolving | None = None) -> TemplateReport:
    """Run the template of a build, which needs no inputs, over the conversations, in a process that may be ended.

    resolving: its tokenizer, if it was asked about already. Raises TokenizerError where that cannot be loaded, TemplateError
    where the template cannot be used, ConfigError where it has no such header or end as the options say.
    """
    resolved = (resolving or Resolving(config.tokenizer, trust_remote_code=config.trust_remote_code)).result()
    try:
        return run_apart(partial(_examine, config, resolved), what="the chat template")
    except LimitError as error:
        raise TemplateError(f"{error} on plain talk") from error


def _examine(config: BuildConfig, resolved: ResolvedTokenizer) -> TemplateReport:
    source = template_text(config, resolved)
    config = dated(config, source)
    templates = Templates(config, resolved, probe(config, resolved))
    conversations = tuple(_look(templates, name, messages) for name, messages in EXAMINED.items())
    asks_for_date = "strftime_now" in source
    return TemplateReport(
        hashlib.sha256(source.encode()).hexdigest(),
        tuple(token for token in sorted(templates.control_tokens) if any(token in each.text for each in conversations)),
        conversations,
        tuple(sorted({end for each in conversations for end in each.ends})),
        asks_for_date,
        tuple(_advice(conversations, asks_for_date)),
    )


def _look(templates: Templates, name: str, messages: Messages) -> Examined:
    conversation = Conversation(messages, with_tools(messages), {}, None)
    try:
        rendering = templates.render_exactly(conversation)
    except LimitError:
        raise
    except (ConversationError, TemplateError) as error:
        return Examined(name, "", (), str(error), (), (), 0, 0, replayed=False, seconds=0.0)
    ends = {span.stop for span in rendering.spans}
    replayed, seconds = _cost(templates, conversation)
    return Examined(
        name,
        rendering.text,
        tuple((span.start, span.stop) for span in rendering.spans),
        None,
        tuple(sorted({rendering.text[begin:end] for begin, end in rendering.controls if end in ends})),
        tuple(sorted(_left_out(messages, conversation.tools, rendering.text))),
        *_changed_later(templates, conversation, rendering),
        replayed,
        seconds,
    )


def _cost(templates: Templates, conversation: Conversation) -> tuple[bool, float]:
    """Whether it is replayed, and the seconds that one takes: the least of some."""
    begin, least = perf_counter(), float("inf")
    for _ in range(_RUNS):  # what is common is recorded
        before, start = templates.replayed, perf_counter()
        templates.render_fast(conversation)
        least = min(least, perf_counter() - start)
        if perf_counter() - begin > _SECONDS:
            break
    return templates.replayed > before, least


def _left_out(messages: Messages, tools: list[dict[str, Any]] | None, text: str) -> Iterator[str]:
    """What is said in the messages and not printed. Every text in them is said once only."""
    if tools and tools[0]["function"]["name"] not in text:
        yield "list of tools"
    last = max(index for index, message in enumerate(messages) if message["role"] == "assistant")
    for index, message in enumerate(messages):
        earlier = _EARLIER if index < last else ""
        if (said := message["content"]) and said not in text:
            yield {"tool": "result of a tool"}.get(message["role"], f"{message['role']} message")
        if (thought := message.get("reasoning_content")) and thought not in text:
            yield f"reasoning{earlier}"
        for call in message.get("tool_calls", ()):
            if not all(city in text for city in call["function"]["arguments"].values()):
                yield "call of a tool"


def _changed_later(templates: Templates, conversation: Conversation, rendering: Rendering) -> tuple[int, int]:
    """How many trained turns stand behind another text than a model sees when it is asked for them, and how many are another
    text than they were while they came last."""
    contexts = texts = 0
    for span in rendering.spans:
        before = replace(conversation, messages=conversation.messages[: span.message + 1])
        try:
            contexts += templates.asked_for(conversation, span.message) != rendering.text[: span.start]
            then = templates.render_exactly(before)
        except LimitError:
            raise
        except ConversationError:  # it may not end so, though it may go on so
            continue
        as_last = [then.text[each.start : each.stop] for each in then.spans if each.message == span.message]
        texts += as_last != [rendering.text[span.start : span.stop]]
    return contexts, texts


def _advice(conversations: Sequence[Examined], asks_for_date: bool) -> Iterator[Advice]:
    """What to beware of, the gravest first."""
    taken = [each for each in conversations if each.refused is None]
    for reason in dict.fromkeys(each.refused for each in conversations if each.refused):
        yield Advice(
            f"refuses {', '.join(each.name for each in conversations if each.refused == reason)}: {reason}", ""
        )
    every = dict.fromkeys(name for each in taken for name in each.left_out)
    for name in every:
        where = ", ".join(each.name for each in taken if name in each.left_out)
        if not name.endswith(_EARLIER) or name.removesuffix(_EARLIER) not in every:
            yield Advice(f"prints no {name} ({where})", "--chat-template FILE")
    if other := [each.name for each in taken if each.other_context]:
        what = "trains turns behind another text than a model sees when it is asked for them"
        yield Advice(f"{what} ({', '.join(other)})", "--train-on last")
    if anew := [each.name for each in taken if each.written_anew]:
        what = "writes earlier turns anew, so that they are trained as another text than when they came last"
        yield Advice(f"{what} ({', '.join(anew)})", "--train-on last")
    if silent := [each.name for each in taken if not each.trained]:
        yield Advice(f"trains nothing ({', '.join(silent)})", "--header TEXT")
    if unended := [each.name for each in taken if each.trained and not each.ends]:
        yield Advice(
            f"ends answers without a control token, so that the end is not learned ({', '.join(unended)})",
            "--end-of-turn TOKEN",
        )
    if asks_for_date:
        yield Advice("prints a day: that of the build, unless one is named", "--date YYYY-MM-DD")
    if slow := [each.name for each in taken if not each.replayed]:
        yield Advice(f"is run by Jinja for each conversation, which takes longer ({', '.join(slow)})", "")
