"""Keys that are not read are counted, some of them by name."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from sftprep.unread import MOST_CHARACTERS, MOST_NAMES, OTHERS, Unread, count


def test_names_are_few_and_short() -> None:
    whole = Unread({"first": 1})
    whole.add(Unread({f"key {number}": 2 for number in range(1000)}, {"x" * 500: 1, "x" * 600: 1, "\ud800\n": 1}))
    assert len(whole.records) == MOST_NAMES + 1
    assert whole.records[OTHERS] == 2 * (1000 - MOST_NAMES + 1)
    assert whole.messages == {"x" * MOST_CHARACTERS: 2, "\\ud800\n": 1}


@given(st.lists(st.lists(st.integers(0, 3 * MOST_NAMES).map(str)), max_size=6), st.integers(1, 4))
def test_it_is_all_one_in_how_many_parts_they_come(records: list[list[str]], size: int) -> None:
    found = []
    for step in (1, size, len(records) + 1):
        whole = Unread()
        for start in range(0, len(records), step):
            part = Unread()
            for names in records[start : start + step]:
                count(part.records, names)
            whole.add(part)
        found.append(list(whole.records.items()))
    assert found[0] == found[1] == found[2]
