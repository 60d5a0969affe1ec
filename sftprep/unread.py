"""Keys that are not read, by name and number: what a record said and nobody looked at."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sftprep.checksum import Count

MOST_NAMES, MOST_CHARACTERS = 100, 40  # names that are kept, and characters of one
OTHERS = "(others)"  # what further names are counted as


@dataclass(slots=True)
class Unread:
    """How many records, and how many messages, have each key that sftprep does not read."""

    records: dict[str, Count] = field(default_factory=dict)  # ignored
    messages: dict[str, Count] = field(default_factory=dict)  # passed on to the chat template, which may read them

    def add(self, other: Unread) -> None:
        """Add another's. Of names, the first MOST_NAMES that come are kept, so it is all one in how many parts they come
        if only this one was added to before."""
        for counts, more in ((self.records, other.records), (self.messages, other.messages)):
            for name, count in more.items():
                kept = _shown(name)
                if kept not in counts and len(counts) >= MOST_NAMES:
                    kept = OTHERS
                counts[kept] = counts.get(kept, 0) + count


def count(counts: dict[str, int], names: Iterable[str]) -> None:
    """Count each name once more."""
    for name in names:
        counts[name] = counts.get(name, 0) + 1


def _shown(name: str) -> str:
    """A name of bounded length that any file can hold."""
    return name[:MOST_CHARACTERS].encode("utf-8", "backslashreplace").decode()
