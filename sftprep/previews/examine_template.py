"""What a chat template trains, seen on conversations made for it: to be known before anything is built.

Each conversation asks for one thing: talk, a system message, tools, reasoning, ... It is seen what of it the template leaves out;
and every trained turn's beginning is compared with what the template prints when it asks for that turn, so it is seen whether
the past is written anew.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter

import numpy as np
import numpy.typing as npt

from sftprep.batches.contexts import Contexts
from sftprep.batches.exact_way import weights_of
from sftprep.batches.templates import Templates, probe, template_text
from sftprep.config import BuildConfig
from sftprep.errors import ConversationError, TemplateError
from sftprep.jobs.plan import dated
from sftprep.records.conversation import Conversation
from sftprep.records.said import KINDS, LeftOut
from sftprep.template.probes import EXAMINED, Messages, with_tools
from sftprep.tokens.resolve import ResolvedTokenizer, Resolving
from sftprep.workers.limits import LimitError
from sftprep.workers.trial import run_apart

_EARLIER = " of an earlier turn"
_RUNS, _FEW_RUNS, _SECONDS = 300, 8, 0.1  # of a conversation, to say what one costs: at most, but a few at least


@dataclass(frozen=True, slots=True)
class Examined:
    """A conversation under the template."""

    name: str  # what it asks for
    text: str  # what the template prints; "" where it refuses
    trained: tuple[tuple[int, int], ...]  # (start, stop) in code points of text
    refused: str | None  # why, in words
    ends: tuple[str, ...]  # control tokens that its trained turns end with
    left_out: tuple[str, ...]  # what is said in it and not printed, such as "reasoning"
    adapted: bool  # whether the template takes it only with something changed: parts joined, arguments decoded, ...
    other_context: (
        int  # turns that stand in another context than they are asked for in, or are another text than when last
    )
    not_served: int  # those of which that is so with `--contexts served` too
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
    conversations = tuple(_look(config, templates, name, messages) for name, messages in EXAMINED.items())
    asks_for_date = "strftime_now" in source
    return TemplateReport(
        hashlib.sha256(source.encode()).hexdigest(),
        tuple(token for token in sorted(templates.control_tokens) if any(token in each.text for each in conversations)),
        conversations,
        tuple(sorted({end for each in conversations for end in each.ends})),
        asks_for_date,
        tuple(_advice(conversations, templates.control_tokens, asks_for_date)),
    )


def _look(config: BuildConfig, templates: Templates, name: str, messages: Messages) -> Examined:
    conversation = Conversation(messages, with_tools(messages), {}, None)
    try:
        rendering = templates.render_exactly(conversation)
    except LimitError:
        raise
    except (ConversationError, TemplateError) as error:
        return Examined(name, "", (), str(error), (), (), False, 0, 0, replayed=False, seconds=0.0)
    ends = {span.stop for span in rendering.spans}
    replayed, seconds = _cost(templates, conversation)
    return Examined(
        name,
        rendering.text,
        tuple((span.start, span.stop) for span in rendering.spans),
        None,
        tuple(sorted({rendering.text[begin:end] for begin, end in rendering.controls if end in ends})),
        tuple(sorted({*_left_out(messages, rendering.unprinted)})),
        rendering.adapted,
        *_contexts(templates, conversation, weights_of(conversation, config)),
        replayed,
        seconds,
    )


def _cost(templates: Templates, conversation: Conversation) -> tuple[bool, float]:
    """Whether it is replayed, and the seconds that one takes: the least of some."""
    begin, least = perf_counter(), float("inf")
    for run in range(_RUNS):  # what is common is recorded
        before, start = templates.replayed, perf_counter()
        templates.render_fast(conversation)
        least = min(least, perf_counter() - start)
        if run >= _FEW_RUNS and perf_counter() - begin > _SECONDS:
            break
    return templates.replayed > before, least


def _left_out(messages: Messages, unprinted: Sequence[LeftOut]) -> Iterator[str]:
    """What is said in the messages and not printed, in words."""
    last = max(index for index, message in enumerate(messages) if message["role"] == "assistant")
    for kind, message in unprinted:
        yield KINDS[kind] + (_EARLIER if kind == "reasoning" and message < last else "")


def _contexts(templates: Templates, conversation: Conversation, weights: npt.NDArray[np.float32]) -> tuple[int, int]:
    """How many trained turns stand in another context than they are asked for in, or are another text; and how many do so,
    too, when the conversation is trained as it is served."""
    try:
        text, places, _ = templates.render_fast(conversation)
        others = len(Contexts(templates, conversation).others(weights, (text, places)))
        return others, Contexts(templates, conversation).examples(weights).others
    except LimitError:
        raise
    except ConversationError:
        return 0, 0


def _advice(conversations: Sequence[Examined], controls: Collection[str], asks_for_date: bool) -> Iterator[Advice]:
    """What to beware of, the gravest first. controls: the control tokens."""
    taken = [each for each in conversations if each.refused is None]
    for reason in dict.fromkeys(each.refused for each in conversations if each.refused):
        yield Advice(
            f"refuses {', '.join(each.name for each in conversations if each.refused == reason)}: {reason}", ""
        )
    every = dict.fromkeys(name for each in taken for name in each.left_out)
    for name in every:
        where = ", ".join(each.name for each in taken if name in each.left_out)
        if not name.endswith(_EARLIER) or name.removesuffix(_EARLIER) not in every:
            option = "--contexts served" if name.endswith(_EARLIER) else "--chat-template FILE"
            yield Advice(f"prints no {name} ({where})", option)
    if other := [each.name for each in taken if each.other_context > each.not_served]:
        what = "prints earlier turns, or what is before them, in another way than when they are asked for"
        yield Advice(f"{what} ({', '.join(other)})", "--contexts served")
    if never := [each.name for each in taken if each.not_served]:
        what = "asks for an answer by a prompt that some turns are no answers to"
        yield Advice(f"{what} ({', '.join(never)})", "--template-kwarg NAME=VALUE")
    if silent := [each.name for each in taken if not each.trained]:
        yield Advice(f"trains nothing ({', '.join(silent)})", "--header TEXT")
    if unended := [each for each in taken if each.trained and not each.ends]:
        texts = [each.text[start:stop] for each in unended for start, stop in each.trained]
        within = any(token in text for token in controls for text in texts)
        names = ", ".join(each.name for each in unended)
        yield Advice(
            f"ends answers without a control token, so that the end is not learned ({names})",
            "--end-of-turn TOKEN" if within else "--chat-template FILE",
        )
    if asks_for_date:
        yield Advice("prints a day: that of the build, unless one is named", "--date YYYY-MM-DD")
    if slow := [each.name for each in taken if not each.replayed]:
        yield Advice(f"is run by Jinja for each conversation, which takes longer ({', '.join(slow)})", "")
