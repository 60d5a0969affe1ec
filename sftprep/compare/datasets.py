"""Two datasets, by what their conversations are: not by the order of rows, nor by files, splits or dtypes.

Each conversation has a key of 16 bytes of its ids, of 8 of its mask, and what its record is known by. Partners are found
by the first of `_stages` in which they are equal; only of those that differ then are the rows read again.
Cost: both datasets are read once; some 50 bytes of memory a conversation.
"""

from __future__ import annotations

from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sftprep.compare.examples import Examples
from sftprep.compare.findings import FEW, Advance, Comparison, Difference, Tally, alone, first_difference, shown
from sftprep.compare.kinds import Begin
from sftprep.compare.matching import Codes, Matched, codes, match, together
from sftprep.compare.settings import changed_options, changed_totals
from sftprep.dataset.manifest import SETS, Manifest

_OTHER_TOKENIZER = "another tokenizer: ids stand for other text, so that few conversations can be the same"
KINDS = {
    "ids": "other ids",
    "mask": "the same ids, another mask",
    "truncated": "cut off at another place",
    "set": "in another set",
    "only_a": "only in A",
    "only_b": "only in B",
}


class _Keys(NamedTuple):
    """What the conversations of a dataset are known by, (S,) each."""

    ids: npt.NDArray[np.bytes_]  # S16
    mask: npt.NDArray[np.bytes_]  # S8
    set: npt.NDArray[np.int64]
    record: npt.NDArray[np.int64]
    file: npt.NDArray[np.uint64]  # of the record: its input's name and bytes
    offset: npt.NDArray[np.int64]


def compare_datasets(
    a: Path,
    b: Path,
    begin: Begin = lambda step, total, unit: None,
    advance: Advance = lambda count: None,
    few: int = FEW,
) -> Comparison:
    """What differs between two datasets. few: examples of each kind. Raises DatasetError where one is none, or damaged."""
    sides = Examples(a), Examples(b)
    begin("reading both datasets", sum(map(len, sides)), "conversations")
    keys = [_keys_of(side, advance) for side in sides]
    coded = {name: codes(*(getattr(each, name) for each in keys)) for name in _Keys._fields}
    matched = match(_stages(coded))
    tally = Tally(KINDS, few=few)
    same = np.logical_and.reduce(
        [coded[name][0][matched.a] == coded[name][1][matched.b] for name in ("ids", "mask", "set")]
    )
    tally.equal = int(np.count_nonzero(same))
    begin("looking at those that differ", int(np.count_nonzero(~same)), "conversations")
    for number_a, number_b in zip(matched.a[~same].tolist(), matched.b[~same].tolist(), strict=True):
        _judge(tally, *sides, number_a, number_b)
        advance(1)
    _one_sided(tally, *sides, matched)
    manifests = [side.manifest for side in sides]
    return Comparison(
        str(a),
        str(b),
        changed_options(*manifests),
        changed_totals(*manifests),
        len(matched.a) + len(matched.only_a) + len(matched.only_b),
        tally.equal,
        tally.found(),
        [_OTHER_TOKENIZER] if len({str(each.tokenizer.get("sha256")) for each in manifests}) > 1 else [],
    )


def _stages(coded: dict[str, Codes]) -> list[Codes]:
    """From equal in all, to the same record."""
    ids, mask, of, record = (coded[name] for name in ("ids", "mask", "set", "record"))
    same = together(ids, mask)
    in_set = together(same, of)
    place = together(coded["file"], coded["offset"])
    return [together(in_set, record), in_set, together(same, record), same, together(ids, record), ids, record, place]


def _judge(tally: Tally, a: Examples, b: Examples, number_a: int, number_b: int) -> None:
    """Count partners that differ, as one kind."""
    (ids_a, weights_a), (ids_b, weights_b) = a.arrays_of(number_a), b.arrays_of(number_b)

    def make() -> Difference:
        return shown(a[number_a], b[number_b])

    if first_difference(ids_a, ids_b) is not None:
        tally.add("ids", make)
    elif first_difference(weights_a, weights_b) is not None:
        tally.add("mask", make)
    elif len(ids_a) == len(ids_b):
        tally.add("set", lambda: Difference(alone(a[number_a]), alone(b[number_b])))
    else:
        shorter = a[number_a] if len(ids_a) < len(ids_b) else b[number_b]
        tally.add("truncated" if shorter.truncated else "ids", make)


def _one_sided(tally: Tally, a: Examples, b: Examples, matched: Matched) -> None:
    for number in matched.only_a.tolist():
        tally.add("only_a", lambda number=number: Difference(alone(a[number]), None))  # type: ignore[misc]
    for number in matched.only_b.tolist():
        tally.add("only_b", lambda number=number: Difference(None, alone(b[number])))  # type: ignore[misc]


def _keys_of(side: Examples, advance: Advance) -> _Keys:
    count = len(side)
    ids, mask = np.empty(count, "S16"), np.empty(count, "S8")
    numbers: dict[str, npt.NDArray[Any]] = {name: np.empty(count, np.int64) for name in ("set", "record", "offset")}
    file, files, names = np.empty(count, np.uint64), _files(side.manifest), list(SETS)
    for part in side.parts():
        flat, weights = part.ids.astype("<u4"), part.weights.astype("<f4")
        bounds = part.offsets.tolist()
        for number, begin, end in zip(part.numbers, bounds, bounds[1:], strict=False):
            ids[number] = _digest(flat[begin:end], 16)
            mask[number] = _digest(weights[begin:end], 8)
        here = slice(part.numbers.start, part.numbers.stop)
        origins = side.origins(side.locate(part.numbers.start)[0])
        numbers["set"][here] = names.index(part.shard.set)
        numbers["record"][here] = origins["record_key"][part.within]
        numbers["offset"][here] = origins["byte_offset"][part.within]
        file[here] = [files.get(name, 0) for name in origins["source"][part.within]]
        advance(len(part.numbers))
    return _Keys(ids, mask, file=file, **numbers)


def _digest(values: npt.NDArray[Any], size: int) -> bytes:
    return blake2b(values.data, digest_size=size).digest()


def _files(manifest: Manifest) -> dict[str, int]:
    """A number for each input, the same where name and bytes are."""
    return {
        each.name: int.from_bytes(blake2b(f"{each.sha256} {each.name}".encode(), digest_size=8).digest())
        for each in manifest.inputs
    }
