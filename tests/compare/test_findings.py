"""What is shown of a difference, and how differences are counted."""

from __future__ import annotations

import numpy as np

from sftprep.compare.examples import Example
from sftprep.compare.findings import BEFORE, BEHIND, Comparison, Difference, Tally, alone, shown


def example(ids: list[int], trained: list[float], **more: object) -> Example:
    return Example(np.array(ids), np.array(trained), "a.jsonl", 7, **more)  # type: ignore[arg-type]


def test_ids_from_the_first_that_differs() -> None:
    """A token more in B: what follows is the same again."""
    a, b = [1, 2, 3, 4, 5], [1, 2, 9, 3, 4, 5]
    found = shown(example(a, [0, 0, 1, 1, 1]), example(b, [0, 0, 0, 1, 1, 1]))
    assert found.at == 2
    assert found.a is not None
    assert found.b is not None
    assert (found.a.ids, found.b.ids) == (tuple(a), tuple(b))
    assert (found.a.differs, found.b.differs) == ((False,) * 5, (False, False, True, False, False, False))
    assert (found.a.place, found.a.trained_tokens, found.b.trained_tokens) == ("a.jsonl:7", 3, 3)


def test_masks_wherever_they_differ() -> None:
    found = shown(example([1, 2, 3, 4], [0, 1, 1, 1]), example([1, 2, 3, 4], [0, 1, 0, 0.5]))
    assert found.at == 2
    assert found.a is not None
    assert found.b is not None
    assert found.a.differs == found.b.differs == (False, False, True, True)
    assert (found.a.trained, found.b.trained) == ((False, True, True, True), (False, True, False, True))


def test_one_is_the_beginning_of_the_other() -> None:
    found = shown(example([1, 2], [0, 1]), example([1, 2, 3, 4], [0, 1, 1, 1]))
    assert found.at == 2
    assert found.a is not None
    assert found.b is not None
    assert (found.a.differs, found.b.differs) == ((False, False), (False, False, True, True))


def test_a_window_of_a_long_one() -> None:
    ids = list(range(100))
    other = [*ids[:50], -1, *ids[51:]]
    found = shown(example(ids, [0] * 100), example(other, [0] * 100, masked=False))
    assert found.a is not None
    assert found.b is not None
    assert (found.a.first, len(found.a.ids)) == (50 - BEFORE, BEFORE + BEHIND)
    assert np.flatnonzero(found.a.differs).tolist() == [BEFORE]
    assert (found.a.trained_tokens, found.b.trained_tokens) == (0, None)
    assert alone(example(ids, [0] * 100)).ids == tuple(range(BEHIND))


def test_counts_and_first_examples() -> None:
    both = [Tally({"x": "an x", "y": "a y", "z": "a z"}, meant=["y"], few=2) for _ in range(2)]
    for number in range(3):
        both[0].add("x", lambda number=number: Difference(None, None, number), tokens=2)  # type: ignore[misc]
    both[1].add("x", lambda: Difference(None, None, 9))
    both[1].add("y", lambda: Difference(None, None, 5))
    both[0].join(both[1])
    kinds = both[0].found()
    assert [(kind.name, kind.count, kind.tokens) for kind in kinds] == [("x", 4, 6), ("y", 1, 0)]
    assert [[each.at for each in kind.examples] for kind in kinds] == [[0, 1], [5]]
    assert Comparison("a", "b", kinds=kinds).differs
    assert not Comparison("a", "b", kinds=kinds[1:]).differs
