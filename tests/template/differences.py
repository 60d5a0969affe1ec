"""sftprep's ids and masks beside the oracle's: one template, one kind of conversation at a time."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer

from sftprep.batches.both_ways import BothWays
from sftprep.errors import SftprepError
from sftprep.records.conversation import parse_conversation
from tests.template.kinds_of_conversation import KINDS, Record
from tests.template.prefix_oracle import Oracle, Told
from tests.template.shared_templates import TODAY, Published, open_both_ways, save_tokenizer


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


def outcomes(template: Published, shared_data: Path, kinds: Iterable[str]) -> Iterator[Outcome]:
    """What comes of a template and each of these kinds."""
    names = (*template.controls, *template.plain)
    today = date.fromisoformat(TODAY)
    oracle = Oracle(template.source, template.special, template.ends, template.controls, names, today.strftime)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer = save_tokenizer(template, shared_data, Path(folder))
        try:
            both_ways = open_both_ways(Path(folder))
        except SftprepError as error:
            yield from (Outcome(template.name, kind, "template refused", str(error)) for kind in kinds)
            return
        for kind in kinds:
            told = oracle.tell(KINDS[kind])
            try:
                given = _given(both_ways, KINDS[kind])
            except SftprepError as error:
                both = "refused by both" if told is None else "refused by sftprep"
                yield Outcome(template.name, kind, both, str(error))
                continue
            if told is None:
                yield Outcome(template.name, kind, "refused by Transformers")
                continue
            yield Outcome(template.name, kind, *_compared(tokenizer, told, *given))


def _given(both_ways: BothWays, record: Record) -> tuple[list[int], list[bool]]:
    """Ids and mask, by Jinja, by what was recorded of it, and by characters: the same each time. Raises SftprepError."""
    conversation = parse_conversation(json.dumps(record).encode())
    exact = both_ways._exactly([conversation])
    masked = both_ways.mask([conversation] * 3, range(3))  # the third time from the recording, where there is one
    for reason in (*exact.failed.values(), *masked.failed.values()):
        raise SftprepError(reason)
    assert isinstance(masked.mask, np.ndarray)
    ids, mask = np.split(masked.batch.ids, 3), np.split(masked.mask, 3)
    assert all(np.array_equal(each, exact.batch.ids) for each in ids)
    assert all(np.array_equal(each, exact.mask) for each in mask)
    return ids[2].tolist(), mask[2].tolist()


def _compared(tokenizer: Tokenizer, told: Told, ids: list[int], mask: list[bool]) -> tuple[str, str]:
    """(verdict, detail)."""
    encoding = tokenizer.encode(told.text, add_special_tokens=False)
    form = f" [{told.form}]" if told.form else ""
    if encoding.ids != ids:
        return "other ids", f"{form}\n  sftprep {tokenizer.decode(ids, skip_special_tokens=False)!r}\n  oracle  {told.text!r}"
    unsure = "".join(f"\n  message {message}: {why}" for message, why in told.unknown.items())
    if unsure:
        faults = told.faults(encoding.offsets, mask)
        shown = unsure + "".join(f"\n  {fault}" for fault in faults) + "\n  sftprep " + marked(told.text, encoding.offsets, mask)
        return ("a fault" if faults else "equal as far as it can be told"), form + shown
    expected = told.expected(encoding.offsets)
    if all(want in (None, have) for want, have in zip(expected, mask, strict=True)):
        return "equal", form + " ".join(sorted({turn.how for turn in told.turns}))
    sides = []
    for sign, trained in (("+", True), ("-", False)):  # by sftprep alone, by the oracle alone
        wrong = [want is not None and want != have == trained for want, have in zip(expected, mask, strict=True)]
        sides += [f"{sign}{piece!r}" for piece in _pieces(told.text, encoding.offsets, wrong)]
    return "other mask", f"{form}{' '.join(sides)}\n  {marked(told.text, encoding.offsets, mask)}"


def _pieces(text: str, offsets: list[tuple[int, int]], chosen: list[bool]) -> list[str]:
    """The text of the chosen tokens, those that follow one another together."""
    found: list[tuple[int, int]] = []
    for at, ((begin, end), on) in enumerate(zip(offsets, chosen, strict=True)):
        if on and at and chosen[at - 1]:
            found[-1] = (found[-1][0], end)
        elif on:
            found.append((begin, end))
    return [text[begin:end] for begin, end in found]


def marked(text: str, offsets: list[tuple[int, int]], mask: list[bool]) -> str:
    """The text with what is trained between ⟦ and ⟧."""
    shown, last = "", False
    for at, character in enumerate(text):
        on = any(trained and begin <= at < end for (begin, end), trained in zip(offsets, mask, strict=True))
        if on != last:
            shown += "⟦" if on else "⟧"
            last = on
        shown += character
    return repr(shown + "⟧" * last)
