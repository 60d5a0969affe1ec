"""Segments counted by code, as one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.dataset.rejects import ReasonCount
from sftprep.statistics.measures import COUNTED, FEATURES, Measures, measure

KINDS = {name: st.booleans() for name in ("first", "truncated", *FEATURES)}
SEGMENT = st.fixed_dictionaries(
    {"code": st.integers(0, 3), "turns": st.integers(0, 5), **KINDS}
    | dict.fromkeys(("tokens", "trained_tokens", "tokens_in_all"), st.integers(0, 2**31 - 1))
)


def measured(segments: list[dict[str, Any]]) -> list[Measures]:
    columns = {
        name: np.array([each[name] for each in segments], np.int32) for name in (*COUNTED, "tokens_in_all", "turns")
    }
    firsts = np.array([each["first"] for each in segments], np.bool_)
    return measure(columns, firsts, np.array([each["code"] for each in segments], np.int32), 4)


@given(st.lists(SEGMENT, max_size=25))
def test_as_one_by_one(segments: list[dict[str, Any]]) -> None:
    for code, found in enumerate(measured(segments)):
        own = [each for each in segments if each["code"] == code]
        assert (found.examples, found.conversations) == (len(own), sum(each["first"] for each in own))
        for name in COUNTED:
            assert getattr(found, name) == sum(each[name] for each in own)
        assert found.lengths.total == sum(each["tokens_in_all"] for each in own)
        assert found.turns.total == sum(each["turns"] for each in own)
    together, apart = Measures.joined(measured(segments)), measured([{**each, "code": 0} for each in segments])[0]
    for name in ("examples", "conversations", *COUNTED):
        assert getattr(together, name) == getattr(apart, name)
    assert together.lengths.counts.tolist() == apart.lengths.counts.tolist()


def test_what_is_lost_is_added_up() -> None:
    first, other = ReasonCount("dropped", "longer than 7", 2, "a:1"), ReasonCount("dropped", "longer than 8", 3, "b:1")
    rejected = ReasonCount("rejected", "no messages", 1, "a:9")
    found = Measures.joined([Measures(lost=(first, rejected)), Measures(lost=(other,))])
    assert found.lost == (ReasonCount("dropped", "longer than 7", 5, "a:1"), rejected)
    assert (found.lost_as("dropped"), found.lost_as("dropped", "rejected"), found.lost_as("duplicate")) == (5, 6, 0)


def test_trained_share() -> None:
    assert Measures(tokens=8, trained_tokens=2).trained_share == pytest.approx(0.25)
    assert Measures().trained_share == 0
