"""Bad lines among good ones cost themselves, and nothing else."""

from __future__ import annotations

import json
import random
from pathlib import Path

import numpy as np
import pytest
from small_builds import build, load, rejects

from sftprep.containers.files import find_sources
from sftprep.containers.record import Selection
from sftprep.containers.splits import plan_splits, read_records

LIMIT = 600  # bytes of a record
USER, SAID = {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}


def line(*messages: object, **more: object) -> bytes:
    return json.dumps({"messages": [*messages], **more}).encode()


GOOD = line(USER, SAID)
BAD = {
    "text": b"hello",
    "a number": b"17",
    "a string": b'"messages"',
    "null": b"null",
    "an empty object": b"{}",
    "an empty array": b"[]",
    "an array of numbers": b"[1, 2]",
    "cut off in a string": GOOD[:30],
    "cut off between tokens": GOOD[:14],
    "cut off before the end": GOOD[:-1],
    "a brace too many": GOOD + b"}",
    "two objects": GOOD + GOOD,
    "a bracket for a brace": GOOD[:-1] + b"]",
    "no quotes": b"{messages: []}",
    "Python's quotes": str(json.loads(GOOD)).encode(),
    "a trailing comma": GOOD[:-1] + b",}",
    "bytes that are not UTF-8": GOOD.replace(b'"a"', b'"\xff"'),
    "half a character": GOOD.replace(b'"a"', b'"\xc3"'),
    "a lone surrogate": line(USER, {"role": "assistant", "content": "\ud83d"}),
    "a control character": GOOD.replace(b'"a"', b'"\0"'),
    "a bad escape": GOOD.replace(b'"a"', b'"\\x"'),
    "zeros": bytes(40),
    "no messages": line(),
    "messages that are no list": b'{"messages": 5}',
    "a message that is none": line(5),
    "an unknown role": line(USER, {"role": "someone at all", "content": "x"}),
    "no content": line(USER, {"role": "assistant"}),
    "a content that is a number": line(USER, {"role": "assistant", "content": 5}),
    "a weight that is text": line(USER, {**SAID, "weight": "much"}),
    "too long": line(USER, SAID, more="x" * LIMIT),
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_line_is_one_record_wherever_it_stands(tmp_path: Path, name: str) -> None:
    """The first line, too, by which it is told how the file lies."""
    path = tmp_path / "x.jsonl"
    path.write_bytes(b"\n".join([BAD[name], GOOD, BAD[name], GOOD, GOOD]))
    selection = Selection(LIMIT)
    infos, splits = plan_splits(find_sources([str(path)]).sources, selection=selection)
    records = [record for split in splits for record in read_records(split, infos, selection)]
    assert [record.line for record in records] == [1, 2, 3, 4, 5]
    assert [record.data == GOOD for record in records] == [False, True, False, True, True]


def test_a_thousand_bad_lines_of_all_kinds_change_nothing_else(tmp_path: Path) -> None:
    assert len(BAD) == 30
    good = [line({"role": "user", "content": str(number)}, SAID) for number in range(100_000)]
    (tmp_path / "clean.jsonl").write_bytes(b"\n".join(good))
    places = random.Random(7).sample(range(101_000), 1000)
    kinds = dict(zip(places, [*BAD.values()] * 34, strict=False))
    rest = iter(good)
    (tmp_path / "strewn.jsonl").write_bytes(
        b"\n".join(kinds[at] if at in kinds else next(rest) for at in range(101_000))
    )
    totals = {}
    for name in ("clean", "strewn"):
        source = str(tmp_path / f"{name}.jsonl")
        manifest = build(tmp_path / name, source, max_length=24, max_record_bytes=LIMIT, workers=2)
        totals[name] = (manifest.totals["rows"], manifest.totals["rejected"])
    assert totals == {"clean": (100_000, 0), "strewn": (100_000, 1000)}
    found = rejects(tmp_path / "strewn")
    assert [each["line"] for each in found] == [at + 1 for at in sorted(places)]
    for kind in ("X", "Y", "mask"):
        assert np.array_equal(load(tmp_path / "clean", kind), load(tmp_path / "strewn", kind))
