"""A dataset of several sources and groups, some of it cut off, dropped, rejected; and the same records, whole."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from small_builds import CONVERSATIONS, GOOD, build, write

LENGTH = 120
KINDS = ("web", "book", "", "code")


@dataclass(frozen=True)
class Mixed:
    """Two builds of the same two files."""

    folder: Path
    whole: Path  # nothing is cut off
    records: dict[tuple[str, int], Any]  # by source and line


def mixed(folder: Path) -> Mixed:
    """Build it."""
    said = [json.loads(line) for line in CONVERSATIONS.read_bytes().splitlines()]
    records = [{**record, "kind": KINDS[number % 3]} for number, record in enumerate(said)]
    long = {"messages": [{"role": "user", "content": "Why? " * 200}, GOOD["messages"][1]], "kind": "code"}
    mute = {"messages": GOOD["messages"][:1], "kind": "book"}
    first = [*records[:50], long, {"messages": [], "kind": "web"}, mute]
    second = [*records[50:], long, b"{broken", {**GOOD, "kind": "code"}]
    paths = [write(folder / name, *each) for name, each in (("a.jsonl", first), ("b.jsonl", second))]
    for name, options in (("out", {"max_length": LENGTH}), ("whole", {"max_length": 4000, "keep_untrained": True})):
        build(folder / name, *paths, by="kind", validation="20%", **options)
    lines = {"a.jsonl": first, "b.jsonl": second}
    found = {(name, number): record for name, each in lines.items() for number, record in enumerate(each, 1)}
    return Mixed(folder / "out", folder / "whole", found)
