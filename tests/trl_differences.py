"""TRL's masks beside sftprep's: one pair of templates, one kind of conversation at a time.

TRL's is what its trainer makes of `assistant_only_loss`: the tokens of the training template's `{% generation %}` blocks
as Transformers' `apply_chat_template` marks them. sftprep's is the default mask over the stock template; where the two
templates print other texts, over the training template, and the texts are looked at by themselves. What differs is
named by what kind of token it is, and where it stands, so that one more of a kind is none that has to be judged again.
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

from forms_of_record import is_proper, words_of
from jinja2.exceptions import TemplateError
from kinds_of_conversation import KINDS, Record
from oracle_differences import ids_and_mask, marked
from published_templates import TODAY, open_both_ways, save_tokenizer
from told_turns import Place
from transformers import AutoTokenizer
from transformers.utils import chat_template_utils
from trl_pairs import Pair

from sftprep.batches.both_ways import BothWays
from sftprep.errors import SftprepError

_QUESTION = [{"role": "user", "content": "Hello?"}]
_THOUGHT = re.compile(r"<think>.*?</think>", re.DOTALL)
UNKNOWN = "what has no name"


@dataclass(frozen=True, slots=True)
class Compared:
    """A pair over one kind of conversation that both render. differences: their names, none where all
    is equal."""

    pair: str
    kind: str
    differences: frozenset[str]
    detail: str


@dataclass(frozen=True, slots=True)
class Theirs:
    """What TRL trains of a conversation. blocks: of the training template, in characters of the text."""

    text: str
    ids: list[int]
    offsets: list[Place]
    mask: list[bool]
    blocks: list[Place]


class Both:
    """A pair, opened: Transformers with either template, sftprep with either."""

    def __init__(self, pair: Pair, words: str, folder: Path) -> None:
        """words: the tokenizer.json that gives all but the added tokens."""
        self.pair, self._folder, self._words = pair, folder, words
        self.names = (*pair.stock.controls, *pair.stock.plain)
        self._opened: dict[str, BothWays] = {}
        save_tokenizer(pair.stock, words, folder / "stock")
        save_tokenizer(replace(pair.stock, source=pair.training), words, folder / "training")
        self._tokenizer = AutoTokenizer.from_pretrained(folder / "stock")
        self._sources = {"stock": pair.stock.source, "training": pair.training}
        today = date.fromisoformat(TODAY)
        for source in self._sources.values():  # compiled once, and kept
            chat_template_utils._compile_jinja_template(source).globals["strftime_now"] = today.strftime

    def theirs(self, record: Record) -> Theirs | None:
        """None where the training template refuses it."""
        given = {"tools": record.get("tools"), "chat_template": self.pair.training}
        messages = record["messages"]
        try:
            out = self._tokenizer.apply_chat_template(messages, return_assistant_tokens_mask=True, **given)
            plain = chat_template_utils._normalize_chat_messages(messages)
            special = self.pair.stock.special
            texts, blocks = chat_template_utils.render_jinja_template(
                [plain], return_assistant_tokens_mask=True, **given, **special
            )
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError):
            return None
        mask = [bool(each) for each in out["assistant_masks"]]
        return Theirs(texts[0], out["input_ids"], out.encodings[0].offsets, mask, blocks[0])

    def text(self, which: str, messages: Sequence[dict[str, Any]], tools: Any, prompt: bool = False) -> str | None:
        """What a template prints, by Transformers; None where it refuses."""
        try:
            return self._tokenizer.apply_chat_template(
                list(messages),
                tools=tools,
                chat_template=self._sources[which],
                tokenize=False,
                add_generation_prompt=prompt,
            )
        except (TemplateError, TypeError, ValueError, KeyError, AttributeError):
            return None

    def ours(self, which: str, record: Record) -> tuple[list[int], list[bool]] | None:
        """sftprep's ids and mask; None where it refuses the record."""
        if which not in self._opened:
            self._opened[which] = open_both_ways(self._folder / which)
        try:
            return ids_and_mask(self._opened[which], record)
        except SftprepError:
            return None

    def spelled(self, ids: list[int]) -> str:
        return self._tokenizer.decode(ids)


def compared(pair: Pair, words: str, kinds: Iterable[str]) -> Iterator[Compared]:
    """What comes of a pair and each of these kinds, but for those that one of the two refuses."""
    with tempfile.TemporaryDirectory() as folder:
        both = Both(pair, words, Path(folder))
        for kind in kinds:
            if (found := _compare(both, KINDS[kind])) is not None:
                yield Compared(pair.name, kind, *found)


def _compare(both: Both, record: Record) -> tuple[frozenset[str], str] | None:
    messages, tools = record["messages"], record.get("tools")
    theirs, stock = both.theirs(record), both.text("stock", messages, tools)
    which = "stock" if theirs is None or stock == theirs.text else "training"
    ours = both.ours(which, record)
    if theirs is None or stock is None or ours is None:
        return None
    names = set() if which == "stock" else of_texts(stock, theirs.text, messages, both.pair.stock.ends)
    ids, mask = ours
    if ids != theirs.ids:
        names.add(_of_ids(both.spelled(ids), theirs.text, messages))
        shown = [repr(both.spelled(ids))]
    else:
        names |= of_masks(theirs, mask, messages, _prompts(both, which, record), both.names)
        shown = [marked(theirs.text, theirs.offsets, each) for each in (mask, theirs.mask) if UNKNOWN in names]
    return frozenset(names), "\n  ".join(["", f"stock {stock!r}", f"training {theirs.text!r}", *shown])


def _prompts(both: Both, which: str, record: Record) -> list[tuple[str, str]]:
    """For each message of the assistant, and for one behind a question: the whole prompt, and what is added to ask."""
    messages, tools = record["messages"], record.get("tools")
    asked = [(messages[:at], tools) for at, each in enumerate(messages) if each["role"] == "assistant"]
    prompts = []
    for before, given in [*asked, (_QUESTION, None)]:
        with_prompt, without = both.text(which, before, given, prompt=True), both.text(which, before, given)
        if with_prompt is not None:
            added = with_prompt.removeprefix(without) if without is not None else ""
            prompts.append((with_prompt, added if added != with_prompt else ""))
    return prompts


# --- the differences, by name ---------------------------------------------------------------------------------------


def of_texts(stock: str, training: str, messages: list[dict[str, Any]], ends: Iterable[str]) -> set[str]:
    """What one template prints and the other does not."""
    steps: dict[str, Callable[[str], str]] = {
        "the training template prints thoughts that the stock one leaves out": lambda text: _THOUGHT.sub("", text),
        "the training template prints tokens that end turns elsewhere": lambda text: _without(text, ends),
    }
    if is_proper(stock, messages) and not is_proper(training, messages):
        return {"the training template quotes arguments a second time"}
    for chosen in (*([each] for each in steps), [*steps]):
        texts = [stock, training]
        for name in chosen:
            texts = [steps[name]("".join(text.split())) for text in texts]
        if texts[0] == texts[1]:
            return {*chosen}
    return {UNKNOWN}


def _without(text: str, tokens: Iterable[str]) -> str:
    return re.sub("|".join(map(re.escape, tokens)), "", text)


def _of_ids(ours: str, theirs: str, messages: list[dict[str, Any]]) -> str:
    """Why sftprep gives the template another form of the record than Transformers does."""
    printed = [sum(any(word in text for word in words_of(each)) for each in messages) for text in (ours, theirs)]
    if is_proper(ours, messages) and (printed[0] > printed[1] or not is_proper(theirs, messages)):
        return "text and parts are made of one another, or arguments decoded, for a template that wants them so"
    return UNKNOWN


def of_masks(
    theirs: Theirs,
    ours: list[bool],
    messages: list[dict[str, Any]],
    prompts: Sequence[tuple[str, str]],
    tokens: Collection[str],
) -> set[str]:
    """The kinds of the tokens that only one of the two trains. tokens: the added ones."""
    kinds = {at: UNKNOWN for at, (one, other) in enumerate(zip(theirs.mask, ours, strict=True)) if one != other}
    added = {at for at, place in enumerate(theirs.offsets) if theirs.text[slice(*place)] in tokens}
    answers = [word for message in messages if message["role"] == "assistant" for word in words_of(message)]
    for start, stop in _joined(theirs, tokens):
        block = [at for at, (begin, end) in enumerate(theirs.offsets) if begin < stop and end > start]
        shared = [at for at in block if ours[at]]
        if block and not shared:
            text = theirs.text[start:stop]
            if not any(word in text for word in answers):
                kinds |= dict.fromkeys(block, "what stands of a turn of which nothing is printed")
        elif shared:
            kinds |= {at: _before(theirs, block[0], at, prompts) for at in range(block[0], shared[0])}
            if shared[-1] in added:
                kinds |= {at: _behind(theirs, at, added) for at in range(shared[-1] + 1, block[-1] + 1)}
    for last, following in pairwise(range(len(ours))):
        if ours[following] and not theirs.mask[following] and theirs.mask[last] and ours[last] and following in added:
            kinds[following] = "the next text's first token, which ends the turn"
    return set(kinds.values())


def _joined(theirs: Theirs, tokens: Collection[str]) -> list[Place]:
    """The blocks, one that is nothing but a token with the block at whose end it stands."""
    joined: list[Place] = []
    for start, stop in theirs.blocks:
        if joined and joined[-1][1] == start and theirs.text[start:stop] in tokens:
            start = joined.pop()[0]
        joined.append((start, stop))
    return joined


def _before(theirs: Theirs, first: int, at: int, prompts: Sequence[tuple[str, str]]) -> str:
    """What a token is that TRL trains before the first one that sftprep trains. first: where TRL's training begins."""

    start = theirs.offsets[first][0]
    before = theirs.text[:start]

    def given(stop: int) -> bool:
        """Whether it is all in a prompt; where the past is written anew, in what a prompt adds, at its place there."""
        header = re.escape(theirs.text[start:stop])
        return any(
            prompt.startswith(theirs.text[:stop])
            or any(before.endswith(added[: at.start()]) for at in re.finditer(header, added))
            for prompt, added in prompts
        )

    begin, end = theirs.offsets[at]
    if given(end):
        return "a header that the prompt gives"
    if theirs.text[begin:end].isspace() and given(begin + 1):
        return "white space of the answer in one token with the header's"
    return UNKNOWN


def _behind(theirs: Theirs, at: int, added: set[int]) -> str:
    """What a token is that TRL trains behind the token that ends the turn."""
    if theirs.text[slice(*theirs.offsets[at])].isspace():
        return "white space behind the token that ends a turn"
    return "a second token behind the one that ends a turn" if at in added else UNKNOWN
