"""Which conversations a page shows, against a plain sort of all of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sftprep.pages.telling import FEATURES, OF_EACH, SHOWN, TAGS, Chooser, Telling

ROWS = st.tuples(
    st.integers(1, 40), st.integers(0, 40), st.integers(-(2**63), 2**63 - 1), *[st.booleans()] * len(FEATURES)
)


def origins(rows: list[Any]) -> dict[str, Any]:
    tokens, trained, key, *flags = zip(*rows, strict=True) if rows else ((), (), (), *[()] * len(FEATURES))
    columns = {"tokens": tokens, "tokens_in_all": tokens, "trained_tokens": np.minimum(trained, tokens)}
    bools = {name: np.array(flag, np.bool_) for name, flag in zip(FEATURES.values(), flags, strict=True)}
    return {name: np.array(each, np.int64) for name, each in columns.items()} | {
        "record_key": np.array(key, np.int64),
        **bools,
    }


def choose(shards: list[list[Any]]) -> list[Telling]:
    chooser = Chooser()
    for rows in shards:
        chooser.add(origins(rows))
    return chooser.chosen()


@given(st.lists(st.lists(ROWS, max_size=40), max_size=4))
def test_the_extremes_and_some_of_each_kind_are_among_them(shards: list[list[Any]]) -> None:
    rows = [(shard, at, *row) for shard, some in enumerate(shards) for at, row in enumerate(some)]
    chosen = {(each.shard, each.segment): each.tags for each in choose(shards)}
    assert len(chosen) == min(len(rows), SHOWN)
    lengths = sorted((row[2] for row in rows), reverse=True)
    for tag, expected in (("longest", lengths[:OF_EACH]), ("shortest", lengths[::-1][:OF_EACH])):
        found = [shards[shard][at][0] for (shard, at), tags in chosen.items() if tag in tags]
        assert sorted(found) == sorted(expected)
    for number, tag in enumerate(FEATURES):
        having = [row for row in rows if row[5 + number]]
        found = [place for place, tags in chosen.items() if tag in tags]
        assert all(shards[shard][at][3 + number] for shard, at in found)
        assert len(found) >= min(len(having), OF_EACH)
    assert all(tags and {*tags} <= {*TAGS} and ("any" not in tags or len(tags) == 1) for tags in chosen.values())


def test_what_stands_out_comes_first_and_is_the_same_every_time() -> None:
    rows = [(length, 1, length * 7919 % 1000, *[False] * len(FEATURES)) for length in range(1, 201)]
    first, again = choose([rows[:100], rows[100:]]), choose([rows[:100], rows[100:]])
    assert first == again
    assert [(each.shard, each.segment) for each in first[:OF_EACH]] == [(1, at) for at in (99, 98, 97, 96, 95)]
    assert first[0].tags == ("longest", "least trained")
    assert len(first) == SHOWN


@pytest.mark.parametrize("shards", [[], [[]]])
def test_nothing_gives_nothing(shards: list[list[Any]]) -> None:
    assert choose(shards) == []
