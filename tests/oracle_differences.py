"""sftprep's ids and masks beside the oracle's: one template, one kind of conversation at a time."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from kinds_of_conversation import KINDS, Record
from prefix_oracle import Oracle
from published_templates import TODAY, Published, open_both_ways, save_tokenizer
from told_turns import Place, Told

from sftprep.batches.both_ways import BothWays
from sftprep.errors import SftprepError
from sftprep.records.conversation import parse_conversation


@dataclass(frozen=True, slots=True)
class Outcome:
    """One template over one kind of conversation."""

    template: str
    kind: str
    verdict: str  # equal, equal as far as it can be told, refused by both; anything else is a difference
    detail: str = ""

    @property
    def is_difference(self) -> bool:
        return not self.verdict.startswith(("equal", "refused by both"))


def outcomes(template: Published, words: str, kinds: Iterable[str]) -> Iterator[Outcome]:
    """What comes of a template and each of these kinds. words: the tokenizer.json that gives all but the added tokens."""
    names = (*template.controls, *template.plain)
    today = date.fromisoformat(TODAY)
    oracle = Oracle(template.source, template.special, template.ends, template.controls, names, today.strftime)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = save_tokenizer(template, words, Path(folder))
        try:
            both_ways = open_both_ways(Path(folder))
        except SftprepError as error:
            yield from (Outcome(template.name, kind, "template refused", str(error)) for kind in kinds)
            return
        for kind in kinds:
            told = oracle.tell(KINDS[kind])
            try:
                given = ids_and_mask(both_ways, KINDS[kind])
            except SftprepError as error:
                both = "refused by both" if told is None else "refused by sftprep"
                yield Outcome(template.name, kind, both, str(error))
                continue
            if told is None:
                yield Outcome(template.name, kind, "refused by Transformers")
                continue
            ids, mask = given
            encoding = tokenizer.encode(told.text, add_special_tokens=False)
            if encoding.ids == ids:
                yield Outcome(template.name, kind, *compare(told, encoding.offsets, mask))
                continue
            texts = (tokenizer.decode(ids, skip_special_tokens=False), told.text)
            shown = "\n  sftprep {!r}\n  oracle  {!r}".format(*texts)
            yield Outcome(template.name, kind, "other ids", f"[{told.form}] {shown}")


def ids_and_mask(both_ways: BothWays, record: Record) -> tuple[list[int], list[bool]]:
    """Ids and mask, by Jinja, by what was recorded of it, and by characters: the same each time. Raises SftprepError."""
    conversation = parse_conversation(json.dumps(record).encode())
    exact = both_ways._exact.mask([conversation])
    masked = both_ways.mask([conversation] * 3, range(3))  # the third time from the recording, where there is one
    for reason in (*exact.failed.values(), *masked.failed.values()):
        raise SftprepError(reason)
    assert isinstance(masked.mask, np.ndarray)
    ids, mask = np.split(masked.batch.ids, 3), np.split(masked.mask, 3)
    assert all(np.array_equal(each, exact.batch.ids) for each in ids)
    assert all(np.array_equal(each, exact.mask) for each in mask)
    return ids[2].tolist(), mask[2].tolist()


def compare(told: Told, offsets: list[Place], mask: list[bool]) -> tuple[str, str]:
    """(verdict, detail) on a mask over tokens at these places of the text that the oracle knows."""
    form, shown = f"[{told.form}] " * bool(told.form), f"\n  {marked(told.text, offsets, mask)}"
    if told.unknown:
        unsure = [f"\n  message {message}: {why}" for message, why in told.unknown.items()]
        faults = told.faults(offsets, mask)
        verdict = "a fault where it cannot all be told" if faults else "equal as far as it can be told"
        return verdict, form + ", ".join(faults) + "".join(unsure) + shown
    expected = told.expected(offsets)
    trained = [want is False and have for want, have in zip(expected, mask, strict=True)]
    untrained = [want is True and not have for want, have in zip(expected, mask, strict=True)]
    if not any(trained) and not any(untrained):
        return "equal", form + " and ".join(sorted({turn.how for turn in told.turns}))
    sides = [f"+{piece!r}" for piece in _pieces(told.text, offsets, trained)]
    sides += [f"-{piece!r}" for piece in _pieces(told.text, offsets, untrained)]
    return " and ".join(sorted(_faults(told, offsets, mask, trained, untrained))), form + " ".join(sides) + shown


def _faults(told: Told, offsets: list[Place], mask: list[bool], trained: list[bool], untrained: list[bool]) -> set[str]:
    """In words, what the tokens trained by sftprep alone, and those untrained by it alone, are of a turn."""
    faults, starts = set(), {turn.start for turn in (*told.turns, *told.silent)}
    for at, (begin, end) in enumerate(offsets):
        if untrained[at]:
            ends = any(turn.start <= begin and end == turn.stop == turn.blank for turn in told.turns)
            faults.add("an end is not trained" if ends else "a part of a turn is not trained")
        elif trained[at]:
            first = next(i for i in range(at, -1, -1) if i == 0 or not trained[i - 1])  # of those trained in a row
            last = next(i for i in range(at, len(mask)) if i + 1 == len(mask) or not trained[i + 1])
            if any(begin < turn.stop and turn.start < end for turn in told.silent):
                faults.add("a silent turn is trained")
            elif offsets[last][1] in starts or any(begin < turn.start <= offsets[last][1] for turn in told.silent):
                between = first > 0 and mask[first - 1]
                faults.add("text between turns is trained" if between else "a header is trained")
            else:
                faults.add("text of no turn is trained")
    return faults


def _pieces(text: str, offsets: list[Place], chosen: list[bool]) -> list[str]:
    """The text of the chosen tokens, those that follow one another together."""
    found: list[Place] = []
    for at, ((begin, end), on) in enumerate(zip(offsets, chosen, strict=True)):
        if on and at and chosen[at - 1]:
            found[-1] = (found[-1][0], end)
        elif on:
            found.append((begin, end))
    return [text[begin:end] for begin, end in found]


def marked(text: str, offsets: list[Place], mask: list[bool]) -> str:
    """The text with what is trained between ⟦ and ⟧."""
    shown, last = "", False
    for at, character in enumerate(text):
        on = any(trained and begin <= at < end for (begin, end), trained in zip(offsets, mask, strict=True))
        if on != last:
            shown += "⟦" if on else "⟧"
            last = on
        shown += character
    return repr(shown + "⟧" * last)
